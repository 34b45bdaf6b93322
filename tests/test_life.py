"""The life of a token at its edges: expiry, idle end, rotation; who reports it, and what stays on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import create_environ

from tokenguard import (
    AuthScheme,
    Conditions,
    EventKind,
    InvalidToken,
    InvalidValue,
    IssuanceError,
    Issued,
    MemoryStore,
    Policy,
    PolicyViolation,
    RequestGuard,
    Store,
    StoreError,
    StoreUnavailable,
    UnknownToken,
)
from tokenguard.clock import DAY, LONGEST, SECOND
from tokenguard.scopes import ANY_TOKEN
from tokenguard.store import Change, NewUse, Standing, State
from tokenguard.tokens import Read
from tokenguard.usage import end_if_idle

from .conftest import StoppedClock, World, run_together, why_not, works

MINUTE = 60 * SECOND
# A second and a microsecond on either side of an end, and the end itself: whether the token works then.
EDGES = [(-SECOND, True), (-1, True), (0, False), (1, False), (SECOND, False)]


@pytest.fixture
def world(any_store: Store, clock: StoppedClock) -> World:
    return World(any_store, clock)


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.events(1000)]


# Edges


def at_the_edges(world: World, issued: Issued, end: int) -> list[str]:
    """Return why the token is refused around its end and at it, asking a newly started process each time."""
    refused = []
    for beside, _ in EDGES:
        world.clock.micros = end + beside
        refused.append(why_not(World(world.store, world.clock), issued))
    return refused


def ended_as(state: str) -> list[str]:
    return ["" if alive else state for _, alive in EDGES]


def test_the_edge_of_expiry(world: World) -> None:
    issued = world.issue(expires_in=3600)
    assert at_the_edges(world, issued, world.clock() + 3600 * SECOND) == ended_as("expired")


@pytest.mark.parametrize("used", [False, True])
def test_the_edge_of_idleness(world: World, used: bool) -> None:
    """A use is recorded a minute late at most, so the end is that minute later than the timeout."""
    issued = world.issue(idle_timeout=3600)
    if used:
        world.clock.move(3000)
        world.use(issued)
    assert at_the_edges(world, issued, world.clock() + 3600 * SECOND + MINUTE) == ended_as("idle")


def test_the_edge_of_an_overlap(world: World) -> None:
    old = world.issue()
    successor = world.rotate(old.token.id, 3600)
    assert at_the_edges(world, old, world.clock() + 3600 * SECOND) == ended_as("rotated")
    assert works(world, successor)


def test_expiry_is_a_hard_cap_beside_idleness(world: World) -> None:
    issued = world.issue(idle_timeout=3600, expires_in=7200)
    for _ in range(3):
        world.use(issued)
        world.clock.move(2400)
    assert why_not(world, issued) == "expired"
    assert "token.idle_ended" not in kinds(world.store)


@pytest.mark.parametrize(("field", "state"), [("expires_at", "expired"), ("overlap_ends_at", "rotated")])
def test_the_beginning_of_the_epoch_is_an_end_as_any_other(world: World, field: str, state: str) -> None:
    """As somebody who ends a token by hand may write it into the database."""
    issued = world.issue(idle_timeout=3600)
    ended: dict[str, Any] = {field: 0}
    with world.store.transaction() as tx:
        tx.put_token(replace(issued.token, **ended), Change(EventKind.TOKEN_ROTATED, world.clock(), "tests"))
    assert why_not(world, issued) == state


def test_every_use_renews_an_idle_token(world: World) -> None:
    issued = world.issue(idle_timeout=120)
    for _ in range(20):
        world.use(issued)
        world.clock.move(119)
    assert works(world, issued)


def test_a_use_just_short_of_being_written_still_counts(world: World) -> None:
    """A use within the minute after a write is written later, but the token lives for its timeout after that, too."""
    issued = world.issue(idle_timeout=120)
    world.use(issued)
    world.clock.micros += MINUTE - 1
    world.use(issued)
    world.clock.move(120)
    assert works(world, issued)


# What has ended stays ended


def test_the_end_of_an_idle_token_is_recorded_by_the_stores_clock(world: World) -> None:
    issued = world.issue(idle_timeout=3600)
    world.clock.move(3600 + 60)
    for _ in range(3):
        assert why_not(world, issued) == "idle"
    event = world.store.events(1)[0]
    assert kinds(world.store) == ["client.registered", "token.issued", "token.idle_ended"]
    assert (event.at, event.actor, event.token_id) == (world.clock(), "tokenguard", issued.token.id)
    assert dict(event.data) == {"idle_ended_at": [None, world.clock()]}


def test_a_clock_that_steps_back_revives_nothing_in_this_process(world: World) -> None:
    expired = world.issue(expires_in=10)
    rotated = world.issue()
    world.rotate(rotated.token.id, 10)
    world.clock.move(10)
    before = [why_not(world, issued) for issued in (expired, rotated)]
    world.clock.move(-10)
    assert [why_not(world, issued) for issued in (expired, rotated)] == before == ["expired", "rotated"]


def test_what_is_recorded_is_not_revived_by_a_restart_with_an_earlier_clock(world: World) -> None:
    idle, revoked = world.issue(idle_timeout=3600), world.issue()
    world.clock.move(10_000)
    assert why_not(world, idle) == "idle"
    world.issuer.revoke(revoked.token.id, actor="tests")
    world.clock.move(-20_000)
    restarted = World(world.store, world.clock)
    assert [why_not(restarted, issued) for issued in (idle, revoked)] == ["idle", "revoked"]
    for issued in (idle, revoked):
        with pytest.raises(IssuanceError, match="a token that has ended cannot be rotated"):
            restarted.rotate(issued.token.id)


def test_one_hosts_fast_clock_ends_nobodys_token_for_good(world: World) -> None:
    issued = world.issue(idle_timeout=3600)
    fast = StoppedClock()
    fast.move(10_000)
    hasty = World(world.store, fast)
    assert why_not(hasty, issued) == "idle"  # the host itself refuses the token
    assert works(world, issued)
    assert kinds(world.store) == ["client.registered", "token.issued"]
    world.clock.move(3660)
    fast.move(60)  # it does not ask the store to end the token at every request
    assert why_not(hasty, issued) == "idle"
    assert kinds(world.store)[2:] == ["token.idle_ended"]  # now the store's clock agrees
    assert why_not(world, issued) == "idle"


def test_a_use_by_a_slow_clock_shortens_no_life(world: World) -> None:
    issued = world.issue(idle_timeout=3600)
    world.clock.move(-3600)
    world.use(issued)
    world.clock.move(3600 + 3600)
    assert works(world, issued)


def test_what_one_host_uses_another_does_not_find_idle(world: World) -> None:
    other = World(world.store, world.clock)
    issued = world.issue(idle_timeout=120)
    for turn in range(10):
        (world, other)[turn % 2].use(issued)
        world.clock.move(100)
    assert works(world, issued)
    assert works(other, issued)


def test_idle_tokens_of_two_hosts_end_once(world: World) -> None:
    other = World(world.store, world.clock)
    issued = world.issue(idle_timeout=120)
    world.clock.move(180)
    assert why_not(world, issued) == why_not(other, issued) == "idle"
    end_if_idle(world.store, issued.token.id)  # as where both have read it before either ends it
    end_if_idle(world.store, "A" * 16)  # or where it was removed in between
    assert kinds(world.store).count("token.idle_ended") == 1


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreError])
def test_while_the_end_cannot_be_recorded_an_idle_token_is_refused_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[StoreError]
) -> None:
    def refuse() -> Any:
        raise kind("the database cannot be written")

    issued = world.issue(idle_timeout=120)
    world.clock.move(180)
    monkeypatch.setattr(world.store, "transaction", refuse)
    assert why_not(world, issued) == "idle"
    said = f"the end of idle token {issued.token.id} could not be recorded yet: the database cannot be written"
    assert said in caplog.messages


# Rotation


def test_a_successor_is_the_same_but_for_its_secret(world: World) -> None:
    conditions = Conditions.parse(["10.0.0.0/8"], rate="100/minute")
    old = world.issue(
        "users:read groups:read", name="nightly", expires_in=7200, idle_timeout=600, conditions=conditions
    )
    world.clock.move(600)
    successor = world.rotate(old.token.id, 3600)
    new = successor.token
    assert (new.id, new.digest, successor.text.reveal()) != (old.token.id, old.token.digest, old.text.reveal())
    assert new == replace(
        old.token, id=new.id, digest=new.digest, created_at=world.clock(), expires_at=world.clock() + 7200 * SECOND
    )
    record = world.store.find(old.token.id)
    assert record is not None
    ends = world.clock() + 3600 * SECOND
    assert record.token == replace(old.token, successor_id=new.id, overlap_ends_at=ends)
    rotated, issued = world.store.events(2)
    assert (rotated.kind, rotated.token_id) == ("token.rotated", old.token.id)
    assert dict(rotated.data) == {"successor_id": [None, new.id], "overlap_ends_at": [None, ends]}
    assert (issued.kind, issued.token_id) == ("token.issued", new.id)


def test_both_work_in_the_overlap_and_the_old_one_may_be_ended_early(world: World) -> None:
    old = world.issue()
    successor = world.rotate(old.token.id)
    assert works(world, old)
    assert works(world, successor)
    world.issuer.revoke(old.token.id, actor="tests")
    assert why_not(world, old) == "revoked"
    assert works(world, successor)


def test_without_overlap_the_old_one_ends_at_once(world: World) -> None:
    old = world.issue()
    successor = world.rotate(old.token.id, 0)
    assert why_not(world, old) == "rotated"
    assert works(world, successor)


def test_a_successor_can_be_rotated_again(world: World) -> None:
    chain = [world.issue()]
    for _ in range(3):
        chain.append(world.rotate(chain[-1].token.id, 0))
    assert [why_not(world, issued) for issued in chain] == ["rotated"] * 3 + [""]


@pytest.mark.parametrize(("state", "message"), [
    ("revoked", "is revoked: a token that has ended cannot be rotated, issue a new one"),
    ("expired", "is expired: a token that has ended cannot be rotated"),
    ("idle", "is idle: a token that has ended cannot be rotated"),
    ("rotated", "is already rotated: its successor is "),
    ("in overlap", "is already rotated: its successor is "),
    ("disabled", "the client 'billing' is disabled: enable it first"),
    ("beyond", "the client 'billing' may not have 'users:read'; it may have 'groups:read'"),
])  # fmt: skip
def test_what_cannot_be_rotated_is_refused_and_stays_as_it_is(world: World, state: str, message: str) -> None:
    issued = world.issue(expires_in=10_000 if state == "expired" else None, idle_timeout=600)
    end(world, issued, state)
    before = (world.store.records(), world.store.events(100))
    with pytest.raises(IssuanceError, match=message):
        world.rotate(issued.token.id, 0)
    assert (world.store.records(), world.store.events(100)) == before


def end(world: World, issued: Issued, state: str) -> None:
    if state == "revoked":
        world.issuer.revoke(issued.token.id, actor="tests")
    elif state in {"rotated", "in overlap"}:
        world.rotate(issued.token.id, 0 if state == "rotated" else 3600)
    elif state == "disabled":
        world.issuer.disable(issued.token.client_id, actor="tests")
    elif state == "beyond":
        world.issuer.set_scopes(issued.token.client_id, "groups:read", actor="tests")
    else:
        world.clock.move(10_000 if state == "expired" else 660)


def test_an_unknown_token_cannot_be_rotated(world: World) -> None:
    with pytest.raises(UnknownToken, match="no token has the id 'nobody'"):
        world.rotate("nobody")


@pytest.mark.parametrize(("overlap", "fits"), [(3599, True), (3600, True), (3601, False), (LONGEST, False)])
def test_an_overlap_ends_before_the_token_does(world: World, overlap: int, fits: bool) -> None:
    issued = world.issue(expires_in=3600)
    if fits:
        world.rotate(issued.token.id, overlap)
        return
    with pytest.raises(IssuanceError, match=r"expires at 20.*Z, before the overlap would end: shorten it"):
        world.rotate(issued.token.id, overlap)
    assert [record.token for record in world.store.records()] == [issued.token]


def test_what_is_no_overlap_is_refused(world: World) -> None:
    issued = world.issue()
    for overlap in (-1, LONGEST + 1, 1.5, "24h", True, None):
        with pytest.raises(InvalidValue, match="duration"):
            world.rotate(issued.token.id, overlap)  # type: ignore[arg-type]
    assert [record.token for record in world.store.records()] == [issued.token]


def test_two_who_rotate_at_once_make_one_successor(world: World) -> None:
    issued = world.issue()
    outcomes: list[str] = []

    def rotate() -> None:
        try:
            world.rotate(issued.token.id)
            outcomes.append("done")
        except IssuanceError:
            outcomes.append("refused")

    run_together([rotate] * 6)
    assert sorted(outcomes) == ["done"] + ["refused"] * 5
    assert len(world.store.records()) == 2


def test_a_use_that_this_process_has_not_written_yet_keeps_a_token_alive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One write fails; the next attempt comes soon, and before the token counts as idle."""

    def fail_once(uses: Sequence[NewUse]) -> set[str]:
        monkeypatch.undo()
        raise OSError("full")

    requests = RequestGuard(world.guard, AuthScheme())
    issued = world.issue(idle_timeout=61)
    given = {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}"}
    monkeypatch.setattr(world.store, "record_uses", fail_once)
    for _ in range(20):
        requests.admit(create_environ() | given, ANY_TOKEN)
        requests.after_response()
        world.clock.move(50)
    assert not world.usage.due


class Lagging(MemoryStore):
    """Answers like a replica that no use has reached yet, unless the primary must be asked."""

    def __init__(self, clock: StoppedClock, replicated: bool) -> None:
        super().__init__(clock)
        self.replicated = replicated
        self.failing = True

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        found = super().standing(read, primary=primary)
        return found if found is None or primary or not self.replicated else found._replace(last_used_at=None)

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        if self.failing:
            raise StoreUnavailable("the database cannot be written")
        return super().record_uses(uses)


@pytest.mark.parametrize("replicated", [False, True])
def test_who_asks_about_a_token_hears_of_uses_that_were_not_written_yet(clock: StoppedClock, replicated: bool) -> None:
    store = Lagging(clock, replicated)
    world = World(store, clock)
    issued = world.issue(idle_timeout=61)
    world.use(issued)
    clock.move(50)
    world.use(issued)
    clock.move(100)
    store.failing = False
    token_id, standing = world.guard.introspect(issued.text)
    assert (token_id, standing.state(clock())) == (issued.token.id, State.ACTIVE)


@pytest.mark.parametrize("replicated", [False, True])
def test_uses_that_could_not_be_written_for_as_long_as_its_timeout_keep_a_token_alive(
    clock: StoppedClock, replicated: bool
) -> None:
    store = Lagging(clock, replicated)
    world = World(store, clock)
    issued = world.issue(idle_timeout=61)
    for _ in range(3):
        world.use(issued)
        clock.move(50)
    store.failing = False
    assert works(world, issued)
    assert store.use_by_day(issued.token.id) == {(clock() - SECOND) // DAY: 3}
    clock.move(61 + 60 - 50)
    assert why_not(world, issued) == "idle"


def test_uses_that_still_cannot_be_written_keep_a_token_alive_here(clock: StoppedClock) -> None:
    store = Lagging(clock, replicated=False)
    world = World(store, clock)
    issued = world.issue(idle_timeout=61)
    world.use(issued)
    clock.move(61 + 59)
    world.use(issued)
    clock.move(61 + 59)
    assert works(world, issued)
    assert "token.idle_ended" not in kinds(store)
    clock.move(1)
    assert why_not(world, issued) == "idle"


def test_an_end_that_the_store_does_not_agree_to_is_not_asked_for_at_every_request(clock: StoppedClock) -> None:
    store = MemoryStore()  # its own clock is years behind the guard's
    world = World(store, clock)
    issued = world.issue(idle_timeout=61)
    clock.move(1000)
    begun: list[int] = []
    transaction = store.transaction
    store.transaction = lambda: begun.append(1) or transaction()  # type: ignore[method-assign,func-returns-value]
    for _ in range(50):
        with pytest.raises(InvalidToken, match="idle"):
            world.guard.authenticate(issued.text)
    assert begun == [1]


def test_rotating_again_and_again_does_not_collect_working_tokens(clock: StoppedClock) -> None:
    world = World(MemoryStore(clock), clock, policy=Policy(max_active_tokens=1, idle_timeout=3600))
    first = world.issue()
    second = world.issuer.rotate(first.token.id, overlap=10**6, actor="tests")
    with pytest.raises(PolicyViolation, match="max_active_tokens"):
        world.issuer.rotate(second.token.id, overlap=10**6, actor="tests")
    world.issuer.revoke(first.token.id, actor="tests")
    third = world.issuer.rotate(second.token.id, overlap=0, actor="tests")
    assert third.token.idle_timeout == 3600 * SECOND


def test_a_successor_gets_the_idle_timeout_that_the_policy_has_now(clock: StoppedClock) -> None:
    store = MemoryStore(clock)
    issued = World(store, clock).issue()
    stricter = World(store, clock, policy=Policy(idle_timeout=3600))
    assert stricter.issuer.rotate(issued.token.id, actor="tests").token.idle_timeout == 3600 * SECOND
