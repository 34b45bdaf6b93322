"""Introspection of own tokens, beyond the frameworks' contract: what never reaches the store, and how it is mounted."""

from __future__ import annotations

import logging
import traceback
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from werkzeug.test import Client as WsgiClient
from werkzeug.test import EnvironBuilder

from tokenguard import ConfigurationError, InvalidValue, ScopeCatalog, Secret
from tokenguard.django.introspection import introspection_view
from tokenguard.endpoints import FORM, FormRequest
from tokenguard.flask import TokenGuard, introspection_blueprint
from tokenguard.http import Answer
from tokenguard.introspection import Introspection, introspection_app

from .canaries import raised, shown
from .conftest import KEY, CountingStore, StoppedClock, World, mistyped
from .services.common import CATALOG

AT = 1_900_000_000


@pytest.fixture
def world() -> World:
    clock = StoppedClock()
    return World(CountingStore(clock), clock)


def ask(world: World, text: str, **more: str) -> Answer:
    body = urlencode({"token": text, **more}).encode()
    environ = EnvironBuilder(method="POST", data=body, content_type=FORM).get_environ()
    return Introspection().respond(FormRequest(environ), world.guard)


def told(world: World, text: str, **more: str) -> dict[str, Any]:
    answer = ask(world, text, **more)
    assert answer.status == 200
    found: dict[str, Any] = FormRequest.json_module.loads(answer.body)
    return found


def test_what_was_not_signed_here_never_reaches_the_store(world: World) -> None:
    text = world.issue().text.reveal()
    for forged in (text[:-1], text + "x", mistyped(text), "a.b.c", "é"):
        assert told(world, forged) == {"active": False}
    assert isinstance(world.store, CountingStore)
    assert world.store.asked == 0
    assert told(world, text)["active"] is True


def test_a_store_that_is_down_is_503_without_a_text_anywhere(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    text = world.issue().text.reveal()
    assert isinstance(world.store, CountingStore)
    world.store.down = True
    answer = ask(world, text)
    assert (answer.status, dict(answer.headers)["Retry-After"]) == (503, "5")
    assert b"active" not in answer.body.replace(b"is active", b"")
    trace = shown(raised(partial(world.guard.introspect, Secret(text))))
    assert "_standing" in trace
    assert text[-43:] not in caplog.text + repr(answer) + trace


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, None),
        ({"expires_in": 600}, AT + 600),
        ({"idle_timeout": 600}, AT + 660),
        ({"idle_timeout": 600, "expires_in": 300}, AT + 300),
    ],
)
def test_the_earliest_end_is_told_so_that_nobody_keeps_the_answer_for_longer(
    world: World, options: dict[str, int], end: int | None
) -> None:
    issued = world.issue(**options)
    members = told(world, issued.text.reveal())
    assert (members["active"], members["iat"], members.get("exp")) == (True, AT, end)
    assert "iss" not in members
    if end is not None:
        world.clock.move(end - AT)
        assert told(world, issued.text.reveal()) == {"active": False}


def test_the_end_of_an_overlap_is_told(world: World) -> None:
    issued = world.issue(expires_in=7200)
    world.rotate(issued.token.id, overlap=60)
    assert told(world, issued.text.reveal())["exp"] == AT + 60


def test_being_asked_about_is_no_use(world: World) -> None:
    issued = world.issue(idle_timeout=600)
    for _ in range(12):
        if told(world, issued.text.reveal()) == {"active": False}:
            break
        world.clock.move(60)
    assert world.clock.micros == (AT + 660) * 1_000_000
    assert not world.usage.due
    record = world.store.find(issued.token.id)
    assert record is not None
    assert record.last_used_at is None


def test_a_use_that_is_not_written_yet_is_known_to_the_process_that_saw_it(world: World) -> None:
    issued = world.issue(idle_timeout=600)
    world.clock.move(500)
    world.use(issued, "users:read", write=False)
    world.clock.move(300)
    assert told(world, issued.text.reveal())["active"] is True


def test_a_disabled_client_and_a_revoked_token_are_inactive_at_once(world: World) -> None:
    one, other = world.issue(), world.issue()
    for issued in (one, other):
        assert told(world, issued.text.reveal())["active"] is True
    world.issuer.revoke(one.token.id, actor="tests")
    assert told(world, one.text.reveal()) == {"active": False}
    world.issuer.disable("billing", actor="tests")
    assert told(world, other.text.reveal()) == {"active": False}


def test_scopes_are_those_that_hold_now_and_no_wildcard_is_left_to_others(world: World) -> None:
    client = world.client(scopes="*")
    issued = world.issue("*", client=client.id)
    assert told(world, issued.text.reveal())["scope"] == "groups:read users:manage users:read"
    world.issuer.set_scopes(client.id, "users:manage", actor="tests")
    assert told(world, issued.text.reveal())["scope"] == "users:manage users:read"
    world.issuer.set_scopes(client.id, "", actor="tests")
    assert told(world, issued.text.reveal())["scope"] == ""


def test_without_a_catalogue_scopes_are_told_as_they_were_given() -> None:
    world = World(CountingStore(), catalog=ScopeCatalog())
    world.client(scopes="*")
    assert told(world, world.issue("a.* b").text.reveal())["scope"] == "a.* b"


def test_the_networks_of_a_client_hold_as_well(world: World) -> None:
    from tokenguard import Conditions

    client = world.client()
    issued = world.issue(client=client.id)
    world.issuer.set_conditions(client.id, Conditions.parse(["10.0.0.0/8"]), actor="tests")
    text = issued.text.reveal()
    assert told(world, text) == {"active": False}
    assert told(world, text, client_address="::ffff:10.0.0.1")["active"] is True
    for address in ("10.0.0.1:52144", "[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:52144"):
        assert told(world, text, client_address=address)["active"] is True
    for address in ("192.0.2.1", "192.0.2.1:52144", "10.0.0.1:", "[10.0.0.1]"):
        assert told(world, text, client_address=address) == {"active": False}


def test_a_refused_introspection_is_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = world.issue()
    world.issuer.revoke(issued.token.id, actor="tests")
    assert told(world, issued.text.reveal()) == {"active": False}
    assert issued.text.reveal()[-70:] not in caplog.text


def test_another_ones_name_is_no_use_of_a_token_and_the_log_tells_whose_it_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = world.issue("users:manage")
    heard: list[Any] = []
    world.hooks.authenticated.append(lambda **told: heard.append(told))
    http = WsgiClient(introspection_app(world.guard, "users:manage", hooks=world.hooks))
    text = issued.text.reveal()
    for user in ("a stranger", text):
        answer = http.post("/", data={"token": "x"}, auth=(user, text))
        assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert heard == []
    assert not world.usage.due
    whose = f"(token {issued.token.id}, client {issued.token.client_id}, from"
    assert all("refused 401 invalid_token: the user name" in line and whose in line for line in caplog.messages)
    assert len(caplog.messages) == 2
    assert text[-70:] not in caplog.text
    assert http.post("/", data={"token": "x"}, auth=("billing", text)).status_code == 200
    assert len(heard) == 1


def test_an_error_of_who_is_asked_about_a_password_does_not_show_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("broken")

    text = world.issue("users:manage").text.reveal()
    monkeypatch.setattr(world.guard.cache, "get", broken)
    http = WsgiClient(introspection_app(world.guard, "users:manage"))
    with pytest.raises(RuntimeError, match="broken") as caught:
        http.post("/", data={"token": "x"}, auth=("billing", text))
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb)]
    ours = [frame for frame in frames if frame.f_globals["__name__"].startswith("tokenguard.")]
    assert len(ours) > 2
    assert not any(text[-43:] in repr(frame.f_locals) for frame in ours)


# Mounting


@pytest.mark.parametrize("scope", ["", None, ()])
def test_it_cannot_be_mounted_without_a_scope(world: World, scope: Any) -> None:
    for mount in (introspection_blueprint, introspection_view, lambda scope: introspection_app(world.guard, scope)):
        with pytest.raises(ConfigurationError, match="requires a scope that guards it"):
            mount(scope)
        with pytest.raises(TypeError):
            mount()
        with pytest.raises(InvalidValue):
            mount("a b")


def test_nor_with_a_scope_that_nobody_can_hold_nor_without_a_guard(world: World) -> None:
    with pytest.raises(ConfigurationError, match="nobody:holds"):
        introspection_app(world.guard, "nobody:holds")
    app = Flask("app")
    with pytest.raises(ConfigurationError, match="introspection requires a guard"):
        app.register_blueprint(introspection_blueprint("users:read"))
    app.config |= {"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_DATABASE_URL": "memory://", "TOKENGUARD_SCOPES": CATALOG}
    TokenGuard(app)
    with pytest.raises(ConfigurationError, match="nobody:holds"):
        app.register_blueprint(introspection_blueprint("nobody:holds", name="other"))


@pytest.mark.parametrize("issuer", ["http://api.example.com", "api", 7])
def test_an_issuer_that_is_no_url_is_refused(issuer: Any) -> None:
    with pytest.raises(ConfigurationError, match="an issuer"):
        introspection_blueprint("users:read", issuer=issuer)
