"""What is recorded of a token's life, and who is told of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import create_environ

from tokenguard import (
    AuthScheme,
    Conditions,
    ConfigurationError,
    Hooks,
    InvalidToken,
    InvalidValue,
    Issuer,
    Policy,
    PolicyViolation,
    RequestGuard,
    Requirement,
    Store,
    StoreError,
    UnknownToken,
)
from tokenguard.clock import SECOND
from tokenguard.scopes import ANY_TOKEN

from .conftest import StoppedClock, World, present, replayed, run_together, why_not, works


@pytest.fixture
def world(any_store: Store, clock: StoppedClock) -> World:
    return World(any_store, clock)


def live(world: World, number: int, failures: list[str]) -> None:
    """A busy operator's day, beside others on the same clients and tokens."""
    try:
        for turn in range(4):
            client = f"client {(number + turn) % 3}"
            first = world.issue("users:read", client=client, idle_timeout=600, expires_in=9999, name=f"{number}")
            second = world.rotate(first.token.id, 0 if turn % 2 else 3600)
            world.use(second, "users:read")
            world.issuer.set_scopes(client, ["users:read", "users:manage"][: 1 + turn % 2], actor=f"operator {number}")
            world.issuer.set_conditions(client, Conditions.parse(deny=[f"10.0.0.{number}"]), actor=f"operator {number}")
            mine = [record.token.id for record in world.store.records() if record.token.name == f"{number}"]
            world.issuer.revoke(*mine[::2], actor=f"operator {number}")
    except StoreError as error:
        failures.append(str(error))


def test_a_busy_history_replayed_is_the_present(any_store: Store, clock: StoppedClock) -> None:
    setup = World(any_store, clock)
    for number in range(3):
        setup.client(f"client {number}", "users:read")
    quiet = setup.issue(client="client 0", idle_timeout=61)
    failures: list[str] = []
    run_together([lambda number=number: live(World(any_store, clock), number, failures) for number in range(6)])
    clock.move(10_000)
    assert why_not(setup, quiet) == "idle"
    assert failures == []
    events = any_store.events(10_000)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 6 * 4 * 3
    assert replayed(events) == present(any_store)


def test_no_event_holds_a_digest_or_a_text(world: World) -> None:
    issued = world.issue(conditions=Conditions.parse(["10.0.0.0/8"]))
    successor = world.rotate(issued.token.id)
    world.issuer.revoke(issued.token.id, actor="tests")
    said = repr(world.store.events(100))
    for each in (issued, successor):
        assert each.token.digest not in said
        assert each.text.reveal()[-75:] not in said


def test_a_refusal_of_the_policy_is_on_record_with_its_rule(any_store: Store, clock: StoppedClock) -> None:
    world = World(any_store, clock, policy=Policy(max_lifetime=3600))
    client = world.client()
    with pytest.raises(PolicyViolation):
        world.issue(client=client.id, expires_in=3601)
    event = any_store.events(1)[0]
    assert (event.kind, event.client_id, event.token_id) == ("policy.refused", client.id, None)
    assert dict(event.data) == {"rule": [None, "max_lifetime"]}
    assert any_store.records() == []


def test_who_does_it_must_be_said(world: World) -> None:
    issued = world.issue()
    before = world.store.events(10)
    for actor in ("", " ", "a\nb", "x" * 256, None):
        with pytest.raises(InvalidValue, match="actor"):
            world.issuer.rotate(issued.token.id, actor=actor)  # type: ignore[arg-type]
        with pytest.raises(InvalidValue, match="actor"):
            world.issuer.set_conditions(issued.token.client_id, Conditions(), actor=actor)  # type: ignore[arg-type]
    assert world.store.events(10) == before


# Hooks


class Heard:
    """What receivers were told, and how many events were committed by then."""

    def __init__(self, store: Store) -> None:
        self.told: list[tuple[str, dict[str, Any], int]] = []
        self.hooks = Hooks()
        for name in ("issued", "rotated", "revoked", "authenticated", "refused"):
            getattr(self.hooks, name).append(lambda name=name, **told: self.hear(store, name, told))

    def hear(self, store: Store, name: str, told: dict[str, Any]) -> None:
        seen: list[int] = []  # through another connection, which sees only what is committed
        run_together([lambda: seen.append(len(store.events(1000)))])
        self.told.append((name, told, seen[0]))


def test_receivers_are_told_once_and_after_the_commit(any_store: Store, clock: StoppedClock) -> None:
    heard = Heard(any_store)
    world = World(any_store, clock, hooks=heard.hooks)
    client = world.client()
    issued = world.issue(client=client.id)
    successor = world.rotate(issued.token.id)
    (revoked,) = world.issuer.revoke(issued.token.id, actor="tests")
    world.issuer.revoke(issued.token.id, actor="tests")  # already revoked, so nothing happens
    old = replace(issued.token, successor_id=successor.token.id, overlap_ends_at=clock() + 3600 * SECOND)
    assert heard.told == [
        ("issued", {"token": issued.token, "client": client}, 2),
        ("rotated", {"token": old, "successor": successor.token}, 4),
        ("revoked", {"token": revoked}, 5),
    ]


def test_nobody_is_told_of_what_did_not_happen(any_store: Store, clock: StoppedClock) -> None:
    heard = Heard(any_store)
    world = World(any_store, clock, hooks=heard.hooks, policy=Policy(max_active_tokens=1))
    issued = world.issue()
    heard.told.clear()
    with pytest.raises(PolicyViolation):
        world.issue()
    with pytest.raises(UnknownToken):
        world.issuer.revoke(issued.token.id, "nobody", actor="tests")
    with pytest.raises(UnknownToken):
        world.rotate("nobody")
    assert heard.told == []
    assert works(world, issued)


def test_requests_are_told_of(any_store: Store, clock: StoppedClock) -> None:
    heard = Heard(any_store)
    world = World(any_store, clock)
    issued = world.issue()
    guard = RequestGuard(world.guard, AuthScheme(), hooks=heard.hooks)
    environ = create_environ() | {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}"}
    identity = guard.admit(environ, ANY_TOKEN)
    with pytest.raises(Exception, match="lacks groups:read"):
        guard.admit(environ, Requirement.scopes("groups:read"))
    world.issuer.revoke(issued.token.id, actor="tests")
    other = dict(create_environ(), HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}")
    with pytest.raises(InvalidToken):
        guard.admit(other, ANY_TOKEN)
    (_, first, _), (_, second, _), (_, third, _) = heard.told
    assert [name for name, _, _ in heard.told] == ["authenticated", "refused", "refused"]
    assert first == {"identity": identity, "environ": environ}
    assert (second["error"].reason, second["environ"]) == ("lacks groups:read", environ)
    assert (third["error"].reason, third["error"].token_id) == ("revoked", issued.token.id)


def test_a_receiver_that_fails_breaks_nothing_and_gives_nothing_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []

    class SynchronousOnlyOperation(RuntimeError):
        pass

    def fail(**told: Any) -> None:
        raise SynchronousOnlyOperation(f"no use for {told} {texts}")

    hooks = Hooks(*([fail, lambda name=name, **told: calls.append(name)] for name in range(5)))  # type: ignore[misc]
    calls: list[int] = []
    failing = World(world.store, world.clock, hooks=hooks)
    issued = failing.issue()
    texts.append(issued.text.reveal())
    successor = failing.rotate(issued.token.id)
    guard = RequestGuard(failing.guard, AuthScheme(), hooks=hooks)
    environ = create_environ() | {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}"}
    guard.admit(environ, ANY_TOKEN)
    failing.issuer.revoke(issued.token.id, actor="tests")
    with pytest.raises(InvalidToken):
        guard.admit(dict(create_environ(), HTTP_AUTHORIZATION=environ["HTTP_AUTHORIZATION"]), ANY_TOKEN)
    assert sorted(calls) == [0, 1, 2, 3, 4]  # the next receiver of each event is still called
    assert caplog.text.count("a receiver failed: ") == caplog.text.count("fail raised SynchronousOnlyOperation\n") == 5
    assert "no use for" in caplog.text
    assert "in fail" in caplog.text
    for each in (issued, successor):
        assert each.text.reveal()[-75:] not in caplog.text
        assert each.token.digest not in caplog.text


def test_a_receiver_that_is_async_is_logged_and_not_left_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def hear(**told: Any) -> None:
        """Never begins."""

    World(world.store, world.clock, hooks=Hooks(issued=[hear])).issue()  # a warning that it was not awaited would fail
    assert "hear" in caplog.text
    assert "it is async" in caplog.text


def test_a_receiver_that_removes_itself_keeps_no_other_from_being_called(world: World) -> None:
    hooks, calls = Hooks(), []

    def once(**told: Any) -> None:
        hooks.issued.remove(once)
        calls.append("once")

    hooks.issued.extend([once, lambda **told: calls.append("always")])
    hearing = World(world.store, world.clock, hooks=hooks)
    hearing.issue()
    hearing.issue()
    assert calls == ["once", "always", "always"]


def test_hooks_that_could_not_be_called_are_refused_before_anything_is_issued(world: World) -> None:
    with pytest.raises(ConfigurationError, match="issued must be a list of callables, not function"):
        Hooks(issued=lambda token, client: None)  # type: ignore[arg-type]
    given: Any = [print]
    with pytest.raises(ConfigurationError, match=r"must be given as Hooks\(…\), not list"):
        Issuer(world.store, world.tokens, hooks=given)
    with pytest.raises(ConfigurationError, match=r"must be given as Hooks\(…\), not list"):
        RequestGuard(world.guard, AuthScheme(), hooks=given)
