"""Which caller waits for a store that hangs: the one that finds out whether it is back, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from werkzeug.test import create_environ

from tokenguard import (
    AuthScheme,
    MemoryStore,
    RequestGuard,
    SchemaError,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenCache,
)
from tokenguard import cache as cache_module
from tokenguard.breaker import Breaker, NotAsked
from tokenguard.records import NewUse
from tokenguard.scopes import ANY_TOKEN
from tokenguard.store import Feed

from .conftest import World, run_together

FAILURE = StoreUnavailable("as the test wants it")


class Hanging(MemoryStore):
    """Does as it is told when its feed is read."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.fails: StoreError | None = None
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def feed(self, since: int) -> Feed:
        self.asked.set()
        assert self.answers.wait(30)
        if self.fails:
            raise self.fails
        return super().feed(since)


def stop_time(cache: TokenCache, seconds: list[float]) -> None:
    cache.monotonic = cache.breaker._monotonic = cache.feed_breaker._monotonic = lambda: seconds[0]


def test_what_can_wait_is_not_written_while_the_store_is_in_doubt() -> None:
    store = Hanging()
    world = World(store)
    requests, seconds = RequestGuard(world.guard, AuthScheme()), [1000.0]
    stop_time(world.guard.cache, seconds)
    issued = world.issue()

    def ask() -> None:
        environ = create_environ(headers={"Authorization": f"Bearer {issued.text.reveal()}"})
        requests.admit(environ, ANY_TOKEN)
        requests.after_response()

    ask()
    world.clock.move(61)
    store.fails = FAILURE
    seconds[0] += 0.9  # the feed is due, and what is cached may still be used
    ask()
    assert sum(store.use_by_day(issued.token.id).values()) == 1
    store.fails = None
    seconds[0] += 10
    ask()
    assert sum(store.use_by_day(issued.token.id).values()) == 3


def test_what_waits_is_written_once_the_store_is_back_also_where_nobody_calls_with_a_token() -> None:
    store = Hanging()
    world = World(store)
    requests, cache, seconds = RequestGuard(world.guard, AuthScheme()), world.guard.cache, [1000.0]
    stop_time(cache, seconds)
    issued = world.issue()
    world.use(issued, write=False)
    store.fails = FAILURE
    seconds[0] += 10
    with pytest.raises(TemporarilyUnavailable):
        world.guard.authenticate(issued.text)
    store.asked.clear()
    requests.after_response()
    assert not store.asked.is_set()  # the store has just failed
    seconds[0] += 10
    with cache._reading:  # another thread is finding out, and this one does not wait for it
        requests.after_response()
    assert not store.asked.is_set()
    requests.after_response()
    assert store.asked.is_set()
    assert store.use_by_day(issued.token.id) == {}
    store.fails = None
    seconds[0] += 10
    requests.after_response()
    assert sum(store.use_by_day(issued.token.id).values()) == 1


def test_while_one_finds_out_whether_the_store_is_back_the_others_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 3600)
    store = Hanging()
    world = World(store)
    cache, seconds = world.guard.cache, [1000.0]
    stop_time(cache, seconds)
    issued = world.issue()
    world.guard.authenticate(issued.text)

    store.fails = FAILURE
    seconds[0] += 10
    with pytest.raises(TemporarilyUnavailable):
        world.guard.authenticate(issued.text)

    store.fails = None
    store.answers.clear()
    store.asked.clear()
    seconds[0] += 10
    first = threading.Thread(target=world.guard.authenticate, args=[issued.text])
    first.start()
    try:
        assert store.asked.wait(30)

        def told() -> None:
            with pytest.raises(TemporarilyUnavailable):
                world.guard.authenticate(issued.text)

        run_together([told] * 3)
    finally:
        store.answers.set()
        first.join()
    world.guard.authenticate(issued.text)


def test_a_store_that_took_its_time_to_fail_is_left_alone_from_then_on() -> None:
    seconds = [0.0]
    breaker = Breaker(lambda: seconds[0])

    def fails_late() -> None:
        seconds[0] += 30
        raise StoreUnavailable("as the test wants it")

    with pytest.raises(StoreUnavailable, match="as the test wants it"):
        breaker.call(fails_late)
    seconds[0] += 0.9
    with pytest.raises(NotAsked):
        breaker.call(list)
    seconds[0] += 0.1
    assert breaker.call(list) == []


def test_tables_that_are_missing_are_told_once_a_second_and_not_at_every_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Hanging()
    world, seconds = World(store), [1000.0]
    stop_time(world.guard.cache, seconds)
    issued = world.issue()
    store.fails = SchemaError("the tables are missing")
    for later in (0, 0.5, 0.4, 0.1):
        seconds[0] += later
        with pytest.raises(TemporarilyUnavailable):
            world.guard.authenticate(issued.text)
    assert caplog.messages == ["the token store failed: the tables are missing"] * 2


class SlowToWrite(MemoryStore):
    """Takes its time to find out that somebody else holds the lock, as SQLite does."""

    during: Callable[[], object] | None = None
    asked = 0

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        self.asked += 1
        if self.during is not None:
            self.during()
            raise StoreBusy("as the test wants it")
        return super().record_uses(uses)


def slow_to_write() -> tuple[SlowToWrite, World, list[float]]:
    """Such a store, its world, and the seconds by which the patience of its writers is measured."""
    store, seconds = SlowToWrite(), [1000.0]
    world = World(store)
    world.usage._breaker._monotonic = lambda: seconds[0]
    return store, world, seconds


def test_after_a_write_that_took_its_time_to_fail_no_request_is_held_up_by_the_next_at_once() -> None:
    store = SlowToWrite()
    world = World(store)
    issued = world.issue()
    store.during = lambda: world.clock.move(5)
    world.use(issued)
    store.during = None
    world.clock.move(4)
    world.use(issued)
    assert (store.asked, store.use_by_day(issued.token.id)) == (1, {})
    world.clock.move(1)
    world.use(issued)
    assert sum(store.use_by_day(issued.token.id).values()) == 3


def test_while_a_write_of_uses_waits_for_long_no_other_request_joins_it() -> None:
    store, world, seconds = slow_to_write()
    first, second = world.issue(), world.issue()

    def meanwhile() -> None:
        seconds[0] += 1.1
        world.use(second)

    store.during = meanwhile
    world.use(first)
    assert store.asked == 1
    store.during = None
    world.clock.move(5)
    world.usage.write()
    assert [sum(store.use_by_day(issued.token.id).values()) for issued in (first, second)] == [1, 1]


def test_a_process_that_ends_writes_its_uses_also_while_another_write_waits_for_long() -> None:
    store, world, seconds = slow_to_write()
    first, second = world.issue(), world.issue()

    def meanwhile() -> None:
        seconds[0] += 1.1
        store.during = None
        world.use(second, write=False)
        world.usage.write_rest()

    store.during = meanwhile
    world.use(first)
    assert sum(store.use_by_day(second.token.id).values()) == 1


def test_nobody_joins_who_has_waited_for_long_also_if_another_has_just_come() -> None:
    seconds = [0.0]
    breaker = Breaker(lambda: seconds[0])

    def waits() -> None:
        seconds[0] += 0.9
        breaker.call(waits_too)

    def waits_too() -> None:
        seconds[0] += 0.2
        with pytest.raises(NotAsked):
            breaker.call(list)

    breaker.call(waits)
    assert breaker.call(list) == []


def test_a_call_that_a_forked_child_has_from_its_parent_comes_to_its_end_there() -> None:
    """As where gevent forks: the child has copies of the greenlets that were waiting."""
    breaker = Breaker(lambda: 0.0)
    breaker.call(breaker.forget)
    assert breaker.call(list) == []
