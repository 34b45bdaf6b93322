"""Recording what tokens are used for: seldom, completely, and at nobody's cost."""

from __future__ import annotations

import atexit
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from werkzeug.test import create_environ

from tokenguard import (
    AuthScheme,
    Conditions,
    Guard,
    InsufficientScope,
    InvalidToken,
    Issued,
    MemoryStore,
    RequestGuard,
    Requirement,
    SchemaError,
    Scopes,
    Store,
    StoreError,
    StoreUnavailable,
    TokenCache,
    TokenGuardMiddleware,
    Use,
)
from tokenguard import usage as usage_module
from tokenguard import verified as verified_module
from tokenguard.clock import DAY, SECOND
from tokenguard.errors import StoreBusy
from tokenguard.ratelimits import RateLimiter
from tokenguard.scopes import ANY_TOKEN
from tokenguard.store import NewUse

from .child import in_child
from .conftest import KEY, StoppedClock, World, run_together
from .conftest import asked as asked_for

YEAR = 365 * 86_400


class RecordingStore(MemoryStore):
    """Counts the writes, and fails or skips what it is told to."""

    def __init__(self, clock: StoppedClock) -> None:
        super().__init__(clock)
        self.writes: list[list[str]] = []
        self.down = False
        self.fault: BaseException | None = None
        self.damaged: set[str] = set()
        self.busy: set[str] = set()
        self.meanwhile: Callable[[], object] = list

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        self.writes.append([use.token_id for use in uses])
        self.meanwhile()
        if self.down:
            raise StoreUnavailable("the database cannot be used: connection refused")
        if self.fault is not None:
            raise self.fault
        if any(use.token_id in self.damaged for use in uses):
            raise StoreError("a row of tokenguard_use is damaged")
        return super().record_uses([use for use in uses if use.token_id not in self.busy]) | (
            self.busy & {use.token_id for use in uses}
        )


@pytest.fixture
def store(clock: StoppedClock) -> RecordingStore:
    return RecordingStore(clock)


@pytest.fixture
def world(store: RecordingStore, clock: StoppedClock) -> World:
    return World(store, clock)


def last_use(store: Store, issued: Issued) -> Use:
    record = store.find(issued.token.id)
    assert record is not None
    assert record.use is not None
    return record.use


def requests(store: Store, issued: Issued) -> int:
    return sum(store.use_by_day(issued.token.id).values())


def environ(issued: Issued, address: str = "192.0.2.1") -> dict[str, Any]:
    return create_environ() | {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}", "REMOTE_ADDR": address}


def test_the_first_use_is_written_at_once(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    assert requests(store, issued) == 0
    world.use(issued, "users:read", address="2001:db8::1")
    assert last_use(store, issued) == Use(issued.token.id, world.clock(), "2001:db8::1", Scopes(["users:read"]))


def test_where_nobody_knows_from_where_none_is_on_record(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    world.usage.note(world.guard.admit(issued.text, None), ANY_TOKEN, None)
    world.usage.write()
    assert last_use(store, issued) == Use(issued.token.id, world.clock(), "", Scopes())


def test_at_most_one_write_a_minute_and_none_is_lost(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    for _ in range(601):  # ten minutes, with a request a second
        world.use(issued)
        world.clock.move(1)
    assert len(store.writes) == 11
    assert requests(store, issued) == 601
    assert last_use(store, issued).last_used_at == world.clock() - SECOND


@pytest.mark.parametrize(("after", "writes"), [(59.999999, 1), (60, 2)])
def test_the_minute_to_the_microsecond(world: World, store: RecordingStore, after: float, writes: int) -> None:
    issued = world.issue()
    world.use(issued)
    world.clock.move(after)
    world.use(issued)
    assert len(store.writes) == writes


def test_a_write_takes_along_what_has_waited_for_a_minute(world: World, store: RecordingStore) -> None:
    quiet, busy = world.issue(), world.issue()
    for _ in range(2):
        world.use(quiet)
        world.use(busy)
    assert requests(store, quiet) == 1
    world.clock.move(60)
    world.use(busy)
    assert sorted(store.writes[-1]) == sorted([quiet.token.id, busy.token.id])
    assert (requests(store, quiet), requests(store, busy)) == (2, 3)


def test_tokens_that_are_always_in_use_are_soon_written_together(world: World, store: RecordingStore) -> None:
    many = [world.issue() for _ in range(20)]
    for _ in range(5 * 60):
        for issued in many:
            world.use(issued)
            world.clock.move(0.05)
    assert len(store.writes) <= len(many) + 4 * 2
    world.usage.write(everything=True)
    assert [requests(store, issued) for issued in many] == [300] * len(many)


def test_reading_a_token_again_writes_nothing_and_loses_nothing(world: World, store: RecordingStore) -> None:
    client = world.client()
    issued = world.issue(client=client.id)
    for number in range(3):
        world.use(issued)
        world.issuer.set_conditions(client.id, Conditions.parse(deny=[f"198.51.100.{number}"]), actor="tests")
    world.use(issued)
    assert len(store.writes) == 1
    world.usage.write(everything=True)
    assert requests(store, issued) == 4


def test_nor_where_it_may_do_something_else_from_then_on(world: World, store: RecordingStore) -> None:
    client = world.client()
    issued = world.issue("users:read groups:read", client=client.id)
    day = world.clock() // DAY
    world.use(issued)
    world.clock.move(1)
    held_by_a_thread = world.guard.admit(issued.text, None)
    way = RequestGuard(world.guard, AuthScheme())
    for asked, scopes in (("groups:read", "users:read"), ("users:read", "groups:read"), ("groups:read", "users:read")):
        world.use(issued, asked)
        world.issuer.set_scopes(client.id, scopes, actor="tests")
        world.guard.admit(issued.text, None)
        assert way.wave_through(environ(issued), asked_for((asked,))) is None
    world.usage.note(held_by_a_thread, ANY_TOKEN, "192.0.2.2")
    world.use(issued)
    assert len(store.writes) == 1
    world.clock.move(86_400)
    world.use(issued, "users:read", write=False)
    world.issuer.set_scopes(client.id, "users:read groups:read", actor="tests")
    world.use(issued)
    assert len(store.writes) == 2
    assert list(last_use(store, issued).scopes) == ["groups:read", "users:read"]
    world.usage.write(everything=True)
    assert store.use_by_day(issued.token.id) == {day: 6, day + 1: 2}


def test_a_use_that_is_being_counted_while_its_token_is_read_again_is_not_lost(
    world: World, store: RecordingStore
) -> None:
    client = world.client()
    issued = world.issue(client=client.id)
    world.use(issued)
    world.use(issued)
    held_by_a_thread = world.guard.admit(issued.text, None)
    world.issuer.set_conditions(client.id, Conditions.parse(deny=["198.51.100.1"]), actor="tests")
    world.use(issued)
    next(held_by_a_thread.using.uses)  # the thread got its token before the change
    world.usage.write(everything=True)
    assert requests(store, issued) == 4


def test_a_use_that_is_being_counted_while_its_token_is_written_is_not_lost(
    world: World, store: RecordingStore
) -> None:
    issued = world.issue()
    held_by_a_thread = world.guard.admit(issued.text, None)
    for each in (issued, issued, world.issue()):
        world.use(each, write=False)
    world.usage.write()
    next(held_by_a_thread.using.uses)  # the thread had asked before whether it must look
    world.usage.write(everything=True)
    assert requests(store, issued) == 3


def test_a_token_is_not_idle_while_its_last_use_is_just_being_written(world: World, store: RecordingStore) -> None:
    issued = world.issue(idle_timeout=3600)
    world.use(issued)
    world.clock.move(50)
    world.use(issued)  # not due yet
    world.clock.move(3645)
    found = []
    store.meanwhile = lambda: found.append(world.guard.admit(issued.text, None))  # in another thread
    world.usage.write(everything=True)
    assert [each.token_id for each in found] == [issued.token.id]
    record = store.find(issued.token.id)
    assert record is not None
    assert record.token.idle_ended_at is None


def test_tokens_that_are_not_used_any_more_are_forgotten(world: World) -> None:
    issued, others = world.issue(), [world.issue(), world.issue()]
    for each in others:
        world.use(each)
    world.clock.move(59)
    world.use(issued)
    assert world.usage._waiting.keys() > {each.token.id for each in others}
    world.clock.move(2)
    world.use(issued)
    world.usage.write(everything=True)
    world.clock.move(61)
    world.use(issued)
    assert world.usage._waiting.keys() == {issued.token.id}


def test_two_workers_write_once_a_minute_each(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    other = World(store, world.clock)
    for _ in range(181):
        world.use(issued)
        other.use(issued)
        world.clock.move(1)
    assert len(store.writes) <= 2 * 4
    for each in (world, other):
        each.usage.write(everything=True)
    assert requests(store, issued) == 362


def test_what_a_token_was_asked_for_adds_up(world: World, store: RecordingStore) -> None:
    issued = world.issue("users:manage groups:read")
    world.use(issued, "users:read", address="192.0.2.1")
    world.use(issued, "groups:read", address="192.0.2.2")
    world.clock.move(1)
    world.use(issued, address="192.0.2.3")
    world.usage.write(everything=True)
    use = last_use(store, issued)
    assert (use.scopes, use.address) == (Scopes(["groups:read", "users:read"]), "192.0.2.3")


def test_also_where_it_was_asked_for_more_than_is_remembered(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_module, "MANY_MET", 2)
    names = ["groups:read", "users:manage", "users:read"]
    issued = world.issue("users:manage groups:read")
    for name in names * 3:
        world.use(issued, name)
    world.usage.write(everything=True)
    assert list(last_use(store, issued).scopes) == names
    assert requests(store, issued) == 9


def test_days_are_counted_apart_across_midnight(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    day = world.clock() // DAY + 1
    world.clock.micros = day * DAY - 1
    world.use(issued)
    world.use(issued)
    world.clock.micros += 1
    world.use(issued)
    world.usage.write(everything=True)
    assert store.use_by_day(issued.token.id) == {day - 1: 2, day: 1}


def test_nor_does_a_use_that_is_not_due_before_midnight_count_for_the_day_before(
    world: World, store: RecordingStore
) -> None:
    issued = world.issue()
    day = world.clock() // DAY + 1
    world.clock.micros = day * DAY - 10 * SECOND
    world.use(issued)
    world.usage.write()
    for seconds in (9, 2):  # one second before midnight, and one after
        world.clock.move(seconds)
        world.use(issued)
    world.usage.write(everything=True)
    assert store.use_by_day(issued.token.id) == {day - 1: 2, day: 1}


def test_a_clock_that_steps_back_turns_no_use_back(store: RecordingStore) -> None:
    world = World(store)  # its clock is not the store's
    issued = world.issue()
    world.use(issued, address="192.0.2.1")
    before = last_use(store, issued)
    world.clock.move(-3600)
    world.use(issued, address="192.0.2.2")
    world.usage.write(everything=True)
    assert last_use(store, issued) == before
    assert requests(store, issued) == 2


def test_a_clock_that_has_stepped_back_keeps_no_use_from_being_due_within_a_minute(world: World) -> None:
    """Although for the guard the clock stands still until it is back where it was."""
    requests, issued = RequestGuard(world.guard, AuthScheme()), world.issue()

    def use() -> bool:
        assert requests.identify(environ(issued)) is not None
        return bool(world.usage.due)

    assert use()
    world.usage.write()
    world.clock.move(-3600)
    assert not use()
    world.clock.move(60)
    assert use()


def test_a_last_use_on_record_that_lies_in_the_future_keeps_nobody_from_writing(
    world: World, store: RecordingStore
) -> None:
    issued = world.issue()
    world.clock.move(YEAR)
    world.use(issued, address="192.0.2.1")
    world.clock.move(-YEAR)
    restarted = World(store, world.clock)
    for _ in range(2):
        restarted.use(issued, address="192.0.2.2")
        world.clock.move(60)
    assert last_use(store, issued) == Use(issued.token.id, world.clock() - 60 * SECOND, "192.0.2.2", Scopes())
    assert len(store.writes) == 2


@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("is_short", [False, True])
def test_a_clock_that_leaps_and_steps_back_keeps_its_own_process_from_writing_for_a_minute_at_most(
    store: RecordingStore, clock: StoppedClock, is_short: bool, is_down: bool
) -> None:
    world, seconds = World(store), [0.0]
    cache = TokenCache(store, monotonic=lambda: seconds[0])
    guard = Guard(store, world.tokens, clock=world.clock, usage=world.usage, cache=cache)
    way, issued = RequestGuard(guard, AuthScheme()), world.issue()

    def use(times: int = 1) -> None:
        for _ in range(times):
            asked = environ(issued)
            if not is_short or way.wave_through(asked, ANY_TOKEN) is None:
                way.admit(asked, ANY_TOKEN)
            way.after_response()

    use(2)
    world.clock.move(YEAR)
    store.down = is_down
    use(2)  # after this write, the next is due in a minute
    store.down = False
    world.clock.move(-YEAR)
    seconds[0] += 1.0  # so that the feed is due
    use()
    for each in (clock, world.clock):
        each.move(60)
    use()
    assert last_use(store, issued) == Use(issued.token.id, clock(), "192.0.2.1", Scopes())
    assert requests(store, issued) == 6


def test_while_the_store_is_down_nothing_is_lost_and_it_is_not_asked_all_the_time(
    world: World, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    issued, other = world.issue(), world.issue()
    store.down = True
    for _ in range(180):
        world.use(issued, "users:read")
        world.use(other)
        world.clock.move(1)
    assert 3 <= len(store.writes) <= 2 * 180 // 5  # for each token at most one every five seconds
    why = "could not be recorded yet: the database cannot be used: connection refused"
    assert set(caplog.messages) == {f"the use of {tokens} {why}" for tokens in ("1 token", "2 tokens")}
    store.down = False
    world.clock.move(60)
    world.use(issued)
    assert (requests(store, issued), requests(store, other)) == (181, 180)
    use = last_use(store, issued)
    assert (use.last_used_at, list(use.scopes)) == (world.clock(), ["users:read"])


def test_a_use_during_a_write_that_fails_waits_with_the_others(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    store.down = True
    store.meanwhile = lambda: world.use(issued, write=False)
    world.use(issued)
    world.clock.move(1)
    world.use(issued)
    world.use(issued)
    assert len(store.writes) == 1
    store.down, store.meanwhile = False, list
    world.usage.write(everything=True)
    assert requests(store, issued) == 4


def test_nor_is_one_lost_with_the_same_token_read_again(world: World, store: RecordingStore) -> None:
    client = world.client()
    issued = world.issue("users:read groups:read", client=client.id)
    first_day = world.clock() // DAY

    def use_meanwhile() -> None:
        for number, scopes in enumerate(("users:read", "groups:read", "users:read"), 1):
            world.issuer.set_scopes(client.id, scopes, actor="tests")
            world.use(issued, scopes, address=f"192.0.2.{number}", write=False)
            world.clock.move(43_200)
        world.clock.move(-43_200)

    store.down, store.meanwhile = True, use_meanwhile
    world.use(issued, "users:read")
    store.down, store.meanwhile = False, list
    world.usage.write(everything=True)
    scopes = Scopes(["groups:read", "users:read"])
    assert last_use(store, issued) == Use(issued.token.id, world.clock(), "192.0.2.3", scopes)
    assert requests(store, issued) == 4
    assert store.use_by_day(issued.token.id).keys() == {first_day, first_day + 1}


def test_a_clock_that_steps_back_during_a_write_that_fails_turns_no_use_back(
    world: World, store: RecordingStore
) -> None:
    issued = world.issue()
    latest = world.clock()

    def step_back() -> None:
        world.clock.move(-10)
        world.use(issued, address="192.0.2.2", write=False)

    store.down, store.meanwhile = True, step_back
    world.use(issued, address="192.0.2.1")
    store.down, store.meanwhile = False, list
    world.clock.move(60)
    world.usage.write(everything=True)
    assert last_use(store, issued) == Use(issued.token.id, latest, "192.0.2.1", Scopes())


def test_nor_does_it_put_off_the_next_attempt(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    store.down, store.meanwhile = True, lambda: world.clock.move(-3600)
    world.use(issued)
    store.down, store.meanwhile = False, list
    world.clock.move(5)
    world.use(issued)
    assert requests(store, issued) == 2


def test_what_a_token_was_asked_for_is_on_record_after_a_write_that_failed(world: World, store: RecordingStore) -> None:
    issued = world.issue("users:read groups:read")
    store.down = True
    world.use(issued, "users:read")
    store.down = False
    world.clock.move(1)
    world.use(issued, "groups:read", write=False)
    world.usage.write(everything=True)
    assert list(last_use(store, issued).scopes) == ["groups:read", "users:read"]


@pytest.mark.parametrize("kind", [ValueError, StoreUnavailable])
def test_the_log_of_a_write_that_failed_shows_no_secret_of_the_error(
    world: World, store: RecordingStore, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    issued = world.issue()
    store.fault = kind(f"not a text: {issued.text.reveal()}")
    world.use(issued)
    assert "could not be recorded" in caplog.text
    assert issued.text.reveal() not in caplog.text


def test_what_another_process_is_writing_waits(world: World, store: RecordingStore) -> None:
    issued = world.issue()
    store.busy = {issued.token.id}
    world.use(issued)
    world.use(issued)
    assert (len(store.writes), requests(store, issued)) == (1, 0)
    store.busy = set()
    world.clock.move(60)
    world.use(issued)
    assert (len(store.writes), requests(store, issued)) == (2, 3)


def test_the_use_of_a_token_with_a_rate_is_written_no_more_often(world: World, store: RecordingStore) -> None:
    world.guard.limiter = RateLimiter()
    issued = world.issue(conditions=Conditions.parse([], [], "1000/minute"))
    for _ in range(10):
        world.use(issued)
    assert (len(store.writes), requests(store, issued)) == (1, 1)
    world.clock.move(60)
    world.use(issued)
    assert (len(store.writes), requests(store, issued)) == (2, 11)


def test_a_use_that_was_written_with_others_does_not_put_off_the_next(world: World, store: RecordingStore) -> None:
    """Other processes count a token as idle from a minute after its recorded use on."""
    token, other = world.issue(), world.issue()
    world.use(token)
    world.use(other)
    world.clock.move(10)
    world.use(token)
    world.clock.move(50)
    world.use(other)  # which also writes the first token's use of 50 seconds ago
    world.clock.move(59)
    world.use(token)
    assert last_use(store, token).last_used_at == world.clock()


def test_no_more_than_so_many_wait(world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "MAX_WAITING", 2)
    many = [world.issue() for _ in range(3)]
    for issued in many * 3:
        world.use(issued)
    assert [requests(store, issued) for issued in many] == [3, 3, 3]


def test_no_more_than_so_many_are_written_at_once(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", 2)
    busy, *many = (world.issue() for _ in range(5))
    for issued in [busy, *many] * 2:
        world.use(issued)
    for number in range(4):
        world.clock.move(60)
        world.use(busy)
        # The use that this request has made due is always among them.
        assert (len(store.writes[-1]), requests(store, busy)) == (2, number + 3)
    world.use(busy)
    assert [requests(store, issued) for issued in many] == [2, 2, 2, 2]


def test_nor_where_all_is_written(world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", 2)
    first, *many = (world.issue() for _ in range(6))
    world.usage.prepare(world.guard.admit(first.text, None), ANY_TOKEN, world.clock())  # its use is just being counted
    for issued in many:
        world.use(issued, write=False)
    world.usage.write(everything=True)
    assert [len(written) for written in store.writes] == [2, 2, 1]
    assert [requests(store, issued) for issued in many] == [1] * 5


def test_one_damaged_row_keeps_no_other_token_from_its_own(
    world: World, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    many = [world.issue() for _ in range(9)]
    for issued in many * 2:
        world.use(issued)
    bad, *good = many
    store.damaged = {bad.token.id}
    world.clock.move(60)
    world.use(bad)
    assert [requests(store, issued) for issued in good] == [2] * 8
    assert f"the use of token {bad.token.id} could not be recorded: a row of tokenguard_use is damaged" in caplog.text
    attempts = len(store.writes)
    world.clock.move(30)
    world.use(bad)
    assert len(store.writes) == attempts  # a damaged row is tried again once a minute
    other = world.issue()
    world.use(other)
    assert requests(store, other) == 1
    store.damaged = set()
    world.clock.move(30)
    world.use(bad)
    assert requests(store, bad) == 5


def test_a_store_that_goes_away_while_a_damaged_row_is_looked_for_is_not_asked_on(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (world.issue() for _ in range(2))
    for issued in [one, other] * 2:
        world.use(issued)
    faults = iter([StoreError("a row is damaged"), StoreBusy("another writer held the database for too long"), None])
    store.meanwhile = lambda: setattr(store, "fault", next(faults))
    monkeypatch.setattr(usage_module.time, "sleep", lambda seconds: None)
    world.usage.write_rest()  # which tries again, as another was in the way
    assert [len(written) for written in store.writes[2:]] == [2, 1, 2]
    assert (requests(store, one), requests(store, other)) == (2, 2)


def test_where_too_many_wait_a_store_that_is_away_has_its_pause_all_the_same(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "MAX_WAITING", 2)
    many = [world.issue() for _ in range(5)]
    store.down, store.meanwhile = True, lambda: world.clock.move(6)  # the pause begins when it has failed
    for _ in range(4):
        for issued in many:
            world.use(issued)
    assert len(store.writes) == 1
    store.down, store.meanwhile = False, list
    world.clock.move(6)
    world.use(many[0])
    world.usage.write(everything=True)
    assert [requests(store, issued) for issued in many] == [5, 4, 4, 4, 4]


def test_what_was_being_written_when_the_process_was_told_to_end_is_written_at_exit(
    world: World, store: RecordingStore
) -> None:
    many = [world.issue() for _ in range(4)]
    for issued in many * 2:
        world.use(issued)
    world.clock.move(60)
    faults = iter([StoreError("a row is damaged"), SystemExit()])
    store.meanwhile = lambda: setattr(store, "fault", next(faults))
    with pytest.raises(SystemExit):
        world.use(many[0])
    store.fault, store.meanwhile = None, list
    world.usage.write_rest()
    assert [requests(store, issued) for issued in many] == [3, 2, 2, 2]


def test_many_threads_count_exactly(world: World, store: RecordingStore) -> None:
    issued = world.issue()

    def use(number: int) -> None:
        for _ in range(200):
            world.use(issued, f"s{number}")
            world.clock.move(1)

    run_together([partial(use, number) for number in range(8)])
    world.usage.write(everything=True)
    assert requests(store, issued) == 1600
    assert len(last_use(store, issued).scopes) == 8


def test_a_forked_child_starts_empty(world: World, store: RecordingStore) -> None:
    """Uses that the parent holds are the parent's to write: written by both, they would count twice."""
    issued = world.issue()
    world.use(issued)
    world.use(issued)

    def write() -> int:
        world.usage.write(everything=True)
        return len(store.writes)

    with world.usage._lock:  # as another thread may, which the child does not have
        assert in_child(write) == 1
    world.usage.write(everything=True)
    assert requests(store, issued) == 2


def test_nothing_is_kept_until_the_exit_of_a_log_that_nobody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    usage_module.UsageLog(MemoryStore())  # the first log makes weakref register its own exit hook
    kept: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", kept.append)
    monkeypatch.setattr(atexit, "unregister", kept.remove)
    usage = usage_module.UsageLog(MemoryStore())
    assert len(kept) == 1
    del usage
    gc.collect()
    assert kept == []


EXITING = """
import sys
from tokenguard import Guard, Requirement, SigningKeys, TokenFormat, UsageLog
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.secret import Secret
store = SQLAlchemyStore(sys.argv[1])
usage = UsageLog(store)
guard = Guard(store, TokenFormat(SigningKeys(sys.argv[2])), usage=usage)
for _ in range(5):
    usage.note(guard.admit(Secret(sys.stdin.readline().strip()), None), Requirement(("users:read",)), "192.0.2.1")
"""


def test_what_waits_is_written_at_exit(database_url: str, database_store: Store) -> None:
    issued = World(database_store).issue()
    text = f"{issued.text.reveal()}\n" * 5
    done = subprocess.run(
        [sys.executable, "-c", EXITING, database_url, KEY], input=text, text=True, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert requests(database_store, issued) == 5


FIRST = """
from tokenguard import MemoryStore, UsageLog
class Log(UsageLog):
    def write_rest(self):
        print("written")
log = Log(MemoryStore())
"""


def test_also_where_python_has_nothing_else_to_finish() -> None:
    """Python's own finalizers run before hooks that were registered earlier, and must not drop them."""
    assert subprocess.run([sys.executable, "-c", FIRST], text=True, capture_output=True).stdout == "written\n"


def test_workers_that_end_together_wait_for_each_other(world: World, store: RecordingStore) -> None:
    """Each skips what another is writing at the moment, and has no later chance to try it again."""
    issued = world.issue()
    world.use(issued)
    world.use(issued)
    store.busy.add(issued.token.id)

    def free_in_the_third() -> None:
        if len(store.writes) == 3:
            store.busy.clear()

    store.meanwhile = free_in_the_third
    world.usage.write_rest()
    assert (len(store.writes), requests(store, issued)) == (3, 2)


@pytest.mark.parametrize(("everything_at_once", "is_damaged"), [(1, False), (200, True)])
def test_also_for_one_of_several(
    world: World,
    store: RecordingStore,
    monkeypatch: pytest.MonkeyPatch,
    everything_at_once: int,
    is_damaged: bool,
) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", everything_at_once)
    held, other = (world.issue() for _ in range(2))
    for issued in [held, other] * 2:
        world.use(issued)
    store.busy.add(held.token.id)
    if is_damaged:
        store.damaged.add(other.token.id)
    monkeypatch.setattr(usage_module.time, "sleep", lambda seconds: store.busy.clear() if seconds else None)
    world.usage.write_rest()
    assert requests(store, held) == 2


@pytest.mark.parametrize("everything_at_once", [1, 200])
def test_also_where_one_holds_what_the_other_needs(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch, everything_at_once: int
) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", everything_at_once)
    many = [world.issue() for _ in range(3)]
    for issued in many * 2:
        world.use(issued)
    pauses: list[float] = []
    store.fault = StoreBusy("another writer held the database for too long: nothing was done, try again")

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if seconds > 0.1:
            store.fault = None

    monkeypatch.setattr(usage_module.time, "sleep", wait)
    world.usage.write_rest()
    assert [requests(store, issued) for issued in many] == [2, 2, 2]
    assert pauses == [0, 0.05, 0.1, 0.2]


def test_a_process_that_ends_waits_once_where_waiting_takes_long(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = world.issue()
    world.use(issued)
    world.use(issued)
    clock = StoppedClock()
    monkeypatch.setattr(usage_module.time, "monotonic", lambda: clock() / SECOND)
    store.fault = StoreBusy("another writer held the database for too long: nothing was done, try again")
    store.meanwhile = lambda: clock.move(5)
    world.usage.write_rest()
    assert len(store.writes) == 1 + 1


@pytest.mark.parametrize(("fault", "attempts"), [("down", 1), ("damaged", 3)])
def test_a_process_that_ends_does_not_wait_for_what_cannot_be_written(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch, fault: str, attempts: int
) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", 1)
    for issued in (many := [world.issue() for _ in range(3)]) * 2:
        world.use(issued)
    setattr(store, fault, {issued.token.id for issued in many})
    world.usage.write_rest()
    assert len(store.writes) == 3 + attempts  # the first three wrote the first uses


def test_a_log_that_nobody_holds_any_more_is_gone(world: World) -> None:
    log = usage_module.UsageLog(world.store)
    alive = weakref.ref(log)
    del log
    gc.collect()
    assert alive() is None


# In a request


def test_a_request_counts_once_it_is_let_in_and_answered(world: World, store: RecordingStore) -> None:
    issued = world.issue("users:manage")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        assert store.writes == []  # after the response, not before it
        start_response("200 OK", [])
        return [b""]

    guarded = TokenGuardMiddleware(app, world.guard, any_of=["users:read", "groups:read"])
    answer = guarded(environ(issued, "::ffff:192.0.2.9"), lambda *args: print)  # type: ignore[arg-type]
    list(answer)
    answer.close()  # type: ignore[attr-defined]
    use = last_use(store, issued)
    # Of the required scopes, only those that let it in.
    assert (list(use.scopes), use.address) == (["users:read"], "192.0.2.9")
    assert requests(store, issued) == 1


def test_uses_are_written_where_no_answer_is_ever_closed(world: World, store: RecordingStore) -> None:
    """As with asgiref's WsgiToAsgi, which does not close answers whose length it knows."""
    issued, seconds = world.issue(), 0.0
    world.guard.cache.monotonic = lambda: seconds
    guarded = TokenGuardMiddleware(lambda environ, start_response: [b"x"], world.guard, "users:read")
    for _ in range(2):
        for _ in range(3):
            assert next(iter(guarded(environ(issued), lambda *args: print))) == b"x"
        assert store.writes == []  # each answer may still be in transit
        seconds += 0.5
    seconds += 1
    assert next(iter(guarded(environ(issued), lambda *args: print))) == b"x"
    assert requests(store, issued) == 7


@pytest.mark.parametrize("follows", ["without a token", "with another"])
@pytest.mark.parametrize(("fault", "pause"), [("down", 5), ("busy", 5), ("damaged", 60)])
def test_what_could_not_be_written_is_tried_again_by_whichever_request_ends_later(
    world: World, store: RecordingStore, follows: str, fault: str, pause: int
) -> None:
    """The token might not be used in this process again, and must not be found idle in another."""
    issued, other = world.issue(), world.issue()
    world.use(other)
    guarded = TokenGuardMiddleware(lambda environ, start_response: [b"x"], world.guard, "users:read")

    def answer(environ: Any) -> None:
        response = guarded(environ, lambda *args: print)
        assert list(response)
        if close := getattr(response, "close", None):
            close()

    later = create_environ() if follows == "without a token" else environ(other)
    setattr(store, fault, fault == "down" or {issued.token.id})
    answer(environ(issued))
    assert (len(store.writes), requests(store, issued)) == (2, 0)
    setattr(store, fault, set())
    world.clock.micros += pause * SECOND - 1
    answer({**later})
    assert len(store.writes) == 2
    world.clock.micros += 1
    answer({**later})
    assert requests(store, issued) == 1
    assert not world.usage.due


@pytest.mark.parametrize("fault", [StoreUnavailable("connection refused"), SchemaError("outdated")])
def test_so_is_what_was_to_be_written_after_it(
    world: World, store: RecordingStore, monkeypatch: pytest.MonkeyPatch, fault: StoreError
) -> None:
    monkeypatch.setattr(usage_module, "MANY_WRITTEN", 1)
    many = [world.issue() for _ in range(3)]
    for issued in many:
        world.use(issued, write=False)
    guard = RequestGuard(world.guard, AuthScheme())
    store.fault = fault
    for _ in range(2):
        guard.after_response()
    assert len(store.writes) == 1
    store.fault = None
    world.clock.move(5)
    guard.after_response()
    assert [requests(store, issued) for issued in many] == [1, 1, 1]


def test_a_use_is_noted_at_its_time_where_a_middleware_has_asked_who_is_calling(
    world: World, store: RecordingStore
) -> None:
    issued = world.issue()
    requests_guard = RequestGuard(world.guard, AuthScheme())
    for _ in range(3):
        world.clock.move(3600)
        asked = environ(issued)
        assert requests_guard.authenticate(asked) is not None
        assert requests_guard.wave_through(asked, ANY_TOKEN) or requests_guard.admit(asked, ANY_TOKEN)
        requests_guard.after_response()
        assert last_use(store, issued).last_used_at == world.clock()
    assert requests(store, issued) == 3


@pytest.mark.parametrize(("key", "scheme"), [("HTTP_AUTHORIZATION", "bearer "), ("HTTP_X_API_KEY", "")])
def test_a_request_counts_once_also_where_the_token_is_not_sent_as_usual(
    world: World, store: RecordingStore, key: str, scheme: str
) -> None:
    issued = world.issue()
    guard = RequestGuard(world.guard, AuthScheme(headers=["X-API-Key"]))
    for _ in range(2):
        asked = create_environ() | {key: scheme + issued.text.reveal()}
        for requirement in (ANY_TOKEN, Requirement.scopes("users:read")):  # a blueprint's and its view's
            guard.admit(asked, requirement)
    world.usage.write(everything=True)
    assert requests(store, issued) == 2


@pytest.mark.parametrize("lets_in", [True, False], ids=["lets in", "asks who it is"])
def test_a_request_counts_once_where_one_guard_stands_around_another(
    world: World, store: RecordingStore, lets_in: bool
) -> None:
    issued = world.issue()
    outer, inner = (RequestGuard(world.guard, AuthScheme()) for _ in range(2))
    for _ in range(2):  # the second one takes the short way
        asked = environ(issued)
        assert outer.admit(asked, ANY_TOKEN) if lets_in else outer.authenticate(asked)
        assert inner.wave_through(asked, ANY_TOKEN) or inner.admit(asked, ANY_TOKEN)
    world.usage.write(everything=True)
    assert requests(store, issued) == 2


def test_refused_requests_are_no_use(world: World, store: RecordingStore) -> None:
    client = world.client()
    issued = world.issue(client=client.id, conditions=Conditions.parse(["10.0.0.0/8"]))
    guard = RequestGuard(world.guard, AuthScheme())
    world.issuer.disable(client.id, actor="tests")
    with pytest.raises(InvalidToken):
        guard.admit(environ(issued, "10.0.0.1"), ANY_TOKEN)
    world.issuer.enable(client.id, actor="tests")
    with pytest.raises(InsufficientScope):
        guard.admit(environ(issued, "10.0.0.1"), Requirement.scopes("groups:read"))
    with pytest.raises(Exception, match="network"):
        guard.admit(environ(issued, "11.0.0.1"), ANY_TOKEN)
    guard.after_response()
    world.usage.write(everything=True)
    assert store.writes == []


def test_a_use_that_cannot_be_written_breaks_no_request(
    world: World, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = world.issue()
    store.down = True
    guard = RequestGuard(world.guard, AuthScheme())
    guard.admit(environ(issued), ANY_TOKEN)
    guard.after_response()
    assert issued.text.reveal() not in caplog.text
