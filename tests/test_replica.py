"""A read replica: a caller that can ask the primary does not wait for the replica."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from tokenguard import SchemaError, StoreUnavailable
from tokenguard.replica import REPLICA_PATIENCE, REPLICA_PAUSE, Replica

from .child import in_child
from .conftest import run_together
from .test_cache import Seconds


def fail() -> NoReturn:
    raise StoreUnavailable("the database cannot be used: connection refused")


def test_while_somebody_waits_for_a_replica_others_do_not() -> None:
    seconds = Seconds()
    replica = Replica(seconds)
    asked, answer = threading.Event(), threading.Event()
    answers: list[int | None] = []

    def hang() -> int:
        asked.set()
        assert answer.wait(30)
        return 1

    def others() -> None:
        assert asked.wait(30)
        try:
            assert replica.ask(int) == 0
            seconds.now += REPLICA_PATIENCE + 0.1
            assert replica.ask(int) is None
        finally:
            answer.set()

    run_together([lambda: answers.append(replica.ask(hang)), others])
    assert answers == [1]
    assert replica.ask(int) == 0


def test_a_forked_child_does_not_take_it_for_hanging_because_its_parent_was_waiting() -> None:
    seconds = Seconds()
    replica = Replica(seconds)

    def fork() -> object:
        seconds.now += REPLICA_PATIENCE + 0.1
        assert replica.ask(int) is None
        with replica.breaker._lock:  # as another thread may, which the child does not have
            return in_child(lambda: (replica.breaker._lock.locked(), replica.ask(int)))

    assert replica.ask(fork) == (False, 0)


def test_one_without_the_tables_is_not_said_to_need_them_made_there(caplog: pytest.LogCaptureFixture) -> None:
    """A replica follows the primary, and is not set up itself."""

    def outdated() -> NoReturn:
        raise SchemaError('the tokenguard tables are missing or outdated: run "tokenguard init"')

    replica = Replica(Seconds())
    for _ in range(2):
        assert replica.ask(outdated) is None
    assert caplog.messages == ["the read replica is not used for 10 s: its tables are missing or outdated"]


def test_one_that_has_failed_is_left_alone_and_then_one_finds_out(caplog: pytest.LogCaptureFixture) -> None:
    seconds = Seconds()
    replica = Replica(seconds)
    for _ in range(3):
        assert replica.ask(fail) is None
    assert caplog.messages == ["the read replica is not used for 10 s: the database cannot be used: connection refused"]
    seconds.now += REPLICA_PAUSE - 0.1
    assert replica.ask(int) is None
    seconds.now += 0.1
    assert replica.ask(lambda: (replica.ask(int), 1)) == (None, 1)
    assert replica.ask(int) == 0
