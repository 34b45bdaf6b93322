"""Okta's own Python SDK as a client of both samples: it gets the answers that it expects of Okta."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from sample_flask.playground import SAMPLES, Playground, gunicorn
from tokenguard import Conditions, Issuer

from .samples import issuer_on

EVERYTHING = "okta.users.manage okta.groups.read okta.apiTokens.manage"
NEW = {"firstName": "Wanda", "lastName": "Zimmer", "email": "wanda@example.com", "login": "wanda@example.com"}


@cache
def sdk() -> Any:
    """Import the SDK only where these tests run, since its hundreds of models take seconds to load."""
    with warnings.catch_warnings():
        # Its warnings about its own code and its models are not ours to fix.
        warnings.simplefilter("ignore")
        import okta.client
        import okta.errors.okta_api_error
        import okta.models
    return okta


def model(name: str, /, **members: Any) -> Any:
    """Return one of the SDK's models."""
    return getattr(sdk().models, name)(**members)


@dataclass
class Org:
    """A sample under gunicorn, as an Okta org, and the granting side of its store."""

    url: str
    issuer: Issuer
    log: list[str]

    def issue(self, granted: str = EVERYTHING, **more: Any) -> str:
        return self.issuer.issue("acme-sync", granted, actor="tests", **more).text.reveal()

    def client(self, text: str, retries: int = 0) -> Any:
        config = {
            "orgUrl": self.url,
            "token": text,
            "authorizationMode": "SSWS",
            "rateLimit": {"maxRetries": retries},
        }
        return sdk().client.Client(config)


@pytest.fixture(scope="module", params=SAMPLES)
def org(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Org]:
    playground = Playground(tmp_path_factory.mktemp("org"), SAMPLES[request.param])
    playground.settings["TOKENGUARD_STALENESS"] = "0"
    playground.run(*playground.sample.tables)
    with issuer_on(playground) as issuer, gunicorn(playground.sample.app, playground.environ, workers=1) as serving:
        issuer.register("acme-sync", EVERYTHING, actor="tests")
        yield Org(serving.url, issuer, serving.log)


@pytest.fixture(autouse=True)
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKTA_TESTING_TESTINGDISABLEHTTPSCHECK", "true")
    logging.getLogger("okta-sdk-python").setLevel(logging.CRITICAL)


def wait_for(call: Awaitable[Any]) -> Any:
    async def run() -> Any:
        return await call

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.run(run())


def done(call: Awaitable[Any]) -> Any:
    """Return the data of a call that succeeds, with its status and headers."""
    data, response, error = wait_for(call)
    assert error is None, error
    return data, response


def refused(call: Awaitable[Any]) -> Any:
    """Return the error of a call that fails, which must be one that the SDK could read."""
    error = wait_for(call)[-1]
    assert type(error) is sdk().errors.okta_api_error.OktaAPIError, error
    return error


class TestDirectory:
    def test_users_are_listed_page_by_page(self, org: Org) -> None:
        client, after, seen = org.client(org.issue("okta.users.read")), None, []
        while True:
            users, response = done(client.list_users(limit=120, after=after))
            seen += [user.id for user in users]
            link = response.headers["Link"]
            if 'rel="next"' not in link:
                break
            after = link.partition('rel="self"')[2].partition("after=")[2].partition("&")[0]
        assert len(seen) == len(set(seen)) == 300

    def test_a_users_whole_life(self, org: Org) -> None:
        client = org.client(org.issue())
        made, response = done(client.create_user(model("CreateUserRequest", profile=model("UserProfile", **NEW))))
        assert (response.status_code, made.status, made.profile.first_name) == (200, "ACTIVE", "Wanda")
        got, _ = done(client.get_user(made.id))
        assert (got.id, got.profile.login) == (made.id, "wanda@example.com")
        changed, _ = done(client.update_user(made.id, model("UpdateUserRequest", profile={"title": "Countess"})))
        assert (changed.profile.title, changed.profile.first_name) == ("Countess", "Wanda")
        assert wait_for(client.deactivate_user(made.id))[-1] is None
        again, _ = done(client.get_user(made.id))
        assert again.status == "DEPROVISIONED"
        assert wait_for(client.delete_user(made.id))[-1] is None
        missing = refused(client.get_user(made.id))
        assert (missing.status, missing.error_code) == (404, "E0000007")
        taken = model("CreateUserRequest", profile=model("UserProfile", **{**NEW, "login": "ada.abbott@example.com"}))
        invalid = refused(client.create_user(taken))
        assert (invalid.status, invalid.error_code) == (400, "E0000001")

    def test_groups_are_listed(self, org: Org) -> None:
        groups, _ = done(org.client(org.issue("okta.groups.read")).list_groups())
        assert len(groups) == 12
        assert "Accounting" in {group.profile.to_dict()["name"] for group in groups}


class TestTokens:
    def test_they_are_listed_got_changed_and_revoked(self, org: Org) -> None:
        text, doomed = org.issue(name="manager"), org.issue("okta.users.read", name="doomed", idle_timeout=30 * 86_400)
        client, doomed_id = org.client(text), doomed.split("_")[1]
        listed, _ = done(client.list_api_tokens())
        assert {text.split("_")[1], doomed_id} <= {token.id for token in listed}
        token, _ = done(client.get_api_token(doomed_id))
        assert (token.name, token.client_name, token.token_window) == ("doomed", "acme-sync", "P30D")
        assert token.network.connection == "ANYWHERE"
        assert token.expires_at > token.created
        network = model("ApiTokenNetwork", connection="ZONE", include=["127.0.0.0/8"])
        changed, _ = done(client.upsert_api_token(doomed_id, model("ApiTokenUpdate", name="doomed", network=network)))
        assert changed.network.include == ["127.0.0.0/8"]
        done(org.client(doomed).list_users(limit=1))
        assert wait_for(client.revoke_api_token(doomed_id))[-1] is None
        gone = refused(client.get_api_token(doomed_id))
        assert (gone.status, gone.error_code) == (404, "E0000007")
        assert gone.error_summary == f"Not found: Resource not found: {doomed_id} (Token)"
        assert refused(org.client(doomed).list_users()).error_code == "E0000011"

    def test_the_current_one_is_revoked_by_itself(self, org: Org) -> None:
        client = org.client(org.issue("okta.groups.read"))
        assert wait_for(client.revoke_current_api_token())[-1] is None
        error = refused(client.list_groups())
        assert (error.status, error.error_code) == (401, "E0000011")


class TestRefusals:
    def test_garbage(self, org: Org) -> None:
        error = refused(org.client("garbage").list_users())
        assert (error.status, error.error_code) == (401, "E0000011")

    def test_a_token_that_only_reads(self, org: Org) -> None:
        client = org.client(org.issue("okta.users.read"))
        done(client.list_users(limit=1))
        for call in (
            client.create_user(model("CreateUserRequest", profile=model("UserProfile", **NEW))),
            client.list_groups(),
            client.list_api_tokens(),
        ):
            error = refused(call)
            assert (error.status, error.error_code) == (403, "E0000006")

    def test_one_request_too_many(self, org: Org) -> None:
        client = org.client(org.issue("okta.users.read", conditions=Conditions.parse(rate="1/day")))
        done(client.list_users(limit=1))
        error = refused(client.list_users(limit=1))
        assert (error.status, error.error_code) == (429, "E0000047")

    def test_who_must_wait_waits_and_is_then_let_in(self, org: Org) -> None:
        """The SDK waits by itself, for as long as the answer says."""
        text = org.issue("okta.users.read", conditions=Conditions.parse(rate="1/second"))
        client = org.client(text, retries=2)

        async def several() -> list[Any]:
            # At the same time, so that at least one is too many.
            return await asyncio.gather(*(client.list_users(limit=1) for _ in range(2)))

        answers = wait_for(several())
        assert [error for *_, error in answers] == [None, None]
        assert [len(users) for users, *_ in answers] == [1, 1]
        over = f"rate_limited: over the token's limit of 1/second (token {text.split('_')[1]}"
        assert any(over in line for line in org.log)
