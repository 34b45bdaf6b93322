"""The contract of every framework's service, tested over real HTTP. A framework's file defines how to run its own.

The service has /open (no token required), /any (any token), /read (users:read), /manage (users:read and
users:manage), /either (users:manage or groups:read), /cached (any token; sets caching headers of its own), /revoke (the
revocation endpoint, for the holder of a token) and /introspect (the introspection endpoint, for callers with
users:manage).
"""

from __future__ import annotations

import json
import os
import string
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from sample_flask.playground import gunicorn
from tokenguard import Conditions, Issuer, ScopeCatalog, SigningKeys, TokenFormat
from tokenguard.clock import SECOND, now
from tokenguard.endpoints import FORM, MAX_BODY
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import EventFilter, EventKind, State

from .conftest import KEY, OTHER_KEY, mistyped
from .server import Answer, Server
from .services.common import CATALOG, ISSUER, METADATA_PATH, RESOURCE

#: The end of every challenge of a service that publishes its metadata.
WHERE = f'resource_metadata="https://api.example.com{METADATA_PATH}"'
LOGIN = "https://login.example.com/oauth2/default"

LOGGING = """
[loggers]
keys=root
[handlers]
keys=stderr
[formatters]
keys=
[logger_root]
level=DEBUG
handlers=stderr
[handler_stderr]
class=StreamHandler
args=()
"""


class Running:
    """A running service, and an issuer on its database."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.store = SQLAlchemyStore(url)
        self.tokens = TokenFormat(SigningKeys(KEY))
        self.issuer = Issuer(self.store, self.tokens, catalog=ScopeCatalog(CATALOG))
        self.texts: list[str] = []

    def issue(self, scopes: str = "users:read", *, client: str = "billing", **more: Any) -> tuple[str, str]:
        if self.store.client(client) is None:
            self.issuer.register(client, "*", actor="tests")
        token, text = self.issuer.issue(client, scopes, actor="tests", **more)
        self.texts.append(text.reveal())
        return token.id, text.reveal()


@contextmanager
def broken(store: SQLAlchemyStore) -> Iterator[None]:
    """Hide the table of tokens until the block ends."""
    with store._writing.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE tokenguard_token RENAME TO elsewhere")
    try:
        yield
    finally:
        with store._writing.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO tokenguard_token")


def same_refusal(answer: Answer, status: int, code: str) -> None:
    """Check everything that a refusal must carry: challenge, problem body, caching headers."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Vary"].removeprefix("Accept, ") == "Authorization, X-API-Key"
    assert "Set-Cookie" not in answer.headers
    problem = answer.json
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, "about:blank")
    assert problem["title"]
    assert problem["detail"]
    challenges = answer.headers.get_all("WWW-Authenticate", [])
    if status in (429, 503):
        assert challenges == []
        assert int(answer.headers["Retry-After"]) > 0
    else:
        assert len(challenges) == 1
        assert challenges[0].startswith('Bearer realm="api"')
        assert challenges[0].endswith(f", {WHERE}")


def revoke(
    running: Running, form: str, *, path: str = "/revoke", content_type: str = FORM, method: str = "POST"
) -> Answer:
    return running.server.request(method, path, [("Content-Type", content_type)], form.encode())


def same_revocation(answer: Answer) -> None:
    """Check the answer to a revocation, whether there was something to revoke or not (RFC 7009 section 2.2)."""
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in answer.headers


def introspect(
    running: Running,
    caller: str | None,
    form: str,
    *,
    path: str = "/introspect",
    content_type: str = FORM,
    method: str = "POST",
) -> Answer:
    headers = [("Content-Type", content_type)] + ([("Authorization", f"Bearer {caller}")] if caller else [])
    return running.server.request(method, path, headers, form.encode())


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def same_inactive(answer: Answer) -> None:
    """Check the answer for any token that is not active (RFC 7662 section 2.2)."""
    assert (answer.status, answer.json) == (200, {"active": False})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"


def same_error(answer: Answer, status: int, code: str) -> None:
    """Check an error of the revocation or introspection endpoint (RFC 6749 section 5.2)."""
    assert (answer.status, answer.json["error"]) == (status, code)
    assert answer.json["error_description"].isascii()
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"


class FrameworkContract:
    app: str
    #: Further environment variables of the service.
    environ: ClassVar[Mapping[str, str]] = {}
    #: The function that serves it, and further options of the server.
    serve = staticmethod(gunicorn)
    options: tuple[str, ...] = ()

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        folder: Path = tmp_path_factory.mktemp("service")
        url = f"sqlite:///{folder / 'tokens.db'}"
        (folder / "logging.ini").write_text(LOGGING)
        SQLAlchemyStore(url).upgrade()
        # Every worker must see at once what this process does to its tokens.
        environ = {"TOKENGUARD_DATABASE_URL": url, "TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_STALENESS": "0"}
        environ |= {"TOKENGUARD_RESOURCE": RESOURCE, "TOKENGUARD_AUTHORIZATION_SERVERS": LOGIN, **cls.environ}
        options = ["--log-config", str(folder / "logging.ini"), *cls.options]
        with cls.serve(cls.app, {**os.environ, **environ}, options=options) as serving:
            running = Running(Server(int(serving.url.rpartition(":")[2]), serving.log), url)
            yield running
            running.store.close()

    def test_no_credential_is_challenged_without_an_error(self, running: Running) -> None:
        answer = running.server.get("/read")
        same_refusal(answer, 401, "missing_token")
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="api", {WHERE}'

    @pytest.mark.parametrize("value", ["Basic dXNlcjpwYXNz", "Digest a=b", "Bearerx", "Token abc", "Bearer\tabc", ""])
    def test_another_scheme_is_no_credential(self, running: Running, value: str) -> None:
        answer = running.server.request("GET", "/read", [("Authorization", value)])
        same_refusal(answer, 401, "missing_token")

    def test_a_valid_token_reaches_the_view_that_sees_its_client(self, running: Running) -> None:
        _, text = running.issue()
        answer = running.server.get("/read", text)
        assert (answer.status, answer.json) == (200, {"client": "billing"})
        assert answer.headers["Cache-Control"] == "private"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"
        assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize(
        "form",
        [
            "Bearer {}",
            "bearer {}",
            "BEARER {}",
            "bEaReR   {}",
            "SSWS {}",
            "SSWS{}",
            "ssws{}",
            "Bearer {} ",
            "\tBearer {}",
        ],
    )
    def test_the_forms_in_which_a_token_may_be_sent(self, running: Running, form: str) -> None:
        _, text = running.issue()
        answer = running.server.request("GET", "/read", [("Authorization", form.format(text))])
        assert answer.status == 200

    def test_a_further_header_carries_the_bare_token(self, running: Running) -> None:
        _, text = running.issue()
        assert running.server.request("GET", "/read", [("X-API-Key", text)]).status == 200
        assert running.server.request("GET", "/read", [("x-api-key", text)]).status == 200
        both = [("X-API-Key", text), ("Authorization", "Basic dXNlcjpwYXNz")]
        assert running.server.request("GET", "/read", both).status == 200
        same_refusal(running.server.request("GET", "/read", [("X-API-Key", "Bearer " + text)]), 400, "invalid_request")

    def test_more_than_one_credential_is_a_bad_request(self, running: Running) -> None:
        _, text = running.issue()
        bearer = ("Authorization", f"Bearer {text}")
        for path, headers in [
            ("/read", [bearer, bearer]),
            ("/read", [bearer, ("X-API-Key", text)]),
            ("/read", [("X-API-Key", text), ("X-API-Key", text)]),
            ("/read", [("Authorization", f"Bearer {text}, Bearer {text}")]),
            (f"/read?access_token={text}", [bearer]),
            ("/read?a=1&access_token=", [bearer]),
            ("/read?access%5Ftoken=x", [("X-API-Key", text)]),
        ]:
            same_refusal(running.server.request("GET", path, headers), 400, "invalid_request")
        assert running.server.request("GET", "/read?my_access_tokens=1&x=100%25", [bearer]).status == 200

    def test_a_token_in_the_query_or_the_body_is_never_read(self, running: Running) -> None:
        _, text = running.issue("users:manage")
        same_refusal(running.server.get(f"/read?access_token={text}"), 401, "missing_token")
        form = [("Content-Type", FORM)]
        answer = running.server.request("POST", "/manage", form, f"access_token={text}".encode())
        same_refusal(answer, 401, "missing_token")

    @pytest.mark.parametrize(
        "value",
        [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            'Bearer "x"',
            "Bearer ü".encode("latin-1"),
            "Bearer ü".encode(),
            "Bearer a=b",
            "Bearer =",
            "SSWS",
            "SSWS a b",
            b"Bearer \xa0x",
        ],
    )
    def test_a_malformed_credential_is_a_bad_request(self, running: Running, value: str | bytes) -> None:
        same_refusal(running.server.request("GET", "/read", [("Authorization", value)]), 400, "invalid_request")

    def test_whatever_is_wrong_with_a_token_the_caller_is_told_the_same(self, running: Running) -> None:
        revoked_id, revoked = running.issue()
        running.issuer.revoke(revoked_id, actor="tests")
        _, disabled = running.issue(client="disabled")
        running.issuer.disable("disabled", actor="tests")
        long_ago = Issuer(running.store, running.tokens, clock=lambda: now() - 10**12)
        expired = long_ago.issue("billing", "users:read", expires_in=60, actor="tests").text.reveal()
        dropped_key = TokenFormat(SigningKeys(OTHER_KEY)).mint().text.reveal()
        unknown = running.tokens.mint().text.reveal()
        _, valid = running.issue()
        wrong = [valid[:-1] + other for other in string.ascii_letters[:3] if other != valid[-1]]
        answers = [
            running.server.get("/read", text)
            for text in [
                revoked,
                disabled,
                expired,
                dropped_key,
                unknown,
                "x",
                "tg_x_y",
                valid + "=",
                "a." * 50 + "a",
                *wrong,
            ]
        ]
        for answer in answers:
            same_refusal(answer, 401, "invalid_token")
        for answer in answers:
            del answer.headers["Date"]
        said = {(answer.body, tuple(answer.headers.items())) for answer in answers}
        assert len(said) == 1
        assert answers[0].headers["WWW-Authenticate"] == f'Bearer realm="api", error="invalid_token", {WHERE}'

    def test_a_scope_that_is_lacking_is_named(self, running: Running) -> None:
        _, text = running.issue("users:read")
        answer = running.server.get("/manage", text)
        same_refusal(answer, 403, "insufficient_scope")
        assert 'error="insufficient_scope", scope="users:read users:manage"' in answer.headers["WWW-Authenticate"]
        assert answer.json["scope"] == "users:read users:manage"
        assert "users:manage" in answer.json["detail"]

    def test_all_of_and_any_of(self, running: Running) -> None:
        _, manage = running.issue("users:manage")
        _, groups = running.issue("groups:read")
        _, everything = running.issue("*")
        statuses = {
            path: [running.server.get(path, text).status for text in (manage, groups, everything)]
            for path in ("/any", "/read", "/manage", "/either")
        }
        assert statuses == {
            "/any": [200, 200, 200],
            "/read": [200, 403, 200],
            "/manage": [200, 403, 200],
            "/either": [200, 200, 200],
        }
        _, read = running.issue("users:read")
        answer = running.server.get("/either", read)
        same_refusal(answer, 403, "insufficient_scope")
        assert answer.json["scope"] == "users:manage groups:read"

    def test_a_view_that_asks_for_no_token_refuses_nobody_and_knows_who_is_known(self, running: Running) -> None:
        token_id, text = running.issue()
        assert running.server.get("/open", text).json == {"client": "billing"}
        for headers in ([], [("Authorization", "Bearer x")], [("Authorization", "Bearer a b")]):
            answer = running.server.request("GET", "/open", headers)
            assert (answer.status, answer.json) == (200, {"client": None})
        running.issuer.revoke(token_id, actor="tests")
        assert running.server.get("/open", text).json == {"client": None}

    def test_a_views_own_caching_headers_stay(self, running: Running) -> None:
        _, text = running.issue()
        answer = running.server.get("/cached", text)
        assert answer.headers["Cache-Control"] == "max-age=60"
        assert answer.headers["Vary"] == "Accept, authorization, X-API-Key"

    def test_head_is_treated_as_get(self, running: Running) -> None:
        _, text = running.issue()
        assert running.server.request("HEAD", "/read", [("Authorization", f"Bearer {text}")]).status == 200
        refused = running.server.request("HEAD", "/read")
        assert (refused.status, refused.body) == (401, b"")
        assert refused.headers["WWW-Authenticate"] == f'Bearer realm="api", {WHERE}'

    def test_anybody_is_told_what_the_service_is(self, running: Running) -> None:
        answer = running.server.get(METADATA_PATH)
        assert answer.status == 200
        assert answer.json == {
            "resource": RESOURCE,
            "resource_name": "api",
            "authorization_servers": [LOGIN],
            "scopes_supported": list(CATALOG),
            "bearer_methods_supported": ["header"],
        }
        told = {"application/json", "public, max-age=3600", str(len(answer.body)), "*"}
        names = ("Content-Type", "Cache-Control", "Content-Length", "Access-Control-Allow-Origin")
        for headers in ([], [("Authorization", "Bearer x")], [("Authorization", f"Bearer {running.issue()[1]}")]):
            for method, body in (("GET", answer.body), ("HEAD", b"")):
                same = running.server.request(method, METADATA_PATH, headers)
                assert (same.status, same.body, {same.headers[name] for name in names}) == (200, body, told)

    def test_what_the_service_is_can_only_be_read(self, running: Running) -> None:
        for method in ("POST", "PUT", "DELETE"):
            refused = running.server.request(method, METADATA_PATH)
            assert refused.status == 405
            assert set(refused.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        preflight = [
            ("Origin", "https://example.com"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "mcp-protocol-version"),
        ]
        answer = running.server.request("OPTIONS", METADATA_PATH, preflight)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == answer.headers["Access-Control-Allow-Headers"] == "*"

    @pytest.mark.parametrize("path", ["/read", "/either", "/revoke", "/introspect"])
    def test_a_preflight_passes_without_running_the_view(self, running: Running, path: str) -> None:
        preflight = [("Origin", "https://example.com"), ("Access-Control-Request-Method", "GET")]
        answer = running.server.request("OPTIONS", path, preflight)
        assert answer.status in (200, 204)
        assert answer.body == b""
        for missing in preflight:
            half = [header for header in preflight if header != missing]
            refused = running.server.request("OPTIONS", path, half)
            assert refused.status == 401 or "client" not in refused.body.decode()

    def test_disabling_and_revoking_are_seen_by_every_worker(self, running: Running) -> None:
        token_id, text = running.issue(client="partner")
        assert {running.server.get("/read", text).status for _ in range(10)} == {200}
        running.issuer.disable("partner", actor="tests")
        assert {running.server.get("/read", text).status for _ in range(10)} == {401}
        running.issuer.enable("partner", actor="tests")
        assert {running.server.get("/read", text).status for _ in range(10)} == {200}
        running.issuer.revoke(token_id, actor="tests")
        assert {running.server.get("/read", text).status for _ in range(10)} == {401}

    def test_a_token_is_used_where_it_may_be(self, running: Running) -> None:
        _, elsewhere = running.issue(conditions=Conditions.parse(["10.0.0.0/8"]))
        same_refusal(running.server.get("/read", elsewhere), 403, "network_not_allowed")
        assert running.server.get("/open", elsewhere).json == {"client": None}
        _, here = running.issue(conditions=Conditions.parse(["127.0.0.0/8"]))
        forged = [("Authorization", f"Bearer {elsewhere}"), ("X-Forwarded-For", "10.0.0.1")]
        assert running.server.get("/read", here).status == 200
        assert running.server.request("GET", "/read", forged).status == 403

    def test_a_token_is_used_as_often_as_it_may_be(self, running: Running) -> None:
        _, text = running.issue(conditions=Conditions.parse(rate="2/day"))
        # Here each of the two workers keeps a count of its own.
        answers = [running.server.get("/read", text) for _ in range(5)]
        assert answers[0].headers["RateLimit-Policy"] == '"tokenguard";q=2;w=86400'
        assert answers[0].headers["RateLimit"].startswith('"tokenguard";r=1;t=')
        limited = next(answer for answer in answers if answer.status != 200)
        same_refusal(limited, 429, "rate_limited")
        assert "2/day" in limited.json["detail"]
        assert limited.headers["RateLimit"].startswith('"tokenguard";r=0;t=')

    def test_a_use_is_written_down_after_the_answer(self, running: Running) -> None:
        token_id, text = running.issue("users:manage groups:read")
        before = now()
        for _ in range(200):
            assert running.server.get("/read", text).status == 200
            record = running.store.find(token_id)
            if record is not None and record.use is not None:
                break
        assert record is not None
        assert record.use is not None
        assert (record.use.address, list(record.use.scopes)) == ("127.0.0.1", ["users:read"])
        assert before <= record.use.last_used_at <= now()
        assert sum(running.store.use_by_day(token_id).values()) >= 1

    def test_both_texts_work_while_a_rotation_overlaps(self, running: Running) -> None:
        token_id, old = running.issue()
        _, text = running.issuer.rotate(token_id, overlap=3600, actor="tests")
        assert [running.server.get("/read", given).status for given in (old, text.reveal())] == [200, 200]
        running.issuer.revoke(token_id, actor="tests")
        assert [running.server.get("/read", given).status for given in (old, text.reveal())] == [401, 200]

    def test_whoever_holds_a_token_revokes_it(self, running: Running) -> None:
        token_id, text = running.issue(conditions=Conditions.parse(["10.0.0.0/8"]))  # revocable from any network
        for _ in range(2):
            same_revocation(revoke(running, f"token={text}&token_type_hint=refresh_token"))
        record = running.store.find(token_id)
        assert record is not None
        assert record.state(now()) is State.REVOKED
        (event,) = running.store.events(9, EventFilter(token_id=token_id, kind=EventKind.TOKEN_REVOKED))
        assert event.actor == f"holder:{token_id}"
        assert event.data["reason"] == [None, "revoked by whoever holds it"]

    def test_what_is_no_token_is_answered_as_one_that_is_revoked(self, running: Running) -> None:
        _, text = running.issue()
        before = running.store.events(1)
        forged = mistyped(text)
        dropped_key = TokenFormat(SigningKeys(OTHER_KEY)).mint().text.reveal()
        unknown = running.tokens.mint().text.reveal()
        broken = f"{text[:9]}%20{text[9:]}"
        for given in (forged, dropped_key, unknown, "x", text[:-1], text + "x", broken, "%ff%00", "x" * 8000):
            same_revocation(revoke(running, f"token={given}"))
        assert running.store.events(1) == before
        assert running.server.get("/read", text).status == 200

    def test_a_request_that_names_no_token_to_revoke_is_refused(self, running: Running) -> None:
        _, text = running.issue()
        as_json = json.dumps({"token": text})
        for answer in (
            revoke(running, ""),
            revoke(running, "token="),
            revoke(running, f"Token={text}"),
            revoke(running, f"token={text}&token={text}"),
            revoke(running, "", path=f"/revoke?token={text}"),
            revoke(running, f"token={text}", content_type="text/plain"),
            revoke(running, as_json, content_type="application/json"),
            running.server.request("POST", "/revoke", [("Authorization", f"Bearer {text}")], b""),
        ):
            same_error(answer, 400, "invalid_request")
        same_error(revoke(running, f"token={text}&padding={'x' * MAX_BODY}"), 413, "invalid_request")
        assert running.server.get("/read", text).status == 200

    def test_a_token_is_revoked_with_post_alone(self, running: Running) -> None:
        _, text = running.issue()
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            answer = revoke(running, f"token={text}", path=f"/revoke?token={text}", method=method)
            same_error(answer, 405, "invalid_request")
            assert answer.headers["Allow"] == "POST"
        assert running.server.request("HEAD", "/revoke").status == 405
        assert running.server.get("/read", text).status == 200

    def test_another_service_is_told_what_a_token_is_worth(self, running: Running) -> None:
        _, caller = running.issue("users:manage")
        token_id, text = running.issue("users:manage groups:read", expires_in=3600)
        record = running.store.find(token_id)
        assert record is not None
        assert record.token.expires_at is not None
        for hint in ("", "&token_type_hint=access_token", "&token_type_hint=refresh_token&client_address=192.0.2.1"):
            answer = introspect(running, caller, f"token={text}{hint}")
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.json == {
                "active": True,
                "scope": "groups:read users:manage users:read",
                "client_id": record.client.id,
                "token_type": "Bearer",
                "iat": record.token.created_at // SECOND,
                "exp": record.token.expires_at // SECOND,
                "jti": token_id,
                "iss": ISSUER,
            }
        running.issuer.revoke(token_id, actor="tests")
        same_inactive(introspect(running, caller, f"token={text}"))
        assert running.store.find(token_id).last_used_at is None

    def test_of_whatever_is_not_active_nothing_is_told(self, running: Running) -> None:
        _, caller = running.issue("users:manage")
        _, text = running.issue()
        _, limited = running.issue(conditions=Conditions.parse(["10.0.0.0/8"]))
        forged = mistyped(text)
        for given in (
            forged,
            TokenFormat(SigningKeys(OTHER_KEY)).mint().text.reveal(),
            running.tokens.mint().text.reveal(),
            limited,
            f"{limited}&client_address=192.0.2.1",
            f"{limited}&client_address=x",
            f"{text}%00",
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
            "%ff",
            "x",
            "x" * 8000,
        ):
            same_inactive(introspect(running, caller, f"token={given}"))
        assert introspect(running, caller, f"token={limited}&client_address=10.1.2.3").json["active"] is True
        assert introspect(running, caller, f"token={text}").json["active"] is True

    def test_nobody_is_told_without_a_token_that_may_ask(self, running: Running) -> None:
        _, text = running.issue("users:read")
        for form in (f"token={text}", ""):
            same_refusal(introspect(running, None, form), 401, "missing_token")
            same_refusal(introspect(running, "forged", form), 401, "invalid_token")
            same_refusal(introspect(running, text, form), 403, "insufficient_scope")
        same_refusal(running.server.request("GET", f"/introspect?token={text}"), 401, "missing_token")

    def test_a_stock_client_asks_with_its_token_as_its_password(self, running: Running) -> None:
        """With client_secret_basic (RFC 6749 section 2.3.1)."""
        caller_id, caller = running.issue("users:manage", client="R&D: café")
        client = running.store.client("R&D: café")
        assert client is not None
        token_id, text = running.issue()
        running.issuer.register("other", "*", actor="tests")

        def ask(*headers: tuple[str, str], path: str = "/introspect") -> Answer:
            form = ("Content-Type", FORM)
            return running.server.request("POST", path, [form, *headers], f"token={text}".encode())

        for user in (client.id, quote(client.name)):
            assert ask(basic(user, caller)).json["jti"] == token_id
        name, value = basic(client.id, caller)
        assert ask((name, value.replace("Basic", "bAsIc "))).json["active"] is True
        for user in ("other", running.store.client("other").id, "", "R&D", caller_id, caller, client.id.lower()):
            same_refusal(ask(basic(user, caller)), 401, "invalid_token")
        forged = mistyped(caller)
        for password in (forged, "x", text[:-1]):
            same_refusal(ask(basic(client.id, password)), 401, "invalid_token")
        same_refusal(ask(basic("billing", text)), 403, "insufficient_scope")
        for password in ("", "a b", "a,b", "ü", "%0A", f"{caller}, Bearer {caller}"):
            same_refusal(ask(basic(client.id, password)), 400, "invalid_request")
        for malformed in ("Basic x", "Basic /w==", "Basic " + "x" * 7000 + "-"):
            same_refusal(ask((name, malformed)), 400, "invalid_request")
        bearer = (name, f"Bearer {caller}")
        for both in ([(name, value), bearer], [bearer, (name, value)], [(name, value), ("X-API-Key", caller)]):
            same_refusal(ask(*both), 400, "invalid_request")
        same_refusal(ask((name, value), path="/introspect?access_token=x"), 400, "invalid_request")
        same_refusal(ask((name, value), path="/manage"), 401, "missing_token")
        running.issuer.revoke(caller_id, actor="tests")
        same_refusal(ask((name, value)), 401, "invalid_token")

    def test_a_stock_client_is_limited_as_any_caller(self, running: Running) -> None:
        form, body = ("Content-Type", FORM), b"token=x"

        def ask(limits: Conditions) -> list[Answer]:
            _, caller = running.issue("users:manage", conditions=limits)
            headers = [form, basic("billing", caller)]
            return [running.server.request("POST", "/introspect", headers, body) for _ in range(5)]

        same_refusal(ask(Conditions.parse(["10.0.0.0/8"]))[0], 403, "network_not_allowed")
        answers = ask(Conditions.parse(["127.0.0.0/8"], rate="2/day"))
        assert answers[0].headers["RateLimit"].startswith('"tokenguard";r=1;t=')
        # Here each of the two workers keeps a count of its own.
        same_refusal(next(answer for answer in answers if answer.status != 200), 429, "rate_limited")

    def test_a_request_that_names_no_token_to_introspect_is_refused(self, running: Running) -> None:
        _, caller = running.issue("users:manage")
        _, text = running.issue()
        for answer in (
            introspect(running, caller, ""),
            introspect(running, caller, "token="),
            introspect(running, caller, f"token={text}&token={text}"),
            introspect(running, caller, f"token={text}&client_address=10.0.0.1&client_address=10.0.0.2"),
            introspect(running, caller, "", path=f"/introspect?token={text}"),
            introspect(running, caller, f"token={text}", content_type="text/plain"),
            introspect(running, caller, json.dumps({"token": text}), content_type="application/json"),
        ):
            same_error(answer, 400, "invalid_request")
        same_error(introspect(running, caller, f"token={text}&padding={'x' * MAX_BODY}"), 413, "invalid_request")
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            answer = introspect(running, caller, f"token={text}", method=method)
            same_error(answer, 405, "invalid_request")
            assert answer.headers["Allow"] == "POST"
        assert introspect(running, caller, "", method="HEAD").status == 405

    @pytest.mark.parametrize("path", ["/revoke", "/introspect"])
    def test_a_form_that_does_not_arrive_whole_is_not_taken_for_another(self, running: Running, path: str) -> None:
        """Half a token must not be reported as revoked, or as not being a token."""
        _, text = running.issue()
        _, caller = running.issue("users:manage")
        form = f"token={text}"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {caller}\r\n"
        head += f"Content-Type: {FORM}\r\nContent-Length: {len(form)}\r\n\r\n"
        for answer in running.server.send(f"{head}{form[:-20]}".encode()):  # none, if the server does not pass it on
            same_error(answer, 400, "invalid_request")

    @pytest.mark.parametrize("path", ["/revoke", "/introspect"])
    def test_a_body_in_broken_chunks_is_the_clients_error(self, running: Running, path: str) -> None:
        _, caller = running.issue("users:manage")
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {caller}\r\n"
        head += f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
        # Of some servers the refusal is their own.
        assert [answer.status for answer in running.server.send(f"{head}6\r\ntoken=\r\nzz\r\n".encode())] == [400]

    def test_a_body_that_does_not_tell_its_length_is_bounded_too(self, running: Running) -> None:
        _, text = running.issue()
        chunks = [f"token={text}&padding=".encode(), *[b"x" * 1000] * 20]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
        headers = [("Content-Type", FORM), ("Transfer-Encoding", "chunked")]
        # Django on a WSGI server treats such a body as empty.
        assert running.server.request("POST", "/revoke", headers, body).status in (400, 413)
        assert running.server.get("/read", text).status == 200

    def test_a_store_that_fails_is_503_and_never_a_yes_or_a_no(self, running: Running) -> None:
        _, text = running.issue()
        with broken(running.store):
            same_refusal(running.server.get("/read", text), 503, "temporarily_unavailable")
            assert running.server.get("/open", text).json == {"client": None}
            same_refusal(running.server.get("/read", "forged"), 401, "invalid_token")
            unable = revoke(running, f"token={text}")
            same_error(unable, 503, "temporarily_unavailable")
            assert int(unable.headers["Retry-After"]) > 0
            same_revocation(revoke(running, "token=forged"))
        assert running.server.get("/read", text).status == 200

    def test_the_log_tells_why_by_the_public_id_and_no_log_ever_holds_a_text(self, running: Running) -> None:
        token_id, text = running.issue()
        running.issuer.revoke(token_id, actor="tests")
        running.server.get("/read", text)
        running.server.get("/manage", running.issue()[1])
        introspect(running, running.issue("users:manage")[1], f"token={running.issue()[1]}")
        # The log arrives through a pipe: once the same worker has answered a later request, the line has been written.
        log = self._log_with(running, f"revoked (token {token_id}")
        assert "401 invalid_token: revoked" in log
        assert "from '127.0.0.1'" in log
        for sent in running.texts:
            assert sent[-70:] not in log
        assert KEY not in log

    @staticmethod
    def _log_with(running: Running, expected: str) -> str:
        for _ in range(2000):
            log = "".join(running.server.log)
            if expected in log:
                return log
            running.server.get("/open")
        raise AssertionError(f"not in the log: {expected}\n{log[-3000:]}")

    def test_bodies_are_valid_problem_details(self, running: Running) -> None:
        problem = json.loads(running.server.get("/read").body)
        assert set(problem) == {"type", "title", "status", "detail", "code"}
