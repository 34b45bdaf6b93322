"""Refusals in Okta's form, from each framework: what its SDKs read, and what the standards still require."""

from __future__ import annotations

import inspect
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from flask import Flask
from rest_framework.response import Response as RestResponse
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView
from werkzeug.test import Client
from werkzeug.wrappers import Response

from tokenguard import (
    AuthScheme,
    Conditions,
    ConfigurationError,
    Guard,
    InvalidToken,
    TemporarilyUnavailable,
    TokenGuardMiddleware,
)
from tokenguard import django as of_django
from tokenguard import flask as of_flask
from tokenguard.conditions import Allowance, Rate
from tokenguard.config import Options
from tokenguard.errors import RateLimited
from tokenguard.ratelimits import RateLimiter

from .conftest import KEY, CountingStore, World
from .server import Answer
from .services.common import CATALOG

Ask = Callable[[str | None], Answer]
FRAMEWORKS = ["wsgi", "flask", "flask with handlers", "django", "django on an event loop", "rest framework"]


def _sent(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def of_wsgi(world: World) -> Ask:
    guard = Guard(world.store, world.tokens, catalog=world.catalog, limiter=RateLimiter())
    guarded = TokenGuardMiddleware(Response("in"), guard, "users:read", scheme=AuthScheme(error_form="okta"))

    def ask(token: str | None) -> Answer:
        answer = Client(guarded).get("/", headers=_sent(token))
        return Answer.of(answer.status_code, answer.headers, answer.data)

    return ask


def of_flask_app(world: World, *, with_handlers: bool = False) -> Ask:
    app = Flask(__name__)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_ERROR_FORM="okta", TOKENGUARD_SCOPES=CATALOG)
    of_flask.TokenGuard(app, store=world.store)
    app.add_url_rule("/", view_func=of_flask.require_scopes("users:read")(lambda: "in"))
    if with_handlers:
        app.register_error_handler(404, lambda error: ("no", 404))

    def ask(token: str | None) -> Answer:
        answer = app.test_client().get("/", headers=_sent(token))
        return Answer.of(answer.status_code, answer.headers, answer.data)

    return ask


def of_django_view(store: Any, view: Callable[..., Any], make: Any) -> Ask:
    def ask(token: str | None) -> Answer:
        sent = {f"HTTP_{name.upper()}": value for name, value in _sent(token).items()}
        guarded: Any = of_django.TokenGuardMiddleware(view)
        if inspect.iscoroutinefunction(view):
            guarded = async_to_sync(guarded)
        answer = guarded(make.get("/", **sent))
        if hasattr(answer, "render"):
            answer.render()
        return Answer.of(answer.status_code, answer.headers.items(), answer.content)

    return ask


class RestView(APIView):
    permission_classes = ()

    def get(self, request: Any) -> RestResponse:
        return RestResponse("in")


@of_django.require_scopes("users:read")
def django_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("in")


@of_django.require_scopes("users:read")
async def async_django_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("in")


@pytest.fixture
def world() -> World:
    return World(CountingStore())


@pytest.fixture(params=FRAMEWORKS)
def ask(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    world.clock.micros = int(time.time()) * 1_000_000
    kind = request.param
    if kind == "wsgi":
        yield of_wsgi(world)
        return
    if kind.startswith("flask"):
        yield of_flask_app(world, with_handlers="handlers" in kind)
        return
    from tokenguard.django import conf
    from tokenguard.django.rest_framework import HasScopes

    monkeypatch.setattr(conf, "chosen_store", lambda *args: world.store)
    monkeypatch.setattr(RestView, "permission_classes", (HasScopes,))
    monkeypatch.setattr(RestView, "required_scopes", "users:read", raising=False)
    with override_settings(TOKENGUARD={"SIGNING_KEY": KEY, "ERROR_FORM": "okta", "SCOPES": CATALOG}):
        if kind.startswith("django"):
            view = async_django_view if "event loop" in kind else django_view
            yield of_django_view(world.store, view, RequestFactory())
        else:
            yield of_django_view(world.store, RestView.as_view(), APIRequestFactory())


def envelope(answer: Answer, status: int, code: str, summary: str) -> dict[str, Any]:
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Authorization" in answer.headers["Vary"]
    assert len(answer.headers.get_all("X-Okta-Request-Id", [])) == 1
    assert int(answer.headers.get("Content-Length", len(answer.body))) == len(answer.body)
    found: dict[str, Any] = answer.json
    assert sorted(found) == ["errorCauses", "errorCode", "errorId", "errorLink", "errorSummary"]
    assert (found["errorCode"], found["errorLink"], found["errorSummary"]) == (code, code, summary)
    assert re.fullmatch(r"oae[\w-]{22}", found["errorId"])
    return found


class TestOktaForm:
    def test_no_token_is_still_a_401_with_a_challenge(self, ask: Ask) -> None:
        answer = ask(None)
        envelope(answer, 401, "E0000005", "Invalid session")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_a_bad_token(self, ask: Ask) -> None:
        answer = ask("garbage")
        found = envelope(answer, 401, "E0000011", "Invalid token provided")
        assert found["errorCauses"] == [{"errorSummary": "The API token is not valid."}]
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'

    def test_every_answer_has_ids_of_its_own(self, world: World, ask: Ask) -> None:
        text = world.issue().text.reveal()
        answers = [ask(sent) for sent in ("garbage", "garbage", None, None, text, text)]
        assert [answer.status for answer in answers] == [401, 401, 401, 401, 200, 200]
        assert len({answer.headers["X-Okta-Request-Id"] for answer in answers}) == 6
        assert len({answer.json["errorId"] for answer in answers[:4]}) == 4

    def test_a_refusal_is_found_in_the_log_by_its_id(
        self, world: World, ask: Ask, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "tokenguard")
        lacking = world.issue("groups:read").text.reveal()
        for sent in ("garbage", "garbage", None, "a b", lacking):
            caplog.clear()
            name = ask(sent).json["errorId"]
            (line,) = [line for line in caplog.messages if line.startswith("refused")]
            assert line.endswith(f", errorId {name})")

    def test_a_malformed_header(self, ask: Ask) -> None:
        envelope(ask("a b"), 400, "E0000001", "Api validation failed: credential")

    def test_a_scope_that_is_lacking(self, world: World, ask: Ask) -> None:
        answer = ask(world.issue("groups:read").text.reveal())
        found = envelope(answer, 403, "E0000006", "You do not have permission to perform the requested action")
        assert "users:read" in found["errorCauses"][0]["errorSummary"]
        assert 'scope="users:read"' in answer.headers["WWW-Authenticate"]

    def test_a_network_that_is_not_allowed(self, world: World, ask: Ask) -> None:
        answer = ask(world.issue(conditions=Conditions.parse(["10.0.0.0/8"])).text.reveal())
        envelope(answer, 403, "E0000006", "You do not have permission to perform the requested action")

    def test_one_request_too_many(self, world: World, ask: Ask) -> None:
        text = world.issue(conditions=Conditions.parse(rate="1/day")).text.reveal()
        first, second = ask(text), ask(text)
        assert first.status == 200
        assert (first.headers["X-Rate-Limit-Limit"], first.headers["X-Rate-Limit-Remaining"]) == ("1", "0")
        envelope(second, 429, "E0000047", "API call exceeded rate limit due to too many requests.")
        assert second.headers["X-Rate-Limit-Remaining"] == "0"
        assert second.headers.get_all("X-Rate-Limit-Reset") == [second.headers["X-Rate-Limit-Reset"]]
        assert int(second.headers["X-Rate-Limit-Reset"]) > time.time()
        assert int(second.headers["Retry-After"]) > 0

    def test_a_store_that_is_away(self, world: World, ask: Ask) -> None:
        text = world.issue().text.reveal()
        world.store.down = True  # type: ignore[attr-defined]
        answer = ask(text)
        envelope(answer, 503, "E0000009", "Internal Server Error")
        assert answer.headers["Retry-After"] == "5"
        assert int(answer.headers["X-Rate-Limit-Reset"]) > time.time()


def headers_of(scheme: AuthScheme, error: Any) -> Mapping[str, str]:
    return dict(scheme.refusal(error).headers)


def test_when_to_try_again_is_told_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = AuthScheme(error_form="okta")
    for now in (1000.0, 2000.0):
        monkeypatch.setattr("tokenguard.http.time.time", lambda now=now: now)
        assert headers_of(scheme, TemporarilyUnavailable())["X-Rate-Limit-Reset"] == str(int(now) + 5)


@pytest.mark.parametrize(
    ("asked", "on_success", "on_refusal"),
    [
        (None, {"X-Rate-Limit-Reset"}, {"X-Rate-Limit-Reset"}),
        ("okta", {"X-Rate-Limit-Reset"}, {"X-Rate-Limit-Reset"}),
        ("draft", {"RateLimit"}, {"RateLimit", "X-Rate-Limit-Reset"}),
        ("none", set(), {"X-Rate-Limit-Reset"}),
    ],
)
def test_who_must_wait_is_told_in_oktas_headers_whatever_else_is_asked_for(
    asked: str | None, on_success: set[str], on_refusal: set[str]
) -> None:
    given = {"ERROR_FORM": "okta"} | ({"RATE_HEADERS": asked} if asked else {})
    scheme, allowance = Options.read(given).scheme, Allowance(Rate.parse("1/minute"), -1, 30)
    names = {"RateLimit", "X-Rate-Limit-Reset"}
    assert names & {name for name, _ in scheme.rate_fields(allowance)} == on_success
    assert names & headers_of(scheme, RateLimited(allowance)).keys() == on_refusal


def test_without_the_option_nothing_of_it_is_there(world: World) -> None:
    scheme = AuthScheme()
    refusal = scheme.refusal(InvalidToken())
    assert json.loads(refusal.body)["code"] == "invalid_token"
    assert dict(refusal.headers)["Content-Type"] == "application/problem+json"
    assert refusal == scheme.refusal(InvalidToken())
    answer = Client(TokenGuardMiddleware(Response("in"), world.guard)).get("/")
    assert "X-Okta-Request-Id" not in answer.headers


@pytest.mark.parametrize("wrong", ["rfc9457", "Okta", ""])
def test_a_form_that_there_is_not(wrong: str) -> None:
    with pytest.raises(
        ConfigurationError, match="TOKENGUARD_ERROR_FORM: the error form must be one of problem, okta, not"
    ):
        Options.read({"ERROR_FORM": wrong})
