"""Revocation by the holder, beyond the frameworks' contract: what else sees a request, and what never asks a store."""

from __future__ import annotations

import importlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.db import connections
from django.http import HttpRequest
from django.test import Client as Browser
from django.test import override_settings
from django.urls import path
from django.views.debug import SafeExceptionReporterFilter
from flask import Flask, request
from werkzeug.test import Client as WsgiClient
from werkzeug.test import EnvironBuilder

from tokenguard import MemoryStore, StoreUnavailable
from tokenguard.django import get_issuer
from tokenguard.django.introspection import introspection_view
from tokenguard.django.revocation import revoke_token
from tokenguard.endpoints import FORM, MAX_BODY, FormRequest
from tokenguard.flask import TokenGuard, revocation_blueprint
from tokenguard.revocation import respond, revocation_app
from tokenguard.secret import Secret
from tokenguard.signing import Tagger
from tokenguard.store import State

from .conftest import KEY, World, django_alias, django_project, mistyped, works


class Counting(MemoryStore):
    """Counts the calls that reach it."""

    asked = written = 0
    down = False

    def find(self, token_id: str) -> Any:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("connection refused")
        return super().find(token_id)

    def transaction(self) -> Any:
        self.written += 1
        return super().transaction()


@pytest.fixture
def world() -> World:
    return World(Counting())


def post(world: World, form: str) -> int:
    answer = WsgiClient(revocation_app(world.issuer, world.guard)).post("/", data=form, content_type=FORM)
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.status_code


def test_what_begins_as_our_own_tokens_is_shown_to_no_other_issuer(world: World) -> None:
    """However it is mistyped, and whatever another issuer's tokens look like."""
    shown: list[str] = []

    class Curious:
        def takes(self, text: str) -> bool:
            shown.append(text)
            return False

    text = world.issue().text.reveal()
    world.guard.sources = (Curious(),)  # type: ignore[assignment]
    for posted in (text[:-1], f"{text[:-1]}-", "tg_x", "another"):
        assert post(world, f"token={posted}") == 200
    assert shown == ["another"]


def test_a_forgery_reaches_no_store_and_a_token_is_written_once(world: World) -> None:
    issued, store = world.issue(), world.store
    assert isinstance(store, Counting)
    text = issued.text.reveal()
    store.asked = store.written = 0
    for forged in (mistyped(text), text[3:], f"tg_{'0' * 16}_{'x' * 75}", "x" * 8000):
        assert post(world, f"token={forged}") == 200
    assert (store.asked, store.written) == (0, 0)
    for _ in range(3):
        assert post(world, f"token={text}") == 200
    assert (store.asked, store.written) == (3, 1)
    assert not works(world, issued)


@pytest.mark.parametrize("form", ["token={}%0A", "token=+{}%0D%0A", "token=%09{}"])
def test_white_space_around_it_keeps_no_token_alive(world: World, form: str) -> None:
    """As ``curl --data-urlencode token@file`` sends it."""
    issued = world.issue()
    assert post(world, form.format(issued.text.reveal())) == 200
    assert not works(world, issued)


def test_another_text_of_the_same_id_revokes_nothing(world: World) -> None:
    issued = world.issue()
    signed = f"tg_{issued.token.id}_{'0' * 32}"
    assert post(world, f"token={signed}{Tagger(Secret(KEY)).tag(signed.encode()).decode()}") == 200
    assert works(world, issued)


def test_whatever_its_state_it_is_ended_for_good(world: World) -> None:
    client = world.client().id
    disabled, expired = world.issue(client=client), world.issue(client=client, expires_in=1)
    world.issuer.disable(client, actor="tests")
    world.clock.move(2)
    for issued in (disabled, expired):
        assert post(world, f"token={issued.text.reveal()}") == 200
        record = world.store.find(issued.token.id)
        assert record is not None
        assert record.state(world.clock()) is State.REVOKED


def test_hooks_hear_of_it_and_the_log_names_the_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []
    world.hooks.revoked.append(lambda token: heard.append(token.id))
    issued = world.issue()
    with caplog.at_level(logging.WARNING, "tokenguard"):
        post(world, f"token={issued.text.reveal()}")
    assert heard == [issued.token.id]
    assert caplog.messages == [
        f"token {issued.token.id} of client {issued.token.client_id} was revoked by whoever holds it"
    ]


def test_a_token_that_is_removed_in_between_is_gone_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = world.issue()
    record = world.store.find(issued.token.id)
    with world.store.transaction() as tx:
        tx.delete_tokens([issued.token.id])
    monkeypatch.setattr(world.store, "find", lambda *arguments, **more: record)
    assert post(world, f"token={issued.text.reveal()}") == 200


def test_a_store_that_is_down_is_503(world: World, caplog: pytest.LogCaptureFixture) -> None:
    issued, store = world.issue(), world.store
    assert isinstance(store, Counting)
    store.down = True
    assert post(world, f"token={issued.text.reveal()}") == 503
    assert post(world, "token=x") == 200
    assert caplog.messages == ["the token store failed: connection refused"]


def test_a_client_that_goes_away_has_named_no_token(world: World) -> None:
    environ = EnvironBuilder(method="POST", content_type=FORM).get_environ()
    environ |= {"wsgi.input": io.BytesIO(b"token="), "CONTENT_LENGTH": "100"}
    assert respond(FormRequest(environ), world.issuer, world.guard).status == 400


@pytest.mark.parametrize("padding", [MAX_BODY, 50 * MAX_BODY])
def test_what_is_too_long_is_not_read_to_its_end(world: World, padding: int) -> None:
    issued = world.issue()
    body = io.BytesIO(f"token={issued.text.reveal()}&x={'x' * padding}".encode())
    environ = EnvironBuilder(method="POST", content_type=FORM).get_environ()
    environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
    environ.pop("CONTENT_LENGTH", None)
    assert respond(FormRequest(environ), world.issuer, world.guard).status == 413
    assert body.tell() <= MAX_BODY + 1
    assert works(world, issued)


@pytest.mark.parametrize(
    "more", [{"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}, {"wsgi.input_terminated": True}, {}]
)
@pytest.mark.parametrize(("over", "status"), [(0, 200), (1, 413), (2, 413)])
def test_the_longest_body_is_as_long_as_the_refusal_says(
    world: World, more: dict[str, Any], over: int, status: int
) -> None:
    issued = world.issue()
    body = f"token={issued.text.reveal()}&x=".encode().ljust(MAX_BODY + over, b"x")
    flask = Flask("app")
    flask.config |= {"TOKENGUARD_SIGNING_KEY": KEY}
    TokenGuard(flask, store=world.store)
    flask.register_blueprint(revocation_blueprint("/"))
    for app in (revocation_app(world.issuer, world.guard), flask):
        answer = WsgiClient(app).post("/", data=body, content_type=FORM, environ_overrides=more)
        assert answer.status_code == status
        assert works(world, issued) is (status != 200)


def test_flask_where_something_has_read_the_form_already() -> None:
    app = Flask("app")
    app.config |= {"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_DATABASE_URL": "memory://"}
    TokenGuard(app)
    app.before_request(lambda: request.form and None)
    app.register_blueprint(revocation_blueprint("/end", name="end"), url_prefix="/oauth")
    issuer = app.extensions["tokenguard"].issuer
    issuer.register("billing", "a", actor="tests")
    token, text = issuer.issue("billing", "a", actor="tests")
    assert app.test_client().post("/oauth/end", data={"token": text.reveal()}).status_code == 200
    assert issuer.store.find(token.id).token.revoked_at is not None


# Django


def reads_the_form(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        assert request.POST is not None
        return get_response(request)

    return middleware


urlpatterns = [path("revoke", revoke_token), path("introspect", introspection_view("a"))]


@pytest.fixture
def alias(sqlite_url: str) -> Iterator[str]:
    with django_alias(sqlite_url) as alias, django_project(alias, __name__, SCOPES=None):
        get_issuer().register("billing", "a", actor="tests")
        yield alias


@pytest.mark.parametrize("above", [None, "test_revocation.reads_the_form", "test_django.login_required"])
@pytest.mark.parametrize("atomic", [False, True])
def test_django_asks_for_no_csrf_token_and_no_login(
    alias: str, above: str | None, atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections[alias].settings_dict, "ATOMIC_REQUESTS", atomic)
    token, text = get_issuer().issue("billing", "a", actor="tests")
    added = [f"tests.{above}"] if above else []
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, *added]):
        browser = Browser(enforce_csrf_checks=True)
        answer = browser.post("/revoke", {"token": text.reveal()})  # as multipart, a form that is not accepted
        assert answer.status_code == 400
        answer = browser.post("/revoke", f"token={text.reveal()}", content_type=FORM)
    assert (answer.status_code, answer.content) == (200, b"")
    record = get_issuer().store.find(token.id)
    assert record is not None
    assert record.token.revoked_at is not None


@pytest.mark.parametrize("name", ["revocation", "introspection"])
def test_in_django_no_database_has_a_transaction_around_it(
    alias: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = importlib.reload(sys.modules[f"tokenguard.django.{name}"])  # as where both are configured
    view = module.revoke_token if name == "revocation" else module.introspection_view("a")
    for each in ("default", alias):
        monkeypatch.setitem(connections[each].settings_dict, "ATOMIC_REQUESTS", True)
    assert BaseHandler().make_view_atomic(view) is view


@pytest.mark.parametrize("url", ["/revoke", "/introspect"])
def test_an_error_report_of_django_does_not_show_the_token_that_was_posted(alias: str, url: str) -> None:
    text = get_issuer().issue("billing", "a", actor="tests").text
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.test_revocation.reads_the_form"]):
        answer = Browser().post(
            url,
            f"token={text.reveal()}&token_type_hint=access_token",
            content_type=FORM,
            headers={"Authorization": f"Bearer {text.reveal()}"},
        )
    assert answer.status_code == 200
    shown = SafeExceptionReporterFilter().get_post_parameters(answer.wsgi_request)
    assert (shown["token"], shown["token_type_hint"]) == ("********************", "access_token")


def test_django_and_a_client_that_goes_away(alias: str) -> None:
    class Broken(io.BytesIO):
        def read(self, *arguments: Any) -> bytes:
            raise OSError("connection reset")

    answer = Browser().generic("POST", "/revoke", "token=x", content_type=FORM, **{"wsgi.input": Broken()})
    assert answer.status_code == 400
