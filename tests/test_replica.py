"""A read replica: a caller that can ask the primary does not wait for the replica."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from tokenguard import SchemaError, StoreUnavailable
from tokenguard.replica import CHECK_INTERVAL, REPLICA_PATIENCE, REPLICA_PAUSE, OtherHistory, Replica

from .child import in_child
from .conftest import run_together
from .test_cache import Seconds


def fine() -> None:
    """The check of a replica that follows its primary."""


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
            assert replica.ask(int, fine) == 0
            seconds.now += REPLICA_PATIENCE + 0.1
            assert replica.ask(int, fine) is None
        finally:
            answer.set()

    run_together([lambda: answers.append(replica.ask(hang, fine)), others])
    assert answers == [1]
    assert replica.ask(int, fine) == 0


def test_a_forked_child_does_not_take_it_for_hanging_because_its_parent_was_waiting() -> None:
    seconds = Seconds()
    replica = Replica(seconds)

    def fork() -> object:
        seconds.now += REPLICA_PATIENCE + 0.1
        assert replica.ask(int, fine) is None
        with replica.breaker._lock:  # as another thread may, which the child does not have
            return in_child(lambda: (replica.breaker._lock.locked(), replica.ask(int, fine)))

    assert replica.ask(fork, fine) == (False, 0)
    replica.forget()
    children: list[object] = []
    assert replica.ask(int, lambda: children.append(in_child(lambda: replica.ask(int, fine)))) == 0
    assert children == [0]


def test_one_without_the_tables_is_not_said_to_need_them_made_there(caplog: pytest.LogCaptureFixture) -> None:
    """A replica follows the primary, and is not set up itself."""

    def outdated() -> NoReturn:
        raise SchemaError('the tokenguard tables are missing or outdated: run "tokenguard init"')

    replica = Replica(Seconds())
    for _ in range(2):
        assert replica.ask(outdated, fine) is None
    assert caplog.messages == ["the read replica is not used for 10 s: its tables are missing or outdated"]


def test_one_that_has_failed_is_left_alone_and_then_one_finds_out(caplog: pytest.LogCaptureFixture) -> None:
    seconds = Seconds()
    replica = Replica(seconds)
    for _ in range(3):
        assert replica.ask(fail, fine) is None
    assert caplog.messages == ["the read replica is not used for 10 s: the database cannot be used: connection refused"]
    seconds.now += REPLICA_PAUSE - 0.1
    assert replica.ask(int, fine) is None
    seconds.now += 0.1

    def check() -> None:
        assert replica.ask(int, fine) is None

    assert replica.ask(int, check) == 0
    assert replica.ask(int, fine) == 0


def test_one_that_follows_another_database_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    seconds = Seconds()
    replica = Replica(seconds)

    def other() -> NoReturn:
        raise OtherHistory("it follows another database: its event 3 is not the primary's")

    assert replica.ask(int, other) is None
    assert caplog.messages == [
        "the read replica is not used for 10 s: it follows another database: its event 3 is not the primary's"
    ]
    seconds.now += REPLICA_PAUSE
    assert replica.ask(int, other) is None
    seconds.now += REPLICA_PAUSE
    assert replica.ask(int, fine) == 0
    # It is checked again after a while, as a copy has the primary's changes at first, and after a failure.
    seconds.now += CHECK_INTERVAL - 0.1
    assert replica.ask(int, other) == 0
    seconds.now += 0.1
    assert replica.ask(int, other) is None
    seconds.now += REPLICA_PAUSE
    assert replica.ask(int, fine) == 0
    assert replica.ask(fail, fine) is None
    seconds.now += REPLICA_PAUSE
    assert replica.ask(int, other) is None


def test_while_one_thread_checks_it_others_ask_the_primary() -> None:
    replica = Replica(Seconds())

    def check() -> None:
        assert replica.ask(int, fail) is None

    assert replica.ask(int, check) == 0
    assert replica.ask(int, fail) == 0
