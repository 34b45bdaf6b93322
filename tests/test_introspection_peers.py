"""Introspection with other people's code on the other side of a real connection, and with our own on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6749 import ClientMixin
from authlib.oauth2.rfc7662 import IntrospectionEndpoint, IntrospectTokenValidator
from click.testing import CliRunner, Result
from flask import Flask, jsonify
from flask.testing import FlaskClient

from tokenguard import Conditions, MemoryStore
from tokenguard.cli import command_tree
from tokenguard.clock import isoformat
from tokenguard.config import Options
from tokenguard.flask import TokenGuard, current_identity, introspection_blueprint, require_scopes
from tokenguard.issuer import Issuer

from .conftest import KEY, OTHER_KEY, mistyped
from .server import served
from .services import toolkit_service
from .services.common import CATALOG

SCOPES = CATALOG | {"introspect": "Ask what tokens are worth"}


class Ours:
    """A service with tokens of its own, and the endpoint at which others ask about them."""

    def __init__(self, url: str, issuer: Issuer) -> None:
        self.url, self.issuer = url, issuer
        issuer.register("billing", "users:manage groups:read", actor="tests")
        issuer.register("asking", "introspect", actor="tests")
        self.asking = issuer.issue("asking", "introspect", actor="tests").text.reveal()

    def issue(self, scopes: str = "users:read", **more: Any) -> tuple[str, str]:
        issued = self.issuer.issue("billing", scopes, actor="tests", **more)
        return issued.token.id, issued.text.reveal()


@pytest.fixture(scope="module")
def ours() -> Iterator[Ours]:
    app = guarded("ours", OTHER_KEY, prefix="theirs")
    app.register_blueprint(introspection_blueprint("introspect"))
    with served(app) as url:
        yield Ours(url, app.extensions["tokenguard"].issuer)


def guarded(name: str, key: str, *, prefix: str = "tg", issuers: Any = ()) -> Flask:
    app = Flask(name)
    app.config.update(
        TESTING=True,
        TOKENGUARD_SIGNING_KEY=key,
        TOKENGUARD_DATABASE_URL="memory://",
        TOKENGUARD_PREFIX=prefix,
        TOKENGUARD_SCOPES=SCOPES,
        TOKENGUARD_ISSUERS=issuers,
    )
    TokenGuard(app)

    @app.get("/users")
    @require_scopes("users:read")
    def users() -> dict[str, Any]:
        return {"caller": current_identity.client_id, "issuer": current_identity.issuer}

    return app


def asking(url: str, **more: Any) -> FlaskClient:
    """Return a client of a service that asks this endpoint about other issuers' tokens, on each request."""
    trusted = {"issuer": "http://localhost", "introspection_url": f"{url}/introspect", "max_age": 0}
    return guarded("asking", KEY, issuers=[trusted | more]).test_client()


def status(http: FlaskClient, text: str) -> int:
    return http.get("/users", headers={"Authorization": f"Bearer {text}"}).status_code


# tokenguard asks tokenguard


def test_tokenguard_asks_tokenguard(ours: Ours) -> None:
    http = asking(ours.url, bearer_token=ours.asking, prefix="theirs_")
    token_id, text = ours.issue("users:manage")
    answer = http.get("/users", headers={"Authorization": f"Bearer {text}"})
    client = ours.issuer.store.client("billing")
    assert client is not None
    assert answer.json == {"caller": client.id, "issuer": "http://localhost"}
    assert status(http, ours.issue("groups:read")[1]) == 403
    assert status(http, ours.issue(conditions=Conditions.parse(["127.0.0.0/8"]))[1]) == 401
    assert status(http, mistyped(text)) == 401
    assert status(http, "other_" + text) == 401
    ours.issuer.revoke(token_id, actor="tests")
    assert status(http, text) == 401


def test_a_service_that_may_not_ask_lets_nobody_in(ours: Ours, caplog: pytest.LogCaptureFixture) -> None:
    _, text = ours.issue()
    for credential in (ours.issue()[1], "forged"):
        http = asking(ours.url, bearer_token=credential, prefix="theirs_")
        assert status(http, text) == 503
    assert "it does not accept the credentials of this service (status 403)" in caplog.text
    assert text[-43:] not in caplog.text


def test_tokenguard_asks_tokenguard_as_a_client(ours: Ours) -> None:
    _, text = ours.issue()
    for client, expected in (("asking", 200), ("billing", 503)):
        http = asking(ours.url, client_id=client, client_secret=ours.asking, prefix="theirs_")
        assert status(http, text) == expected


def test_inspect_tells_what_an_opaque_token_is(ours: Ours) -> None:
    asked = {"issuer": "http://localhost", "introspection_url": f"{ours.url}/introspect", "prefix": "theirs_"}

    def inspect(text: str, **more: Any) -> Result:
        options = {"SIGNING_KEY": KEY, "SCOPES": SCOPES, "ISSUERS": [asked | {"bearer_token": ours.asking} | more]}
        tree = command_tree(lambda: (Options.read(options), MemoryStore()))
        return CliRunner().invoke(tree, ["inspect", "--json"], input=text)

    token_id, text = ours.issue(expires_in=3600)
    record = ours.issuer.store.find(token_id)
    assert record is not None
    found = json.loads(inspect(text).stdout)
    # The token's own end, and not that of the answer about it.
    assert (found["token_id"], found["expires_at"]) == (token_id, isoformat(record.token.expires_at or 0))
    assert found["issued_at"] == isoformat(record.token.created_at)
    assert json.loads(inspect(ours.issue()[1]).stdout)["expires_at"] is None
    away = inspect(text, bearer_token="wrong")
    assert (away.exit_code, away.stdout) == (1, "")
    assert "Error: its issuer is unavailable" in away.stderr


# django-oauth-toolkit, on both sides


@pytest.fixture(scope="module")
def toolkit(ours: Ours, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, str(toolkit_service.__file__), str(tmp_path_factory.mktemp("toolkit"))]
    environ = os.environ | {"INTROSPECTION_URL": f"{ours.url}/introspect", "INTROSPECTION_TOKEN": ours.asking}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


AT_TOOLKIT = {"client_id": toolkit_service.CLIENT_ID, "client_secret": toolkit_service.CLIENT_SECRET}


def toolkit_issues(url: str, scope: str) -> str:
    form = {"grant_type": "client_credentials", "scope": scope, **AT_TOOLKIT}
    answer = requests.post(f"{url}/token", data=form, timeout=30)
    found: str = answer.json()["access_token"]
    return found


def test_its_endpoint_is_asked_as_a_client(toolkit: str) -> None:
    http = asking(toolkit, **AT_TOOLKIT)
    text = toolkit_issues(toolkit, "users:read groups:read")
    answer = http.get("/users", headers={"Authorization": f"Bearer {text}"})
    assert answer.json == {"caller": toolkit_service.CLIENT_ID, "issuer": "http://localhost"}
    assert status(http, toolkit_issues(toolkit, "groups:read")) == 403
    assert status(http, text + "x") == 401
    form = {"token": text, **AT_TOOLKIT}
    assert requests.post(f"{toolkit}/revoke", data=form, timeout=30).status_code == 200
    assert status(http, text) == 401


def test_its_endpoint_is_asked_with_a_token(toolkit: str) -> None:
    http = asking(toolkit, bearer_token=toolkit_issues(toolkit, "introspection"))
    assert status(http, toolkit_issues(toolkit, "users:read")) == 200
    without = asking(toolkit, bearer_token=toolkit_issues(toolkit, "users:read"))
    assert status(without, toolkit_issues(toolkit, "users:read")) == 503


def test_it_does_not_know_a_service_with_wrong_credentials(toolkit: str) -> None:
    http = asking(toolkit, **AT_TOOLKIT | {"client_secret": "wrong"})
    assert status(http, toolkit_issues(toolkit, "users:read")) == 503


def test_as_a_resource_server_it_asks_ours(ours: Ours, toolkit: str) -> None:
    def of(text: str) -> int:
        headers = {"Authorization": f"Bearer {text}"}
        return requests.get(f"{toolkit}/users", headers=headers, timeout=30).status_code

    for options in ({}, {"expires_in": 600}):
        assert of(ours.issue("users:manage", **options)[1]) == 200
    assert of(ours.issue("groups:read")[1]) == 403
    token_id, text = ours.issue("users:manage")
    assert of(mistyped(text)) == 403
    ours.issuer.revoke(token_id, actor="tests")
    assert of(text) == 403


# Authlib, on both sides


class Client(ClientMixin):  # type: ignore[misc]
    client_id, secret = "authlib-client", "of the tests alone"

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"


class Token:
    """What Authlib expects of a token."""

    def __init__(self, scope: str, *, ends_in: float = 600, kind: str = "Bearer") -> None:
        self.scope, self.expires_at, self.kind = scope, int(time.time() + ends_in), kind
        self.revoked = False

    def is_expired(self) -> bool:
        return False  # whether its payload's end has passed is for tokenguard to check

    def is_revoked(self) -> bool:
        return self.revoked


TOKENS: dict[str, Token] = {}


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    def check_permission(self, token: Any, client: Any, request: Any) -> bool:
        return True

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        return TOKENS.get(token_string)

    def introspect_token(self, token: Token) -> dict[str, Any]:
        return {
            "active": True,
            "client_id": "authlib-caller",
            "token_type": token.kind,
            "scope": token.scope,
            "sub": "authlib-caller",
            "aud": "api://directory",
            "iss": "http://localhost",
            "exp": token.expires_at,
            "iat": int(time.time()),
        }


@pytest.fixture(scope="module")
def authlib_server() -> Iterator[str]:
    app = Flask("authlib")
    server = AuthorizationServer(app, query_client=lambda client_id: Client(), save_token=lambda *given: None)
    server.register_endpoint(Introspection)
    app.add_url_rule(
        "/introspect", "introspect", lambda: server.create_endpoint_response("introspection"), methods=["POST"]
    )
    with served(app) as url:
        yield url


def test_the_endpoint_of_authlib_is_asked(authlib_server: str) -> None:
    who = {"client_id": Client.client_id, "client_secret": Client.secret}
    http = asking(authlib_server, audience="api://directory", **who)
    TOKENS.update(
        good=Token("users:read"),
        lacking=Token("groups:read"),
        ended=Token("users:read", ends_in=-1),
        refreshing=Token("users:read", kind="refresh_token"),
    )
    assert [status(http, text) for text in ("good", "lacking", "ended", "refreshing", "unknown")] == [
        *(200, 403, 401, 401, 401)
    ]
    TOKENS["good"].revoked = True
    assert status(http, "good") == 401
    TOKENS["good"].revoked = False
    assert status(asking(authlib_server, audience="api://other", **who), "good") == 401
    assert status(asking(authlib_server, **who | {"client_secret": "wrong"}), "good") == 503
    assert status(asking(authlib_server, bearer_token="x"), "good") == 503


class BearerAuth(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def test_the_client_of_authlib_asks_ours(ours: Ours) -> None:
    token_id, text = ours.issue("users:manage", expires_in=600)
    with OAuth2Session("asking") as session:
        for hint in (None, "access_token"):
            answer = session.introspect_token(
                f"{ours.url}/introspect", token=text, token_type_hint=hint, auth=BearerAuth(ours.asking)
            )
            assert answer.headers["Content-Type"] == "application/json"
            assert (answer.json()["active"], answer.json()["jti"]) == (True, token_id)
            assert answer.json()["scope"].split(" ") == ["users:manage", "users:read"]
        refused = session.introspect_token(f"{ours.url}/introspect", token=text, auth=BearerAuth(text))
        assert refused.status_code == 403


@pytest.mark.parametrize("method", ["client_secret_basic", None])
def test_the_client_of_authlib_asks_ours_as_it_asks_any(ours: Ours, method: str | None) -> None:
    token_id, text = ours.issue()
    for secret, code in ((ours.asking, 200), (text, 401), ("wrong", 401)):
        with OAuth2Session("asking", secret, token_endpoint_auth_method=method) as session:
            answer = session.introspect_token(f"{ours.url}/introspect", token=text, token_type_hint="access_token")
            assert (answer.status_code, answer.json().get("jti")) == (code, token_id if code == 200 else None)


def test_the_resource_server_of_authlib_asks_ours(ours: Ours) -> None:
    class Validator(IntrospectTokenValidator):  # type: ignore[misc]
        def introspect_token(self, token_string: str) -> Any:
            headers = {"Authorization": f"Bearer {ours.asking}"}
            answer = requests.post(f"{ours.url}/introspect", data={"token": token_string}, headers=headers, timeout=30)
            answer.raise_for_status()
            return answer.json()

    require = ResourceProtector()
    require.register_token_validator(Validator())
    app = Flask("resource")

    @app.get("/users")
    @require("users:read")  # type: ignore[misc]
    def users() -> Any:
        return jsonify([])

    http = app.test_client()
    token_id, text = ours.issue("users:manage")
    assert status(http, text) == 200
    assert status(http, ours.issue("groups:read")[1]) == 403
    assert status(http, "forged") == 401
    ours.issuer.revoke(token_id, actor="tests")
    assert status(http, text) == 401
