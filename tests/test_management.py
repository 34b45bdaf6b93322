"""Tokens managed over HTTP: the same in Flask and in Django, as the holder of a token sees it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from hashlib import sha256
from io import BytesIO, RawIOBase
from typing import Any
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import include, path, re_path
from flask import Flask, request

from tokenguard import (
    Conditions,
    ConfigurationError,
    Identity,
    InvalidValue,
    Issued,
    MemoryStore,
    StoreUnavailable,
    Token,
)
from tokenguard.clock import SECOND
from tokenguard.django import conf, management_urls
from tokenguard.django.introspection import introspection_view
from tokenguard.django.revocation import revoke_token as end_token
from tokenguard.flask import TokenGuard, introspection_blueprint, management_blueprint, revocation_blueprint
from tokenguard.foreign import register_client, revoke_token
from tokenguard.http import AuthScheme
from tokenguard.management import ROUTES, Call, Management, Rights
from tokenguard.management.bodies import NEW_TOKEN
from tokenguard.management.shape import read_duration, show_duration
from tokenguard.policy import Policy
from tokenguard.scopes import ScopeCatalog, Scopes
from tokenguard.sources import local_client_id, local_token_id
from tokenguard.store import NewUse

from .conftest import KEY, World
from .server import Answer

TOKENS = "/api/v1/api-tokens"
READ, MANAGE, ALL = "okta.apiTokens.read", "okta.apiTokens.manage", "okta.apiTokens.all"
CATALOG: dict[str, Any] = {
    "users.read": "Read users",
    "users.manage": {"description": "Change users", "implies": ["users.read"]},
    "groups.read": "Read groups",
    READ: "List the client's tokens",
    MANAGE: {"description": "Issue, change and revoke the client's tokens", "implies": [READ]},
    ALL: "The same of every client's tokens",
}
EVERYTHING = f"users.manage groups.read {MANAGE}"
DAY = 86_400
HIDDEN = re.compile(r"tg_[0-9A-Za-z]{16}_[0-9A-Za-z]{75}")
INSIDE = Conditions.parse(["10.0.0.0/8"])


class Fails(MemoryStore):
    """Can be made to fail in the calls that token management makes."""

    fails = False

    def page(self, *args: Any, **more: Any) -> Any:
        self._fail()
        return super().page(*args, **more)

    def transaction(self) -> Any:
        self._fail()
        return super().transaction()

    def _fail(self) -> None:
        if self.fails:
            raise StoreUnavailable("away")


Send = Callable[[str, str, str | None, bytes | None, dict[str, Any]], Answer]


@dataclass
class Api:
    """A service, and the granting side of its store."""

    world: World
    transport: Send

    def send(
        self,
        method: str,
        path: str,
        issued: Issued | str | None,
        sent: Any = None,
        *,
        body: bytes | None = None,
        environ: dict[str, Any] | None = None,
    ) -> Answer:
        text = issued.text.reveal() if isinstance(issued, Issued) else issued
        body = json.dumps(sent).encode() if sent is not None else body
        return self.transport(method, path, text, body, environ or {})

    def issue(self, scopes: str = EVERYTHING, *, client: str = "billing", **more: Any) -> Issued:
        if self.world.store.client(client) is None:
            self.world.issuer.register(client, " ".join(CATALOG), actor="tests")
        self.world.clock.move(0.001)
        return self.world.issuer.issue(client, scopes, actor="tests", **more)

    def works(self, text: str) -> bool:
        """Return whether the service recognizes the token."""
        return self.send("DELETE", f"{TOKENS}/unknown", text).status != 401


def flask_app(world: World, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_SCOPES=CATALOG, TOKENGUARD_ERROR_FORM="okta", **config)
    TokenGuard(app, store=world.store, clock=world.clock)
    return app


def flask_transport(app: Flask) -> Send:
    def send(method: str, url: str, token: str | None, body: bytes | None, environ: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        got = app.test_client().open(url, method=method, headers=headers, data=body, environ_overrides=environ)
        return Answer.of(got.status_code, got.headers, got.data)

    return send


def django_transport() -> Send:
    def send(method: str, url: str, token: str | None, body: bytes | None, environ: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        kind = "application/json"
        got = DjangoClient().generic(method, url, body or b"", content_type=kind, headers=headers, **environ)
        return Answer.of(got.status_code, got.headers.items(), got.content)

    return send


@pytest.fixture
def world() -> World:
    world = World(Fails(), catalog=ScopeCatalog(CATALOG))
    # A whole number of milliseconds, as times are shown.
    world.clock.micros = int(time.time()) * SECOND
    return world


@pytest.fixture(params=["flask", "django"])
def framework(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(conf, "chosen_store", lambda *args: world.store)
    return str(request.param)


@pytest.fixture
def api(framework: str, world: World) -> Iterator[Api]:
    if framework == "flask":
        app = flask_app(world)
        app.register_blueprint(management_blueprint())
        yield Api(world, flask_transport(app))
        return
    with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ERROR_FORM": "okta"}):
        urls = (path("", include(management_urls())),)
        with override_settings(ROOT_URLCONF=urls):
            yield Api(world, django_transport())


def fails_with(answer: Answer, status: int, code: str, *causes: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["errorCode"] == code, answer.body
    if causes:
        assert [cause["errorSummary"] for cause in answer.json["errorCauses"]] == list(causes)


def show_time(micros: int) -> str:
    return datetime.fromtimestamp(micros / SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [token["id"] for token in answer.json]


def next_of(answer: Answer) -> str | None:
    (header,) = answer.headers.get_all("Link", [])
    rels = re.findall(r'<([^>]*)>; rel="(\w+)"', header)
    assert [rel for _, rel in rels] in (["self"], ["self", "next"])
    return rels[1][0] if len(rels) > 1 else None


def once_it_was_found(token_id: str, api: Api, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let ``happens`` run each time that a call has found this token, and before it goes on."""
    find = api.world.store.find

    def find_and_lose(asked: str) -> Any:
        record = find(asked)
        if asked == token_id:
            happens()
        return record

    monkeypatch.setattr(api.world.store, "find", find_and_lose)


class TestShape:
    def test_a_token_as_okta_shows_it(self, api: Api) -> None:
        conditions = Conditions.parse(["10.0.0.0/8", "127.0.0.1"], ["10.1.0.0/16"], "100/minute")
        caller = api.issue(READ)
        token = api.issue(
            "users.read", name="nightly", expires_in=90 * DAY, idle_timeout=30 * DAY, conditions=conditions
        ).token
        got = api.send("GET", f"{TOKENS}/{token.id}", caller)
        host = "http://localhost" if "localhost" in got.json["_links"]["self"]["href"] else "http://testserver"
        assert got.status == 200
        assert got.json == {
            "id": token.id,
            "name": "nightly",
            "clientId": token.client_id,
            "clientName": "billing",
            "scopes": ["users.read"],
            "tokenWindow": "P30D",
            "network": {"connection": "ZONE", "include": ["10.0.0.0/8", "127.0.0.1/32"], "exclude": ["10.1.0.0/16"]},
            "rate": "100/minute",
            "created": show_time(token.created_at),
            "lastUpdated": show_time(token.created_at),
            "expiresAt": show_time(token.created_at + (30 * DAY + 60) * SECOND),
            "_links": {
                "self": {"href": f"{host}{TOKENS}/{token.id}", "hints": {"allow": ["GET", "PUT", "DELETE"]}},
            },
        }
        assert api.send("GET", TOKENS, caller).json[1] == got.json
        assert got.headers["Cache-Control"] == "private"
        assert got.headers["Content-Type"] == "application/json"
        assert got.headers["Content-Length"] == str(len(got.body))

    def test_a_token_without_limits(self, api: Api) -> None:
        caller = api.issue(READ)
        shown = api.send("GET", f"{TOKENS}/{caller.token.id}", caller).json
        assert shown["network"] == {"connection": "ANYWHERE"}
        assert (shown["tokenWindow"], shown["rate"], shown["expiresAt"]) == (None, None, None)

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(30 * DAY, "P30D"), (3600, "PT1H"), (90, "PT1M30S"), (DAY + 1, "P1DT1S"), (0, "PT0S"), (59, "PT59S")],
    )
    def test_a_length_of_time_is_written_as_it_is_read(self, seconds: int, text: str) -> None:
        assert (show_duration(seconds), read_duration(text)) == (text, seconds)

    def test_a_length_of_time_may_be_given_in_weeks(self) -> None:
        assert read_duration("P2W") == 14 * DAY

    @pytest.mark.parametrize(
        "text", ["", "P", "PT", "P1DT", "30d", "P1Y", "P1M", "P-1D", "P1.5D", "p1d", "P١D", 30, None]
    )
    def test_what_is_no_length_of_time_is_refused(self, text: Any) -> None:
        with pytest.raises(InvalidValue):
            read_duration(text)


class TestGuarding:
    def test_every_call_asks_for_its_scope(self, api: Api) -> None:
        nothing, reader = api.issue("groups.read"), api.issue(READ)
        for route in ROUTES:
            url = TOKENS + route.path.replace("<token_id>", "x")
            assert api.send(route.method, url, None).status == 401, route
            if route.right is not None:
                refused = api.send(route.method, url, nothing)
                fails_with(refused, 403, "E0000006")
                needed = READ if route.right == "read" else MANAGE
                assert f'scope="{needed}"' in refused.headers["WWW-Authenticate"]
            if route.right == "manage":
                assert api.send(route.method, url, reader).status == 403, route

    def test_the_current_token_needs_nothing_but_itself(self, api: Api) -> None:
        caller = api.issue("groups.read")
        gone = api.send("DELETE", f"{TOKENS}/current", caller)
        assert (gone.status, gone.body, gone.headers["Content-Type"]) == (204, b"", None)
        fails_with(api.send("DELETE", f"{TOKENS}/current", caller), 401, "E0000011")

    def test_head_is_answered_like_get_without_the_body(self, api: Api) -> None:
        caller = api.issue()
        for url in (TOKENS, f"{TOKENS}/{caller.token.id}"):
            head = api.send("HEAD", url, caller)
            assert (head.status, head.body) == (200, b"")
            assert api.send("HEAD", url, None).status == 401
            assert api.send("HEAD", url, api.issue("groups.read")).status == 403

    def test_methods_that_there_are_not(self, api: Api) -> None:
        caller = api.issue()
        for below, allowed, wrong in (
            ("", "GET, HEAD, OPTIONS, POST", ("PATCH", "PUT", "DELETE", "TRACE", "PROPFIND")),
            ("/current", "DELETE, OPTIONS", ("GET", "PUT", "POST", "QUERY")),
            (f"/{caller.token.id}", "DELETE, GET, HEAD, OPTIONS, PUT", ("PATCH", "POST")),
            (f"/{caller.token.id}/rotate", "OPTIONS, POST", ("GET", "DELETE", "PATCH")),
        ):
            for method in wrong:
                refused = api.send(method, f"{TOKENS}{below}", caller)
                fails_with(refused, 405, "E0000022")
                assert refused.headers["Allow"] == allowed
                assert api.send(method, f"{TOKENS}{below}", None).status == 401
            told = api.send("OPTIONS", f"{TOKENS}{below}", caller)
            assert (told.status, sorted(told.headers["Allow"].split(", "))) == (200, allowed.split(", "))
        assert api.send("HEAD", f"{TOKENS}/current", caller).status == 405


class TestOwnAndOthers:
    def test_a_caller_meets_its_own_clients_tokens(self, api: Api) -> None:
        caller, sibling, other = api.issue(), api.issue("users.read"), api.issue(client="reports")
        assert ids(api.send("GET", TOKENS, caller)) == [caller.token.id, sibling.token.id]
        for method, below, sent in (
            ("GET", "", None),
            ("PUT", "", {"network": {"connection": "ANYWHERE"}}),
            ("DELETE", "", None),
            ("POST", "/rotate", None),
        ):
            refused = api.send(method, f"{TOKENS}/{other.token.id}{below}", caller, sent)
            fails_with(refused, 404, "E0000007")
            assert refused.json["errorSummary"] == f"Not found: Resource not found: {other.token.id} (Token)"
        assert api.works(other.text.reveal())

    def test_and_with_a_scope_for_that_everybodys(self, api: Api) -> None:
        caller, other = api.issue(f"{EVERYTHING} {ALL}"), api.issue("users.read", client="reports")
        assert ids(api.send("GET", TOKENS, caller)) == [caller.token.id, other.token.id]
        assert api.send("GET", f"{TOKENS}/{other.token.id}", caller).json["clientName"] == "reports"
        made = api.send("POST", TOKENS, caller, {"scopes": ["users.read"], "clientId": other.token.client_id})
        assert (made.status, made.json["clientName"]) == (201, "reports")
        assert api.send("DELETE", f"{TOKENS}/{other.token.id}", caller).status == 204
        assert not api.works(other.text.reveal())

    def test_those_of_a_disabled_client_too(self, api: Api) -> None:
        caller, other = api.issue(f"{EVERYTHING} {ALL}"), api.issue("users.read", client="reports")
        api.world.issuer.disable("reports", actor="tests")
        assert ids(api.send("GET", TOKENS, caller)) == [caller.token.id, other.token.id]
        assert api.send("GET", f"{TOKENS}/{other.token.id}", caller).status == 200
        assert api.send("DELETE", f"{TOKENS}/{other.token.id}", caller).status == 204

    def test_another_clients_ceiling_holds(self, api: Api) -> None:
        caller = api.issue(f"{EVERYTHING} {ALL}")
        small = api.world.issuer.register("small", "groups.read", actor="tests")
        refused = api.send("POST", TOKENS, caller, {"scopes": ["users.read"], "clientId": small.id})
        fails_with(refused, 400, "E0000001")
        assert "may not have 'users.read'" in refused.json["errorCauses"][0]["errorSummary"]

    def test_ones_own_client_may_be_named(self, api: Api) -> None:
        caller = api.issue()
        made = api.send("POST", TOKENS, caller, {"scopes": READ, "clientId": caller.token.client_id})
        assert (made.status, made.json["clientId"]) == (201, caller.token.client_id)

    def test_another_client_is_none_for_who_may_not_meet_it(self, api: Api) -> None:
        other = api.issue(client="reports").token.client_id
        # The reason why nothing could be handed on to it would tell that it is there.
        api.issue()
        api.world.issuer.set_conditions("billing", Conditions.parse(rate="100/minute"), actor="tests")
        unknown = "clientId: No client has this id"
        for caller in (api.issue(), api.issue(f"{EVERYTHING} {ALL}")):
            for client in ("reports", "nobody", "\ud800", other if ALL not in caller.token.scopes else "x"):
                refused = api.send("POST", TOKENS, caller, {"scopes": "users.read", "clientId": client})
                fails_with(refused, 400, "E0000001", unknown)

    def test_what_has_ended_is_not_there(self, api: Api) -> None:
        caller = api.issue()
        ended = [api.issue(), api.issue(expires_in=1), api.issue(), api.issue(idle_timeout=61)]
        api.world.issuer.revoke(ended[0].token.id, actor="tests")
        api.world.issuer.rotate(ended[2].token.id, actor="tests", overlap=0)
        api.world.clock.move(200)
        time_of_django = time.time_ns()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tokenguard.clock.time.time_ns", lambda: time_of_django + 200 * 10**9)
            shown = ids(api.send("GET", TOKENS, caller))
            assert len(shown) == 2
            for issued in ended:
                assert issued.token.id not in shown
                fails_with(api.send("GET", f"{TOKENS}/{issued.token.id}", caller), 404, "E0000007")
                fails_with(api.send("DELETE", f"{TOKENS}/{issued.token.id}", caller), 404, "E0000007")

    @pytest.mark.parametrize("strange", ["x", "%00", "%ff", "A" * 3000, "'%20OR%201=1--"])
    def test_ids_that_there_are_not(self, api: Api, strange: str) -> None:
        refused = api.send("GET", f"{TOKENS}/{strange}", api.issue())
        fails_with(refused, 404, "E0000007")
        assert len(refused.body) < 500

    def test_a_token_that_is_sent_as_an_id_is_not_told_again(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        caller = api.issue()
        text = caller.text.reveal()
        for refused in (
            api.send("GET", f"{TOKENS}/{text}", caller),
            api.send("POST", TOKENS, caller, {"scopes": text}),
            api.send("POST", TOKENS, caller, {"scopes": ["users.read"], "name": text}),
            api.send("POST", TOKENS, caller, {"scopes": ["users.read"], "clientId": text}),
            api.send("POST", TOKENS, caller, {"scopes": ["users.read"], text: 1}),
        ):
            assert refused.status in (400, 403, 404)
            assert text[20:40] not in refused.body.decode()
        assert text[20:40] not in caplog.text


class TestIssuing:
    def test_a_smaller_token(self, api: Api) -> None:
        caller = api.issue()
        made = api.send("POST", TOKENS, caller, {"scopes": ["users.read"], "name": "nightly", "tokenWindow": "P7D"})
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        shown = made.json
        text = shown.pop("token")
        assert HIDDEN.fullmatch(text)
        assert made.headers["Location"] == shown["_links"]["self"]["href"]
        assert (shown["name"], shown["scopes"], shown["tokenWindow"]) == ("nightly", ["users.read"], "P7D")
        assert api.send("GET", f"{TOKENS}/{shown['id']}", caller).json == shown
        fails_with(api.send("GET", TOKENS, text), 403, "E0000006")
        *_, event = api.world.store.events(10)
        assert (event.kind, event.actor, event.token_id) == (
            "token.issued",
            f"token:{caller.token.id}",
            shown["id"],
        )

    def test_its_text_is_in_no_other_answer(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        caller = api.issue()
        made = api.send("POST", TOKENS, caller, {"scopes": ["users.read"]}).json
        rotated = api.send("POST", f"{TOKENS}/{made['id']}/rotate", caller).json
        others = [
            api.send("GET", TOKENS, caller),
            api.send("GET", f"{TOKENS}/{made['id']}", caller),
            api.send("PUT", f"{TOKENS}/{made['id']}", caller, {"network": {"connection": "ANYWHERE"}}),
            api.send("DELETE", f"{TOKENS}/{rotated['id']}", caller),
        ]
        for other in others:
            assert not HIDDEN.search(other.body.decode())
            assert "token" not in (other.json if other.body and isinstance(other.json, dict) else {})
        digests = [record.token.digest for record in api.world.store.records()]
        assert not any(digest in other.body.decode() for digest in digests for other in others)
        for text in (made["token"], rotated["token"]):
            assert text[20:40] not in caplog.text

    def test_nobody_grants_a_scope_that_they_do_not_hold(self, api: Api) -> None:
        caller = api.issue(f"users.read {MANAGE}")
        for scopes, beyond in (
            (["users.manage"], "users.manage"),
            (["users.read", "groups.read"], "groups.read"),
            (["users.*"], "users.*"),
            ([ALL], ALL),
            (["*"], None),
            (["unknown.scope"], "unknown.scope"),
        ):
            refused = api.send("POST", TOKENS, caller, {"scopes": scopes})
            cause = [f"scopes: The calling token does not have {beyond}"] if beyond else []
            fails_with(refused, 403, "E0000006", *cause)
        assert len(api.world.store.records()) == 1

    def test_what_is_held_by_implication_is_held(self, api: Api) -> None:
        made = api.send("POST", TOKENS, api.issue(f"users.manage {MANAGE}"), {"scopes": ["users.read", READ]})
        assert (made.status, made.json["scopes"]) == (201, [READ, "users.read"])

    def test_what_the_client_may_no_longer_have_is_not_held(self, api: Api) -> None:
        caller = api.issue(f"users.manage {MANAGE}")
        api.world.issuer.set_scopes("billing", f"users.read {MANAGE}", actor="tests")
        fails_with(api.send("POST", TOKENS, caller, {"scopes": ["users.manage"]}), 403, "E0000006")

    def test_a_token_does_not_outlive_the_one_that_issued_it(self, api: Api) -> None:
        caller = api.issue(expires_in=DAY)
        end = caller.token.expires_at
        assert end is not None
        late = api.send("POST", TOKENS, caller, {"scopes": READ, "expiresAt": show_time(end + SECOND)})
        fails_with(late, 403, "E0000006")
        assert late.json["errorCauses"][0]["errorSummary"].startswith("expiresAt: The calling token ends at ")
        for given, expected in ((None, end), (show_time(end - 60 * SECOND), end - 60 * SECOND)):
            made = api.send("POST", TOKENS, caller, {"scopes": READ, "expiresAt": given})
            assert (made.status, made.json["expiresAt"]) == (201, show_time(expected))

    def test_nor_one_that_was_rotated_away(self, api: Api) -> None:
        caller = api.issue()
        api.world.issuer.rotate(caller.token.id, actor="tests", overlap=3600)
        made = api.send("POST", TOKENS, caller, {"scopes": READ})
        assert made.json["expiresAt"] == show_time(caller.token.created_at + 3600 * SECOND)

    def test_idleness_is_handed_on(self, api: Api) -> None:
        caller = api.issue(idle_timeout=7 * DAY)
        assert api.send("POST", TOKENS, caller, {"scopes": READ}).json["tokenWindow"] == "P7D"
        assert api.send("POST", TOKENS, caller, {"scopes": READ, "tokenWindow": "P6D"}).status == 201
        fails_with(api.send("POST", TOKENS, caller, {"scopes": READ, "tokenWindow": "P8D"}), 403, "E0000006")

    def test_networks_and_rates_are_handed_on(self, api: Api) -> None:
        limits = Conditions.parse(["127.0.0.0/8"], ["127.1.0.0/16"], "1000/minute")
        caller = api.issue(conditions=limits)
        made = api.send("POST", TOKENS, caller, {"scopes": READ})
        assert made.json["network"] == {
            "connection": "ZONE",
            "include": ["127.0.0.0/8"],
            "exclude": ["127.1.0.0/16"],
        }
        assert made.json["rate"] == "1000/minute"
        inside = {"connection": "ZONE", "include": ["127.2.0.0/16"]}
        assert api.send("POST", TOKENS, caller, {"scopes": READ, "network": inside, "rate": "5/minute"}).status == 201
        for network in (
            {"connection": "ANYWHERE"},
            {"connection": "ZONE", "include": ["127.0.0.0/8"]},
            {"connection": "ZONE", "include": ["127.2.0.0/16", "10.0.0.0/8"]},
            {"connection": "ZONE", "exclude": ["127.1.0.0/16"]},
            {"connection": "ZONE", "include": ["::/0"]},
        ):
            refused = api.send("POST", TOKENS, caller, {"scopes": READ, "network": network})
            fails_with(refused, 403, "E0000006", "network: The calling token may not be used from all of this")
        for rate in ("1001/minute", "17/second", "60000/hour"):
            fails_with(api.send("POST", TOKENS, caller, {"scopes": READ, "rate": rate}), 403, "E0000006")

    def test_the_limits_of_its_client_are_not_left_behind_at_another(self, api: Api) -> None:
        issuer, limits = api.world.issuer, Conditions.parse(["127.0.0.0/8"], rate="100/minute")
        caller, other = api.issue(f"{EVERYTHING} {ALL}"), api.issue("users.read", client="reports").token
        issuer.set_conditions(caller.token.client_id, limits, actor="tests")
        network, rate = {"connection": "ZONE", "include": ["127.0.0.0/16"]}, "100/minute"
        told = "network: The client of the calling token may not be used from all of this"
        assert api.send("POST", TOKENS, caller, {"scopes": READ}).status == 201
        wanted = {"scopes": "users.read", "clientId": other.client_id}
        fails_with(api.send("POST", TOKENS, caller, wanted), 403, "E0000006", told)
        fails_with(api.send("POST", f"{TOKENS}/{other.id}/rotate", caller), 403, "E0000006", told)
        told = "rate: The client of the calling token has 100/minute, and this would be more"
        fails_with(api.send("POST", TOKENS, caller, wanted | {"network": network}), 403, "E0000006", told)
        made = api.send("POST", TOKENS, caller, wanted | {"network": network, "rate": rate})
        assert made.status == 201
        anywhere = {"network": {"connection": "ANYWHERE"}}
        fails_with(api.send("PUT", f"{TOKENS}/{made.json['id']}", caller, anywhere), 403, "E0000006")
        # If the other client has limits of its own that are no wider, those are enough.
        issuer.set_conditions(other.client_id, limits, actor="tests")
        assert api.send("POST", TOKENS, caller, wanted).status == 201
        assert api.send("POST", f"{TOKENS}/{other.id}/rotate", caller).status == 201

    def test_everything_that_is_too_much_is_told(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        caller = api.issue(MANAGE, expires_in=DAY, idle_timeout=DAY, conditions=Conditions.parse(["127.0.0.1"]))
        wanted = {
            "scopes": ["users.read"],
            "expiresAt": "2100-01-01T00:00:00Z",
            "tokenWindow": "P2D",
            "network": {"connection": "ANYWHERE"},
        }
        refused = api.send("POST", TOKENS, caller, wanted)
        fails_with(refused, 403, "E0000006")
        causes = [cause["errorSummary"] for cause in refused.json["errorCauses"]]
        assert [cause.partition(":")[0] for cause in causes] == ["scopes", "network", "expiresAt", "tokenWindow"]
        said = f"issue_token refused to token {caller.token.id}: {'; '.join(causes)}"
        assert caplog.messages[-1] == f"{said}, errorId {refused.json['errorId']}"

    def test_the_policy_holds_and_what_it_refuses_is_on_record(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tokenguard.issuer.Policy.check", Policy(require_name=True).check)
        refused = api.send("POST", TOKENS, api.issue(name="caller"), {"scopes": READ})
        fails_with(refused, 400, "E0000001", "require_name: a token must have a name here")
        *_, event = api.world.store.events(10)
        assert event.kind == "policy.refused"
        assert event.actor.startswith("token:")


class TestRotating:
    def test_a_successor_takes_over(self, api: Api) -> None:
        caller, old = api.issue(), api.issue("users.read", name="nightly")
        made = api.send("POST", f"{TOKENS}/{old.token.id}/rotate", caller, {"overlap": "PT1H"})
        assert (made.status, made.headers["Cache-Control"]) == (201, "no-store")
        assert (made.json["name"], made.json["scopes"]) == ("nightly", ["users.read"])
        assert api.works(made.json["token"])
        assert api.works(old.text.reveal())
        shown = api.send("GET", f"{TOKENS}/{old.token.id}", caller).json
        assert abs(datetime.fromisoformat(shown["expiresAt"]).timestamp() - time.time() - 3600) < 60
        again = api.send("POST", f"{TOKENS}/{old.token.id}/rotate", caller)
        cause = f"token: token {old.token.id} is already rotated: its successor is {made.json['id']}: look at it again"
        fails_with(again, 409, "E0000001", cause)

    def test_a_token_that_ends_meanwhile_is_not_rotated(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        caller, token = api.issue(), api.issue("users.read").token
        once_it_was_found(token.id, api, monkeypatch, lambda: api.world.issuer.revoke(token.id, actor="tests"))
        cause = (
            f"token: token {token.id} is revoked: "
            "a token that has ended cannot be rotated, issue a new one: look at it again"
        )
        fails_with(api.send("POST", f"{TOKENS}/{token.id}/rotate", caller), 409, "E0000001", cause)
        fails_with(api.send("POST", f"{TOKENS}/{token.id}/rotate", caller), 404, "E0000007")

    def test_at_once(self, api: Api) -> None:
        caller, old = api.issue(), api.issue("users.read")
        assert api.works(old.text.reveal())
        assert api.send("POST", f"{TOKENS}/{old.token.id}/rotate", caller, {"overlap": "PT0S"}).status == 201
        assert not api.works(old.text.reveal())

    def test_a_token_may_rotate_itself_but_not_prolong_its_life(self, api: Api) -> None:
        caller = api.issue(expires_in=7 * DAY)
        api.world.clock.move(0)
        made = api.send("POST", f"{TOKENS}/{caller.token.id}/rotate", caller)
        assert made.status == 201
        assert made.json["expiresAt"] == show_time(caller.token.expires_at or 0)
        assert api.works(made.json["token"])

    def test_a_successor_does_not_outlive_the_token_that_rotates(self, api: Api) -> None:
        caller = api.issue(expires_in=DAY)
        for life in ({}, {"expires_in": 7 * DAY}):
            made = api.send("POST", f"{TOKENS}/{api.issue('users.read', **life).token.id}/rotate", caller)
            assert (made.status, made.json["expiresAt"]) == (201, show_time(caller.token.expires_at or 0))

    def test_nobody_gets_a_stronger_token_by_rotating_it(self, api: Api) -> None:
        caller = api.issue(f"users.read {MANAGE}", idle_timeout=DAY, conditions=Conditions.parse(["127.0.0.0/8"]))
        local = {"conditions": Conditions.parse(["127.0.0.1"]), "idle_timeout": DAY}
        for scopes, more in (
            ("users.manage", local),
            ("users.read", local | {"conditions": Conditions()}),
            ("users.read", local | {"idle_timeout": 2 * DAY}),
            ("users.read", local | {"idle_timeout": None}),
        ):
            stronger = api.issue(scopes, **more)
            refused = api.send("POST", f"{TOKENS}/{stronger.token.id}/rotate", caller)
            fails_with(refused, 403, "E0000006")
            assert api.works(stronger.text.reveal())
        assert api.send("POST", f"{TOKENS}/{api.issue('users.read', **local).token.id}/rotate", caller).status == 201


class TestChanging:
    def test_its_networks(self, api: Api) -> None:
        caller, token = api.issue(), api.issue("users.read", conditions=Conditions.parse(rate="5/minute"))
        assert api.works(token.text.reveal())
        for member in ("exclude", "include"):
            network = {"connection": "ZONE", member: ["10.0.0.0/8"]}
            changed = api.send("PUT", f"{TOKENS}/{token.token.id}", caller, {"network": network})
            assert (changed.status, changed.json["network"], changed.json["rate"]) == (200, network, "5/minute")
        fails_with(api.send("DELETE", f"{TOKENS}/current", token), 403, "E0000006")
        *_, event = api.world.store.events(10)
        assert (event.kind, event.actor) == ("token.conditions_changed", f"token:{caller.token.id}")

    def test_it_can_be_put_back_as_it_was_got(self, api: Api) -> None:
        caller = api.issue()
        shown = api.send("GET", f"{TOKENS}/{caller.token.id}", caller).json
        put = api.send("PUT", f"{TOKENS}/{caller.token.id}", caller, shown)
        moving = {"lastUpdated": None}
        assert (put.status, put.json | moving) == (200, shown | moving)

    def test_nor_does_a_use_since_then_matter(self, api: Api) -> None:
        caller, token = api.issue(), api.issue("users.read", idle_timeout=DAY).token
        shown = api.send("GET", f"{TOKENS}/{token.id}", caller).json
        at = token.created_at + 120 * SECOND
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(api.world.store, "_clock", lambda: at)
            api.world.store.record_uses([NewUse(token.id, at, "127.0.0.1", frozenset(), {})])
        put = api.send("PUT", f"{TOKENS}/{token.id}", caller, shown)
        assert (put.status, put.json["lastUpdated"]) == (200, show_time(at))
        assert put.json["expiresAt"] != shown["expiresAt"]

    def test_nothing_else_changes(self, api: Api) -> None:
        caller = api.issue()
        here = {"network": {"connection": "ANYWHERE"}}
        for name, value in (("name", "x"), ("scopes", ["users.read"]), ("expiresAt", "2100-01-01T00:00:00.000Z")):
            refused = api.send("PUT", f"{TOKENS}/{caller.token.id}", caller, {**here, name: value})
            fails_with(refused, 400, "E0000001", f"{name}: This cannot be changed")
        fails_with(
            api.send("PUT", f"{TOKENS}/{caller.token.id}", caller, {}),
            400,
            "E0000001",
            "network: This member is required",
        )
        fails_with(api.send("PUT", f"{TOKENS}/{caller.token.id}", caller, {**here, "x": 1}), 400, "E0000001")

    def test_who_may_not_hand_something_on_keeps_no_writer_waiting(self, api: Api) -> None:
        caller, stronger = api.issue(f"users.read {MANAGE}"), api.issue("users.manage", conditions=INSIDE).token
        api.world.store.fails = True  # type: ignore[attr-defined]
        for method, below, sent in (
            ("POST", "", {"scopes": "users.manage"}),
            ("POST", f"/{stronger.id}/rotate", {}),
            ("PUT", f"/{stronger.id}", {"network": {"connection": "ANYWHERE"}}),
        ):
            fails_with(api.send(method, f"{TOKENS}{below}", caller, sent), 403, "E0000006")

    def test_nobody_widens_what_they_could_not_issue(self, api: Api) -> None:
        inside = Conditions.parse(["127.0.0.0/8"])
        caller = api.issue(f"users.read {MANAGE}", conditions=inside)
        anywhere = {"network": {"connection": "ANYWHERE"}}
        narrow = {"network": {"connection": "ZONE", "include": ["127.0.0.1"]}}
        stronger = api.issue("users.manage", conditions=Conditions.parse(["127.0.0.0/16"]))
        equal = api.issue("users.read", conditions=Conditions.parse(["127.0.0.0/16"]))
        fails_with(api.send("PUT", f"{TOKENS}/{stronger.token.id}", caller, anywhere), 403, "E0000006")
        fails_with(api.send("PUT", f"{TOKENS}/{equal.token.id}", caller, anywhere), 403, "E0000006")
        wide = {"network": {"connection": "ZONE", "include": ["127.0.0.0/8"]}}
        fails_with(api.send("PUT", f"{TOKENS}/{stronger.token.id}", caller, wide), 403, "E0000006")
        assert api.send("PUT", f"{TOKENS}/{equal.token.id}", caller, wide).status == 200
        assert api.send("PUT", f"{TOKENS}/{stronger.token.id}", caller, narrow).status == 200

    def test_what_is_narrowed_meanwhile_stays_so(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        """The new networks are within those that the token had before, but not within those that it has now."""
        caller = api.issue(f"users.read {MANAGE}", conditions=Conditions.parse(["127.0.0.1", "10.1.0.0/16"]))
        token = api.issue("users.read users.manage", conditions=Conditions.parse(["10.0.0.0/8"])).token
        narrow = Conditions.parse(["10.2.0.0/16"])
        narrowing = partial(api.world.issuer.set_token_conditions, token.id, narrow, actor="tests")
        once_it_was_found(token.id, api, monkeypatch, narrowing)
        wanted = {"network": {"connection": "ZONE", "include": ["10.3.0.0/16"]}}
        cause = f"token: token {token.id} has just been changed by somebody else: look at it again"
        fails_with(api.send("PUT", f"{TOKENS}/{token.id}", caller, wanted), 409, "E0000001", cause)
        assert api.world.store.records()[1].token.conditions == narrow

    def test_revoking_ends_it_at_once(self, api: Api) -> None:
        caller, token = api.issue(), api.issue("users.manage")
        assert api.works(token.text.reveal())
        gone = api.send("DELETE", f"{TOKENS}/{token.token.id}", caller)
        assert (gone.status, gone.body) == (204, b"")
        fails_with(api.send("GET", TOKENS, token), 401, "E0000011")
        *_, event = api.world.store.events(10)
        assert (event.kind, event.actor) == ("token.revoked", f"token:{caller.token.id}")


class TestPaging:
    def test_a_walk_sees_each_token_once(self, api: Api) -> None:
        tokens = [api.issue().token for _ in range(7)]
        caller = api.issue()
        url, pages = f"{TOKENS}?limit=3", []
        while url:
            page = api.send("GET", url, caller)
            assert page.headers["Link"].partition(">")[0].endswith(url)
            pages.append(ids(page))
            url = next_of(page) or ""
        assert [len(page) for page in pages] == [3, 3, 2]
        assert {token_id for page in pages for token_id in page} == {
            caller.token.id,
            *(token.id for token in tokens),
        }

    def test_a_walk_goes_on_after_a_token_that_has_gone(self, api: Api) -> None:
        for _ in range(4):
            api.issue()
            api.world.clock.move(1)
        caller = api.issue()
        first = api.send("GET", f"{TOKENS}?limit=2", caller)
        for token_id in ids(first):
            api.send("DELETE", f"{TOKENS}/{token_id}", caller)
        assert len(ids(api.send("GET", next_of(first) or "", caller))) == 2

    def test_bad_cursors_and_limits(self, api: Api) -> None:
        caller = api.issue()
        api.issue()
        after = re.findall(r"after=([\w-]+)", next_of(api.send("GET", f"{TOKENS}?limit=1", caller)) or "")[0]
        for bad in ("", "x", after[:-1], after + "0", "ff" + after, "%00", after.swapcase(), "é" * 30):
            fails_with(api.send("GET", f"{TOKENS}?after={bad}", caller), 400, "E0000001")
        # Anybody can compute the checksum.
        for made_up in ("x", "1", f"1-{'A' * 17}", f"{'9' * 17}-{'A' * 16}", f"\u0661-{'A' * 16}", f"-1-{'A' * 16}"):
            cursor = quote(sha256(made_up.encode()).hexdigest()[:8] + made_up)
            fails_with(api.send("GET", f"{TOKENS}?after={cursor}", caller), 400, "E0000001")
        for bad in ("0", "201", "-1", "", "1e1", "9" * 999, "9" * 5000, "%D9%A3"):
            fails_with(api.send("GET", f"{TOKENS}?limit={bad}", caller), 400, "E0000001")
        for twice in ("limit=1&limit=2", f"after={after}&after={after}"):
            fails_with(api.send("GET", f"{TOKENS}?{twice}", caller), 400, "E0000001")
        for search in ("q", "filter", "clientId"):  # whoever looks for a client's tokens may be about to revoke all
            fails_with(api.send("GET", f"{TOKENS}?{search}=x", caller), 400, "E0000001")


BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "E0000003"),
    (b"{", 400, "E0000003"),
    (b"\xff\xfe", 400, "E0000003"),
    (b"[]", 400, "E0000003"),
    (b"null", 400, "E0000003"),
    (b'{"scopes": NaN}', 400, "E0000003"),
    (b'{"scopes": "users.read", "scopes": "groups.read"}', 400, "E0000003"),
    (b'{"scopes": "users.read", "network": {"connection": "ANYWHERE", "connection": "ANYWHERE"}}', 400, "E0000003"),
    (b"[" * 16_000, 400, "E0000003"),
    (b"{}", 400, "E0000001"),
    (b'{"scopes": null}', 400, "E0000001"),
    (b'{"scopes": []}', 400, "E0000001"),
    (b'{"scopes": ""}', 400, "E0000001"),
    (b'{"scopes": 1}', 400, "E0000001"),
    (b'{"scopes": {"a": 1}}', 400, "E0000001"),
    (b'{"scopes": [1]}', 400, "E0000001"),
    (b'{"scopes": [["users.read"]]}', 400, "E0000001"),
    (b'{"scopes": ["a\\u0000b"]}', 400, "E0000001"),
    (b'{"scopes": ["\\ud800"]}', 400, "E0000001"),
    (b'{"scopes": "users.read", "nmae": "x"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "id": "x"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "userId": "x"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "\\ud800": "x"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "' + b"x " * 5_000 + b'": 1}', 400, "E0000001"),
    (b'{"scopes": "users.read", "name": 7}', 400, "E0000001"),
    (b'{"scopes": "users.read", "name": "a\\nb"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "name": "\\ud800"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "name": "' + b"x" * 101 + b'"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "clientId": 7}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": "tomorrow"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": "2100-01-01T00:00:00"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": "2001-01-01T00:00:00Z"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": "9999-12-31T23:59:59-23:59"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": "0001-01-01T00:00:00+23:59"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "expiresAt": 4102444800}', 400, "E0000001"),
    (b'{"scopes": "users.read", "tokenWindow": "30d"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "tokenWindow": "PT60S"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "tokenWindow": "P999999999W"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": "ANYWHERE"}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE"}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ANYWHERE", "include": ["10.0.0.0/8"]}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE", "include": "10.0.0.0/8"}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE", "include": {"10.0.0.0/8": 1}}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE", "exclude": 7}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE", "include": ["10.0.0.1/8"]}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "network": {"connection": "ZONE", "include": [{}]}}', 400, "E0000001"),
    (
        b'{"scopes": "users.read", "network": {"connection": "ZONE", "include": ["127.0.0.1"], "exclude": [%s]}}'
        % b",".join(b'"::%x"' % number for number in range(200)),
        400,
        "E0000001",
    ),
    (b'{"scopes": "users.read", "network": {"connection": "ANYWHERE", "zones": []}}', 400, "E0000001"),
    (b'{"scopes": "users.read", "rate": 100}', 400, "E0000001"),
    (b'{"scopes": "users.read", "rate": "often"}', 400, "E0000001"),
    (b'{"scopes": "' + b"x" * 17_000 + b'"}', 413, "E0000001"),
]


MEMBERS = "name, scopes, clientId, expiresAt, tokenWindow, network, rate"


class TestHostileInput:
    @pytest.mark.parametrize(("body", "status", "code"), BODIES, ids=range(len(BODIES)))
    def test_bodies(self, api: Api, body: bytes, status: int, code: str) -> None:
        caller = api.issue()
        refused = api.send("POST", TOKENS, caller, body=body)
        fails_with(refused, status, code)
        assert refused.json["errorCauses"] or code == "E0000003"
        assert len(refused.body) < 2_000
        assert len(api.world.store.records()) == 1

    def test_a_body_with_as_many_networks_as_a_token_may_have(self, api: Api) -> None:
        include, exclude = ([f"10.{number}.0.{host}" for host in range(100)] for number in (1, 2))
        network = {"connection": "ZONE", "include": include, "exclude": exclude}
        assert api.send("POST", TOKENS, api.issue(), {"scopes": READ, "network": network}).status == 201

    def test_a_list_that_can_be_read_may_be_too_deep_to_be_quoted(self) -> None:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]
        with pytest.raises(InvalidValue, match="must be a list of strings"):
            NEW_TOKEN["scopes"]([nested])

    def test_bodies_of_other_calls(self, api: Api) -> None:
        caller = api.issue()
        one = f"{TOKENS}/{caller.token.id}"
        for body in (b"{", b"[]", b"x" * 17_000):
            assert api.send("PUT", one, caller, body=body).status in (400, 413)
        for body in (b'{"network": 1}', b'{"network": null}', b'{"network": {"connection": "ZONE"}}'):
            refused = api.send("PUT", one, caller, body=body)
            assert refused.json["errorCauses"][0]["errorSummary"].startswith("network: ")
        for body in (b"{", b"[]", b'{"overlap": 1}', b'{"overlap": "P999999999W"}', b'{"lap": 1}', b"x" * 17_000):
            assert api.send("POST", f"{one}/rotate", caller, body=body).status in (400, 413)
        assert len(api.world.store.records()) == 1

    @pytest.mark.parametrize(
        "announced",
        [
            {"CONTENT_LENGTH": "19"},
            {"CONTENT_LENGTH": "19", "wsgi.input_terminated": True},
            {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"},
        ],
        ids=["cut off", "cut off by the server", "of no length that is known"],
    )
    @pytest.mark.parametrize("arrived", [b"", b'{"overlap": "PT0S"'])
    def test_a_body_that_does_not_arrive_whole_is_not_taken_for_none(
        self, api: Api, announced: dict[str, Any], arrived: bytes
    ) -> None:
        """Its content was meant to apply: without it, a rotation would use the default."""
        caller, old = api.issue(), api.issue("users.read")
        environ = announced | {"wsgi.input": BytesIO(arrived)}
        refused = api.send("POST", f"{TOKENS}/{old.token.id}/rotate", caller, environ=environ)
        fails_with(refused, 400, "E0000003")
        assert len(api.world.store.records()) == 2
        assert api.works(old.text.reveal())

    def test_a_body_may_come_in_pieces_and_its_sender_may_go_away(self, api: Api) -> None:
        class Pieces(RawIOBase):
            def readinto(self, buffer: Any) -> int:
                buffer[0] = next(left)
                return 1

        class Broken(RawIOBase):
            def __init__(self, error: Exception) -> None:
                self.error = error

            def readinto(self, buffer: Any) -> int:
                raise self.error

        caller, old, body = api.issue(), api.issue("users.read"), b'{"overlap": "PT0S"}'
        left, url, length = iter(body), f"{TOKENS}/{old.token.id}/rotate", {"CONTENT_LENGTH": str(len(body))}
        for error in (OSError("reset by peer"), Exception("as gunicorn raises for broken chunks")):
            fails_with(api.send("POST", url, caller, environ=length | {"wsgi.input": Broken(error)}), 400, "E0000003")
        assert api.works(old.text.reveal())
        assert api.send("POST", url, caller, environ=length | {"wsgi.input": Pieces()}).status == 201
        assert not api.works(old.text.reveal())

    @pytest.mark.parametrize(
        ("sent", "causes"),
        [
            (
                {"name": 1, "rate": 2},
                ["scopes: This member is required", "name: this must be a string", "rate: this must be a string"],
            ),
            ({"scopes": 1}, ["scopes: the scopes must be a list of strings"]),
            ({"scopes": []}, ["scopes: a token must have at least one scope"]),
            (
                {"scopes": READ, "a.b.c" * 20: 1, "d": 2},
                [f"{'a.b.c' * 10}: Unknown member; the members are {MEMBERS}"],
            ),
        ],
    )
    def test_every_fault_is_told_but_of_unknown_members_one(self, api: Api, sent: Any, causes: list[str]) -> None:
        fails_with(api.send("POST", TOKENS, api.issue(), sent), 400, "E0000001", *causes)


class TestOutage:
    def test_a_store_that_is_away_is_a_503(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        caller = api.issue()
        assert api.send("GET", TOKENS, caller).status == 200
        api.world.store.fails = True  # type: ignore[attr-defined]
        for method, url, sent in (
            ("GET", TOKENS, None),
            ("POST", TOKENS, {"scopes": READ}),
            ("DELETE", f"{TOKENS}/{caller.token.id}", None),
            ("DELETE", f"{TOKENS}/current", None),
        ):
            away = api.send(method, url, caller, sent)
            fails_with(away, 503, "E0000009", "API tokens cannot be managed at the moment. Try again shortly.")
            assert away.headers["Retry-After"] == "5"
            assert f"the token store failed: away, errorId {away.json['errorId']}" in caplog.messages
        api.world.store.fails = False  # type: ignore[attr-defined]
        assert api.send("GET", TOKENS, caller).status == 200


class TestMounting:
    def test_elsewhere_with_other_scopes_and_in_the_other_form(self, framework: str, world: World) -> None:
        catalog = {
            "tokens:see": "a",
            "tokens:change": {"description": "b", "implies": ["tokens:see"]},
            "tokens:any": "c",
        }
        names = {"read_scope": "tokens:see", "manage_scope": "tokens:change", "all_clients_scope": "tokens:any"}
        world.issuer.catalog = ScopeCatalog(catalog)
        world.issuer.register("billing", "*", actor="tests")
        caller = world.issuer.issue("billing", "tokens:change", actor="tests")
        if framework == "flask":
            app = flask_app(world, TOKENGUARD_PREFIX="tg")
            app.extensions.clear()
            app.config.update(TOKENGUARD_SCOPES=catalog, TOKENGUARD_ERROR_FORM="problem")
            TokenGuard(app, store=world.store)
            app.register_blueprint(management_blueprint("/keys", **names))
            self.look(Api(world, flask_transport(app)), caller)
            return
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "SCOPES": catalog}):
            urls = (path("", include(management_urls("/keys", **names))),)
            with override_settings(ROOT_URLCONF=urls):
                self.look(Api(world, django_transport()), caller)

    def look(self, api: Api, caller: Issued) -> None:
        assert ids(api.send("GET", "/keys", caller)) == [caller.token.id]
        assert api.send("POST", "/keys", caller, {"scopes": "tokens:see"}).status == 201
        refused = api.send("GET", "/keys/unknown", caller)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Not found: Resource not found: unknown (Token)",
            "code": "not_found",
        }
        beyond = api.send("POST", "/keys", caller, {"scopes": "tokens:any"}).json
        assert (beyond["code"], beyond["detail"]) == (
            "forbidden",
            "scopes: The calling token does not have tokens:any",
        )
        mine = f"/keys/{caller.token.id}/rotate"
        assert api.send("POST", mine, caller).status == 201
        again = api.send("POST", mine, caller).json
        assert (again["title"], again["status"], again["code"]) == ("Conflict", 409, "conflict")

    @pytest.mark.parametrize("org", ["acme", "caf%C3%A9%3F%25"])
    def test_below_a_path_that_captures_something(self, framework: str, world: World, org: str) -> None:
        below = f"/t/{org}"
        if framework == "flask":
            app = flask_app(world)
            app.register_blueprint(management_blueprint("/t/<org>/tokens"))
            app.register_blueprint(introspection_blueprint("users.read"), url_prefix="/t/<org>")
            app.register_blueprint(revocation_blueprint(), url_prefix="/t/<org>")
            self.use(Api(world, flask_transport(app)), below)
            return
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ERROR_FORM": "okta"}):
            management, introspect = include(management_urls("tokens")), introspection_view("users.read")
            views = [path("", management), path("introspect", introspect), path("revoke", end_token)]
            mounted = include(views)
            for captures in (
                path("t/<org>/", mounted),
                re_path("t/([^/]+)/", mounted),
                re_path("t/(?P<o>[^/]+)/", mounted),
            ):
                with override_settings(ROOT_URLCONF=(path("elsewhere/", mounted), captures)):
                    self.use(Api(world, django_transport()), below)

    def use(self, api: Api, below: str) -> None:
        caller, other = api.issue(), api.issue("users.read")
        list_url, form = f"{below}/tokens", {"CONTENT_TYPE": "application/x-www-form-urlencoded"}
        page = api.send("GET", f"{list_url}?limit=1", caller)
        assert len(ids(page)) == 1
        assert ids(api.send("GET", next_of(page) or "", caller)) not in ([], ids(page))
        made = api.send("POST", list_url, caller, {"scopes": ["users.read"]})
        url = made.headers["Location"]
        assert (made.status, url.partition("/t/")[2]) == (201, f"{list_url}/{made.json['id']}".removeprefix("/t/"))
        for method, at, status in (("GET", url, 200), ("PATCH", url, 405), ("POST", f"{url}/rotate", 201)):
            answer = api.send(method, at, caller)
            assert answer.status == status
            assert answer.json.get("_links", {"self": {"href": url}})["self"]["href"].startswith(url.rpartition("/")[0])
        put = api.send("PUT", url, caller, {"network": {"connection": "ZONE", "include": ["10.0.0.0/8"]}})
        assert (put.status, put.json["_links"]["self"]["href"]) == (200, url)
        body = f"token={other.text.reveal()}".encode()
        for active in (True, False):
            told = api.send("POST", f"{below}/introspect", caller, body=body, environ=form)
            assert (told.status, told.json["active"]) == (200, active)
            assert api.send("POST", f"{below}/revoke", None, body=body, environ=form).status == 200
        assert api.send("DELETE", url, caller).status == 204
        assert api.send("DELETE", f"{list_url}/current", caller).status == 204

    def test_without_a_guard_it_cannot_be_mounted(self, framework: str) -> None:
        if framework == "flask":
            with pytest.raises(ConfigurationError, match=r"call TokenGuard\(app\)"):
                Flask(__name__).register_blueprint(management_blueprint())
            return
        # Middleware may be a class or a function.
        others = ["django.middleware.common.CommonMiddleware", "django.views.decorators.gzip.gzip_page"]
        with (
            override_settings(MIDDLEWARE=others),
            pytest.raises(ImproperlyConfigured, match="to MIDDLEWARE") as refused,
        ):
            management_urls()
        assert isinstance(refused.value, ConfigurationError)

    def test_nor_with_scopes_that_nobody_could_hold(self, framework: str, world: World) -> None:
        missing = "not in the catalogue: tokens:see; declare them"
        if framework == "flask":
            with pytest.raises(ConfigurationError, match=missing):
                flask_app(world).register_blueprint(management_blueprint(read_scope="tokens:see"))
            return
        settings = {"SIGNING_KEY": KEY, "SCOPES": CATALOG}
        with override_settings(TOKENGUARD=settings), pytest.raises(ImproperlyConfigured, match=missing):
            management_urls(read_scope="tokens:see")

    def test_in_django_other_settings_that_are_wrong_are_left_to_the_checks(self) -> None:
        with override_settings(TOKENGUARD={"SIGNING_KEY": "short"}):
            assert management_urls()[0]

    @pytest.mark.parametrize("wrong", ["", "a b", "tokens.*"])
    def test_nor_with_what_is_no_scope(self, wrong: str) -> None:
        for mount in (management_blueprint, management_urls):
            with pytest.raises(InvalidValue):
                mount(manage_scope=wrong)

    def test_in_django_each_act_is_a_transaction_of_its_own(self) -> None:
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "SCOPES": CATALOG}):
            patterns, _ = management_urls()
        for pattern in patterns:
            left_out = pattern.callback._non_atomic_requests  # type: ignore[attr-defined]
            assert [alias for alias in connections if alias not in left_out] == []
            assert pattern.callback.csrf_exempt  # type: ignore[attr-defined]


def test_a_body_that_a_flask_application_has_looked_at_is_still_there(world: World) -> None:
    app, seen = flask_app(world), list[bytes]()
    app.before_request(lambda: seen.append(request.get_data()))
    app.register_blueprint(management_blueprint())
    api = Api(world, flask_transport(app))
    caller, old = api.issue(), api.issue("users.read")
    assert api.send("POST", f"{TOKENS}/{old.token.id}/rotate", caller, {"overlap": "PT0S"}).status == 201
    assert not api.works(old.text.reveal())


def test_a_flask_applications_own_limit_of_bodies_is_told_in_the_same_form(world: World) -> None:
    app = flask_app(world, MAX_CONTENT_LENGTH=10)
    app.register_blueprint(management_blueprint())
    api = Api(world, flask_transport(app))
    fails_with(api.send("POST", TOKENS, api.issue(), {"scopes": "users.read"}), 413, "E0000001")


# A caller that the guard has let in already, whatever has happened since

STRANGER = Identity("tool", "tool", "x", Scopes([MANAGE, ALL]), issuer="https://idp")
BODIES_OF: dict[str, Any] = {
    "issue_token": {"scopes": "users.read"},
    "update_token": {"network": {"connection": "ANYWHERE"}},
}


def manage(world: World, caller: Identity, name: str, token_id: str = "", sent: Any = None) -> Any:
    """Return the answer to the call of this name, with the usual body of such a call unless another is ``sent``."""
    (route,) = [route for route in ROUTES if route.name == name]
    body = json.dumps(BODIES_OF.get(name, {}) if sent is None else sent).encode()
    call = Call(caller, TOKENS, {}, lambda length: body, {}, "" if name == "issue_token" else token_id)
    return Management(world.issuer, AuthScheme(), Rights()).answer(route, call)


def let_in(world: World, scopes: str) -> Identity:
    """Return who has been let in with a token of a new client, both with these scopes."""
    client, token = world.client(scopes=scopes), world.issue(scopes).token
    return Identity(client.id, client.name, token.id, token.scopes)


def anothers(world: World, **more: Any) -> Token:
    """Return a token of another client, with what else it should have."""
    world.client("shipping", "users.read")
    return world.issue("users.read", client="shipping", **more).token


def test_who_comes_from_another_issuer_has_no_token_here(world: World) -> None:
    """The issuer's ids are not ours, even if they look the same."""
    own = let_in(world, "users.read")
    stranger = Identity(own.client_id, "billing", own.token_id, own.scopes, issuer="https://idp.example")
    assert [manage(world, stranger, name).status for name in ("issue_token", "revoke_current_token")] == [403, 403]
    for name in ("get_token", "revoke_token", "rotate_token"):
        assert manage(world, stranger, name, own.token_id).status == 404
    assert manage(world, stranger, "list_tokens").body == b"[]"
    assert world.store.records()[0].token.revoked_at is None


@pytest.mark.parametrize("jti", ["", "x" * 255], ids=["an id of ours", "the longest"])
def test_on_record_another_issuers_token_is_not_taken_for_one_of_ours(world: World, jti: str) -> None:
    own = let_in(world, "users.read")
    stranger = Identity("tool", "tool", jti or own.token_id, STRANGER.scopes, issuer=STRANGER.issuer)
    assert manage(world, stranger, "revoke_token", anothers(world).id).status == 204
    local = local_token_id("https://idp", stranger.token_id)
    assert world.store.events(1)[0].actor == f"token:{local} (tool of https://idp)"


@pytest.mark.parametrize("client_id", ["c" * 255, "c" * 230 + " " + "c" * 24], ids=["cut", "cut after a space"])
def test_the_longest_names_of_another_issuers_keep_nobody_from_revoking(world: World, client_id: str) -> None:
    target = anothers(world)
    stranger = Identity(client_id, client_id, "j" * 255, STRANGER.scopes, issuer=f"https://{'i' * 243}.com")
    assert manage(world, stranger, "revoke_token", target.id).status == 204
    assert world.store.records()[0].token.revoked_at is not None
    local = local_token_id(stranger.issuer, stranger.token_id)
    assert world.store.events(1)[0].actor == f"token:{local} ({client_id}"[:255].rstrip()


def before_the_next_write(world: World, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let ``happens`` run between what a call reads and what it writes; a replica has not heard of it then."""
    begin = world.store.transaction

    def second() -> Any:
        monkeypatch.setattr(world.store, "transaction", begin)
        before = {record.token.id: record for record in world.store.records()}
        clients = {client.id: client for client in world.store.clients()}
        happens()
        monkeypatch.setattr(world.store, "find", before.get)
        monkeypatch.setattr(world.store, "client", clients.get)
        return begin()

    monkeypatch.setattr(world.store, "transaction", second)


@pytest.mark.parametrize("end", ["revoke", "disable", "set_scopes"])
@pytest.mark.parametrize("name", ["issue_token", "rotate_token"])
def test_who_has_just_been_stopped_hands_nothing_on(
    world: World, name: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that has not heard of it yet lets the request in, but what the request creates would stay."""
    caller = let_in(world, f"users.read {MANAGE} {ALL}")
    match end:
        case "revoke":
            world.issuer.revoke(caller.token_id, actor="tests")
        case "disable":
            world.issuer.disable(caller.client_id, actor="tests")
        case "set_scopes":
            world.issuer.set_scopes(caller.client_id, f"{MANAGE} {ALL}", actor="tests")
    target = anothers(world)
    sent = {"scopes": "users.read", "clientId": target.client_id} if name == "issue_token" else None
    assert manage(world, caller, name, target.id, sent).status == (403 if end == "set_scopes" else 401)
    assert caplog.messages[-1].startswith(f"{name} refused to token {caller.token_id}: ")
    assert {record.token.id for record in world.store.records()} == {caller.token_id, target.id}


@pytest.mark.parametrize("comes", ["before", "between"])
@pytest.mark.parametrize(("left", "status"), [(ALL, 403), (MANAGE, 404)])
@pytest.mark.parametrize("name", ["issue_token", "rotate_token", "update_token", "revoke_token"])
def test_whose_rights_were_just_withdrawn_manages_nothing(
    world: World, name: str, left: str, status: int, comes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is still valid, and a process that has not heard of the change believes that it may manage others."""
    caller, target = let_in(world, f"users.read {MANAGE} {ALL}"), anothers(world)
    before = world.store.records()

    def withdraw() -> None:
        world.issuer.set_scopes(caller.client_id, f"users.read {left}", actor="tests")

    if comes == "before":
        withdraw()
    else:
        before_the_next_write(world, monkeypatch, withdraw)
    network = {"connection": "ZONE", "include": ["10.0.0.0/8"]}
    sent = {"issue_token": {"scopes": "users.read", "clientId": target.client_id}, "update_token": {"network": network}}
    answer = manage(world, caller, name, target.id, sent.get(name))
    assert answer.status == (400 if (name, left) == ("issue_token", MANAGE) else status)
    if status == 403:
        assert f'scope="{MANAGE}"' in dict(answer.headers)["WWW-Authenticate"]
    assert [record.token for record in world.store.records()] == [record.token for record in before]


def test_rights_from_an_enumeration_are_named_by_their_values() -> None:
    kind = Enum("Mixed", {"SEE": "tokens:see", "CHANGE": "tokens:change", "ANY": "tokens:any"}, type=str)
    assert repr(Rights(*kind)) == repr(Rights("tokens:see", "tokens:change", "tokens:any"))


def test_nor_does_it_meet_the_tokens_of_others(world: World) -> None:
    caller, target = let_in(world, f"{READ} {ALL}"), anothers(world)

    def met() -> tuple[set[str], int]:
        listed = json.loads(manage(world, caller, "list_tokens").body)
        return {shown["id"] for shown in listed}, manage(world, caller, "get_token", target.id).status

    assert met() == ({caller.token_id, target.id}, 200)
    world.issuer.set_scopes(caller.client_id, READ, actor="tests")
    assert met() == ({caller.token_id}, 404)


@pytest.mark.parametrize("name", ["rotate_token", "update_token", "revoke_token"])
def test_a_token_that_was_pruned_meanwhile_is_not_there(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = let_in(world, f"users.read {MANAGE}")
    target = world.issue("users.read").token

    def prune() -> None:
        with world.store.transaction() as tx:
            tx.delete_tokens([target.id])

    before_the_next_write(world, monkeypatch, prune)
    assert manage(world, caller, name, target.id).status == 404


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [("revoke", 401, "revoked"), ("disable", 401, "client disabled"), ("set_scopes", 403, f"lacks {MANAGE}")],
)
def test_another_issuers_client_that_was_just_stopped_revokes_nothing(
    world: World, end: str, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = anothers(world)
    client = register_client(world.issuer, "https://idp", "tool", actor="tests")
    match end:
        case "revoke":
            revoke_token(world.issuer, "https://idp", "tool", "x", actor="tests")
        case "disable":
            world.issuer.disable(client.id, actor="tests")
        case "set_scopes":
            world.issuer.set_scopes(client.id, ALL, actor="tests")
    assert manage(world, STRANGER, "revoke_token", target.id).status == status
    assert target in [record.token for record in world.store.records()]
    assert caplog.messages == [f"revoke_token refused to token x: {reason}"]


def test_a_client_is_not_taken_for_another_issuers_by_its_name(world: World) -> None:
    world.client(local_client_id("https://idp", "tool"), "users.read")
    world.issuer.disable(local_client_id("https://idp", "tool"), actor="tests")
    assert manage(world, STRANGER, "revoke_token", anothers(world).id).status == 204


@pytest.mark.parametrize("name", ["issue_token", "rotate_token", "update_token"])
def test_nothing_is_handed_on_after_a_revocation_that_came_between(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers wait for each other, and there may be many of them if a thief sends many requests."""
    caller = let_in(world, f"users.read {MANAGE}")
    target = world.issue("users.read", conditions=INSIDE).token
    before_the_next_write(world, monkeypatch, lambda: world.issuer.revoke(caller.token_id, actor="tests"))
    assert manage(world, caller, name, target.id).status == 401
    assert world.store.events(1)[0].kind == "token.revoked"
    assert [record.token for record in world.store.records() if record.token.id != caller.token_id] == [target]


@pytest.mark.parametrize("limited", [True, False], ids=["in networks", "in time"])
@pytest.mark.parametrize("name", ["issue_token", "rotate_token", "update_token"])
def test_who_was_limited_meanwhile_hands_on_no_more_than_is_left(
    world: World, name: str, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = let_in(world, f"users.read {MANAGE}")
    had = INSIDE if name == "update_token" else Conditions()
    target = world.issue("users.read", conditions=had).token

    def limit() -> None:
        if limited:
            world.issuer.set_token_conditions(caller.token_id, INSIDE, actor="tests", instead_of=Conditions())
        else:
            world.rotate(caller.token_id)

    before_the_next_write(world, monkeypatch, limit)
    known = {record.token.id for record in world.store.records()}
    assert manage(world, caller, name, target.id).status == 403
    held = {record.token.id: record.token for record in world.store.records()}
    assert held.keys() - known == {held[caller.token_id].successor_id} - {None}
    assert held[target.id] == target


@pytest.mark.parametrize(
    ("name", "widened"), [("rotate_token", "token"), ("rotate_token", "client"), ("issue_token", "client")]
)
def test_what_was_widened_meanwhile_is_handed_on_by_nobody_who_has_less(
    world: World, name: str, widened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = let_in(world, f"users.read {MANAGE} {ALL}")
    world.issuer.set_conditions(caller.client_id, INSIDE, actor="tests")
    target = anothers(world, conditions=INSIDE if widened == "token" else None)
    if widened == "client":
        world.issuer.set_conditions(target.client_id, INSIDE, actor="tests")

    def widen() -> None:
        if widened == "client":
            world.issuer.set_conditions(target.client_id, Conditions(), actor="tests")
        else:
            world.issuer.set_token_conditions(target.id, Conditions(), actor="tests", instead_of=INSIDE)

    before_the_next_write(world, monkeypatch, widen)
    sent = {"scopes": "users.read", "clientId": target.client_id} if name == "issue_token" else None
    assert manage(world, caller, name, target.id, sent).status == 403
    assert {record.token.id for record in world.store.records()} == {caller.token_id, target.id}
