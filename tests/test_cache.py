"""What a process caches of tokens, and when it may use that: one test for each way in which it could be wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from types import FrameType
from typing import Any

import pytest

from tokenguard import (
    AuthScheme,
    ConfigurationError,
    Guard,
    InvalidToken,
    Issued,
    Issuer,
    MemoryStore,
    RequestGuard,
    ScopeCatalog,
    Secret,
    SigningKeys,
    Store,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenCache,
    TokenFormat,
)
from tokenguard import cache as cache_module
from tokenguard.breaker import PATIENCE, PAUSE, Breaker, NotAsked
from tokenguard.clock import SECOND, isoformat
from tokenguard.store import FEED_LIMIT, Change, EventKind, Feed, Standing
from tokenguard.tokens import Read

from .child import in_child
from .conftest import KEY, Interrupted, StoppedClock, World, interrupt_while_waiting, mistyped, run_together


class Seconds:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A wrapper around a store that records its reads, and calls the given functions before and after each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.committed = store.committed
        self.replicated = False
        self.in_transaction = False
        self.finds: list[bool] = []
        self.feeds: list[int] = []
        self.before_find: Callable[[], object] = int
        self.after_find: Callable[[], object] = int
        self.before_feed: Callable[[], object] = int
        self.after_feed: Callable[[], object] = int
        #: What a replica would answer instead of the primary.
        self.replica: Standing | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        self.finds.append(primary)
        self.before_find()
        found = self.store.standing(read, primary=primary)
        if self.replicated and not primary:
            found = self.replica
        self.after_find()
        return found

    def feed(self, since: int) -> Feed:
        self.feeds.append(since)
        self.before_feed()
        found = self.store.feed(since)
        self.after_feed()
        return found


class Process:
    """One process of a fleet: a guard with its cache, in front of a store that all share."""

    def __init__(self, store: Store, *, staleness: float = 1.0, stale_grace: float = 0.0, size: int = 100) -> None:
        self.store = Watched(store)
        self.seconds = Seconds()
        self.clock = StoppedClock()
        self.cache = TokenCache(
            self.store,  # type: ignore[arg-type]
            staleness=staleness,
            stale_grace=stale_grace,
            size=size,
            monotonic=self.seconds,
        )
        self.guard = Guard(
            self.store,  # type: ignore[arg-type]
            TokenFormat(SigningKeys(KEY)),
            clock=self.clock,
            cache=self.cache,
        )

    def why_not(self, issued: Issued) -> str:
        """Why the token is refused; empty if it is let in."""
        try:
            self.guard.authenticate(issued.text)
        except (InvalidToken, TemporarilyUnavailable) as error:
            return error.reason
        return ""

    def queries(self, issued: Issued) -> tuple[int, int]:
        """How many tokens and feeds are read for a request with this token, which must be let in."""
        before = len(self.store.finds), len(self.store.feeds)
        assert self.why_not(issued) == ""
        return len(self.store.finds) - before[0], len(self.store.feeds) - before[1]


def fail() -> None:
    raise StoreUnavailable("the database cannot be used: connection refused")


class Fleet:
    """A store, the process under test, and another one that issues and revokes."""

    def __init__(self, **options: float) -> None:
        self.store = MemoryStore()
        self.there = World(self.store)
        self.here = Process(self.store, **options)  # type: ignore[arg-type]
        # The process under test learns what the other one commits from the feed only.
        self.store.committed._listeners.clear()
        self.client = self.there.client()

    def issue(self, **options: object) -> Issued:
        return self.there.issue(client=self.client.id, **options)

    def revoke(self, issued: Issued) -> None:
        self.there.issuer.revoke(issued.token.id, actor="tests")

    def settle(self, issued: Issued) -> None:
        """Let the process under test know this token, and the newest event."""
        self.here.why_not(issued)
        self.here.seconds.now += 0.6
        self.here.why_not(issued)

    def fall_behind(self) -> None:
        """Add more events than are read at once."""
        with self.store.transaction() as tx:
            for _ in range(FEED_LIMIT + 1):
                tx.note(Change(EventKind.PRUNED, 1, "tests"))

    def rewrite(self, issued: Issued) -> None:
        """Replace the tokens by this one, revoked, as in another history of the database: no event tells of it."""
        token = replace(issued.token, revoked_at=1)
        self.store._data = replace(self.store._data, tokens={token.id: token})


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def environ(issued: Issued) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}", "REMOTE_ADDR": "192.0.2.1"}


# The cost


def test_at_steady_state_a_request_costs_no_query(fleet: Fleet) -> None:
    issued = fleet.issue()
    assert fleet.here.queries(issued) == (1, 2)
    for _ in range(5):
        fleet.here.seconds.now += 0.099
        assert fleet.here.queries(issued) == (0, 0)


def test_what_the_short_way_has_found_out_is_remembered(fleet: Fleet) -> None:
    requests = RequestGuard(fleet.here.guard, AuthScheme())
    issued = fleet.issue()
    for _ in range(3):
        assert requests.wave_through(environ(issued), None) is not None
    assert len(fleet.here.store.finds) == 1


def test_the_feed_is_asked_for_twice_a_second_at_most(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    before = len(fleet.here.store.feeds)
    for _ in range(1000):
        fleet.here.seconds.now += 0.01
        assert fleet.here.queries(issued)[0] == 0 or fleet.here.seconds.now < 1001
    assert len(fleet.here.store.feeds) - before <= 20


def test_the_feed_is_asked_for_once_half_the_bound_is_over_to_the_microsecond(fleet: Fleet) -> None:
    known, unknown = fleet.issue(), fleet.issue()
    key = fleet.here.guard.key(known.text.reveal())
    fleet.here.why_not(known)
    fleet.here.seconds.now += 0.5
    assert fleet.here.guard.peek(key) is not None
    assert fleet.here.queries(known) == (0, 0)
    assert fleet.here.queries(unknown) == (1, 0)
    fleet.here.seconds.now += 0.000001
    assert fleet.here.guard.peek(key) is None
    assert fleet.here.queries(known) == (0, 1)


def test_a_forged_token_asks_nobody_whatever_is_due(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.seconds.now += 100
    before = list(fleet.here.store.finds), list(fleet.here.store.feeds)
    text = issued.text.reveal()
    for forged in (mistyped(text), text[:-2], text + "a", text[:-1] + "é"):
        with pytest.raises(InvalidToken):
            fleet.here.guard.authenticate(Secret(forged))
    assert (fleet.here.store.finds, fleet.here.store.feeds) == before


# The bound


def test_a_revocation_elsewhere_is_known_within_the_bound(fleet: Fleet) -> None:
    issued, other = fleet.issue(), fleet.issue()
    assert fleet.here.why_not(issued) == fleet.here.why_not(other) == ""
    fleet.revoke(issued)
    assert fleet.here.why_not(issued) == ""  # begun within the bound
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"
    assert fleet.here.queries(other) == (0, 0)  # only the revoked token was evicted


def test_it_is_known_early_as_a_rule(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.revoke(issued)
    fleet.here.seconds.now += 0.501
    assert fleet.here.why_not(issued) == "revoked"


def test_the_short_way_lets_nobody_in_by_what_may_have_changed(fleet: Fleet) -> None:
    requests, issued = RequestGuard(fleet.here.guard, AuthScheme()), fleet.issue()
    assert requests.wave_through(environ(issued), None) is not None
    fleet.revoke(issued)
    fleet.here.seconds.now += 1.001
    assert requests.wave_through(environ(issued), None) is None


def test_a_change_of_the_client_concerns_all_its_tokens(fleet: Fleet) -> None:
    one, two = fleet.issue(), fleet.issue()
    fleet.here.why_not(one), fleet.here.why_not(two)
    fleet.there.issuer.disable(fleet.client.id, actor="tests")
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(one) == fleet.here.why_not(two) == "client disabled"
    fleet.there.issuer.enable(fleet.client.id, actor="tests")
    fleet.there.issuer.set_scopes(fleet.client.id, "groups:read", actor="tests")
    fleet.here.seconds.now += 1.001
    assert list(fleet.here.guard.authenticate(one.text).scopes) == []


def test_freshness_counts_from_before_the_feed_was_asked_for(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.seconds.now += 1.001

    def answer_slowly() -> None:
        fleet.revoke(issued)  # after the feed was read, while its answer is on its way
        fleet.here.seconds.now += 0.9

    fleet.here.store.after_feed = answer_slowly
    assert fleet.here.why_not(issued) == ""
    fleet.here.store.after_feed = int
    fleet.here.seconds.now += 0.2  # 1.1 seconds after the feed was asked for, 0.2 after its answer
    with fleet.here.cache._reading:  # nor is the cache used while another thread is asking
        assert fleet.here.guard.peek(fleet.here.guard.tokens.key(issued.text.reveal())) is None
    assert fleet.here.why_not(issued) == "revoked"


def test_with_a_staleness_of_0_every_request_asks() -> None:
    fleet = Fleet(staleness=0)
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.seconds.now += 0.000001
    assert fleet.here.queries(issued)[1] == 1
    fleet.revoke(issued)
    fleet.here.seconds.now += 0.000001
    assert fleet.here.why_not(issued) == "revoked"


def test_one_asks_early_while_the_others_go_on(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.why_not(issued)
    fleet.here.seconds.now += 0.6
    asking, going = threading.Event(), threading.Event()

    def hold() -> None:
        asking.set()
        assert going.wait(30)

    fleet.here.store.before_feed = hold
    others: list[tuple[int, int]] = []

    def go_on() -> None:
        assert asking.wait(30)
        others.extend([(0, 0)] if fleet.here.why_not(issued) == "" else [])
        going.set()

    run_together([lambda: fleet.here.why_not(issued), go_on])
    assert others == [(0, 0)]


# What takes effect at once, in the process that does it


def test_a_revocation_is_known_at_once_where_it_is_made() -> None:
    world = World(MemoryStore())
    issued = world.issue()
    assert world.guard.authenticate(issued.text)
    world.issuer.revoke(issued.token.id, actor="tests")
    with pytest.raises(InvalidToken, match="revoked"):
        world.guard.authenticate(issued.text)


def test_what_was_read_before_a_commit_of_this_process_is_not_remembered_after_it() -> None:
    store = MemoryStore()
    here = Process(store)
    world = World(store)
    issued = world.issue()
    here.store.after_find = lambda: world.issuer.revoke(issued.token.id, actor="tests")
    here.guard.cache.catch_up()
    assert here.why_not(issued) == "revoked"  # it was read again, from the primary
    assert here.store.finds == [True, True]
    assert here.why_not(issued) == "revoked"


def test_what_was_read_again_since_something_else_had_happened_is_remembered() -> None:
    store = MemoryStore()
    here = Process(store)
    world = World(store)
    issued = world.issue()

    def meanwhile() -> None:
        here.store.after_find = int
        world.issue()

    here.store.after_find = meanwhile
    assert here.why_not(issued) == ""
    assert here.store.finds == [True, True]
    assert here.queries(issued) == (0, 0)


def test_what_was_read_before_the_feed_told_of_it_is_not_remembered(fleet: Fleet) -> None:
    issued = fleet.issue()

    def meanwhile() -> None:
        # Another thread reads the feed after the row was read and before it is cached.
        fleet.here.store.after_find = int
        fleet.revoke(issued)
        fleet.here.seconds.now += 0.6
        fleet.here.cache.catch_up()

    fleet.here.store.after_find = meanwhile
    assert fleet.here.why_not(issued) == "revoked"
    assert fleet.here.store.finds == [True, True]


def test_what_was_read_before_an_eviction_from_without_is_not_remembered(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.store.after_find = lambda: fleet.here.cache.evict(issued.token.id, fleet.client.id)
    assert fleet.here.why_not(issued) == ""
    assert len(fleet.here.cache) == 0


def test_what_is_evicted_is_read_again_and_nothing_else(fleet: Fleet) -> None:
    one, two = fleet.issue(), fleet.issue()
    assert fleet.here.why_not(one) == fleet.here.why_not(two) == ""
    fleet.here.cache.evict(one.token.id, fleet.client.id)
    assert (fleet.here.queries(two), fleet.here.queries(one)) == ((0, 0), (1, 0))
    fleet.here.cache.evict(None, fleet.client.id)
    assert (fleet.here.queries(two), fleet.here.queries(one)) == ((1, 0), (1, 0))


# The history


def forget_events(store: MemoryStore, *, revision: int | None = None, keep: int = 0) -> None:
    """Leave the store as a restored backup does, or a failover to a server that lags."""
    data = store._data
    store._data = replace(data, events=data.events[:keep], revision=data.revision if revision is None else revision)


def other_history(store: MemoryStore) -> None:
    """Replace the events by the same number of other ones."""
    store._data = replace(store._data, events=[replace(event, id="other") for event in store._data.events])


@pytest.mark.parametrize(
    "happen",
    [
        pytest.param(lambda store: forget_events(store, revision=1, keep=1), id="counter-behind"),
        pytest.param(other_history, id="another-event-of-that-number"),
        pytest.param(lambda store: forget_events(store), id="events-gone"),
    ],
)
def test_another_history_clears_everything(fleet: Fleet, happen: Callable[[MemoryStore], None]) -> None:
    issued = fleet.issue()
    fleet.settle(issued)
    # In the other history the token is revoked, and none of the events still to be read says so.
    fleet.rewrite(issued)
    happen(fleet.store)
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"


LINE = (
    "the database has another history of changes than before, as after a restored backup or a failover: event 3 was "
    "known, {}; a revocation may have been lost"
)


@pytest.mark.parametrize(
    ("happen", "lines"),
    [
        pytest.param(
            lambda store: forget_events(store, revision=1, keep=1),
            [LINE.format("now 1 is the last")],
            id="counter-behind",
        ),
        pytest.param(other_history, [LINE.format("and is another one now")], id="another-event-of-that-number"),
        pytest.param(lambda store: forget_events(store), [], id="events-gone"),
        pytest.param(lambda store: None, [], id="the-same"),
    ],
)
def test_another_history_is_logged_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, happen: Callable[[MemoryStore], None], lines: list[str]
) -> None:
    fleet.issue()
    issued = fleet.issue()
    fleet.settle(issued)
    happen(fleet.store)
    caplog.clear()
    for _ in range(2):
        fleet.here.seconds.now += 1.001
        fleet.here.why_not(issued)
    assert caplog.messages == lines


def test_a_history_that_ends_before_what_was_read_of_a_token_clears_everything(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup is restored before the feed has reported the events that came after it."""
    fleet.here.why_not(fleet.issue())
    before = fleet.store._data
    issued = fleet.issue()
    assert fleet.here.why_not(issued) == ""
    fleet.store._data = before
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "unknown"
    assert LINE.format("now 2 is the last") in caplog.messages


def test_a_gap_in_the_numbers_clears_everything(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.settle(issued)
    fleet.revoke(issued)
    for _ in range(3):
        fleet.issue()
    data = fleet.store._data
    fleet.store._data = replace(data, events=[event for event in data.events if event.kind != "token.revoked"])
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"


def test_whoever_is_too_far_behind_forgets_everything(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.settle(issued)
    fleet.fall_behind()
    fleet.revoke(issued)
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"


def test_nor_does_whoever_is_behind_take_it_for_another_history(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.fall_behind()
    for _ in range(3):  # the first of which does not get as far as the newest event
        fleet.here.seconds.now += 1.001
        assert fleet.here.why_not(issued) == ""
    assert caplog.messages == []


def test_nor_does_it_go_on_from_an_event_that_it_does_not_know(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.cache.catch_up()
    fleet.here.seconds.now += 1.001
    fleet.fall_behind()
    fleet.here.cache.catch_up()
    assert fleet.here.why_not(issued) == ""
    # In another history, which is longer by now, it has been revoked for as long as anybody knows.
    fleet.rewrite(issued)
    other_history(fleet.store)
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"


def test_nor_is_it_one_if_pruning_has_left_a_later_event_first(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    issued = fleet.issue()
    fleet.settle(issued)
    fleet.issue()
    with fleet.store.transaction() as tx:
        tx.delete_events(fleet.there.clock() + SECOND, 100)
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == ""
    assert caplog.messages == []


def test_nor_if_a_token_was_read_that_is_newer_than_what_is_just_being_read(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)

    def issue_and_use() -> None:
        """Another thread's request, while this one has its answer already."""
        fleet.here.store.after_feed = int
        fleet.here.why_not(fleet.issue())

    fleet.here.store.after_feed = issue_and_use
    fleet.here.seconds.now += 0.6
    assert fleet.here.why_not(issued) == ""
    assert caplog.messages == []


def test_pruning_takes_nothing_from_those_who_have_read_what_it_removes(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.settle(issued)
    with fleet.store.transaction() as tx:
        tx.delete_events(fleet.there.clock() + SECOND, 100)
    fleet.here.seconds.now += 1.001
    assert fleet.here.queries(issued) == (0, 1)


@pytest.mark.parametrize("known", [False, True])
def test_after_a_restored_backup_what_was_read_before_it_is_not_remembered(fleet: Fleet, known: bool) -> None:
    first, other = fleet.issue(), fleet.issue()
    fleet.settle(first)
    issued = first if known else other
    if known:
        fleet.here.cache.evict(issued.token.id, fleet.client.id)

    def meanwhile() -> None:
        fleet.here.store.after_find = int
        fleet.rewrite(issued)
        forget_events(fleet.store, revision=1, keep=1)
        fleet.here.seconds.now += 0.6
        fleet.here.cache.catch_up()

    fleet.here.store.after_find = meanwhile
    fleet.here.why_not(issued)  # began before the restore
    assert fleet.here.why_not(issued) == "revoked"


# A primary that answers from an earlier state


def as_it_is_now(store: MemoryStore) -> MemoryStore:
    """A copy of the present state: what an open transaction goes on to see, and what a backup restores."""
    kept = MemoryStore()
    kept._data = store._data
    return kept


def test_a_snapshot_of_before_a_revocation_lets_nobody_in_once_that_is_known(fleet: Fleet) -> None:
    issued, other = fleet.issue(), fleet.issue()
    snapshot, present = as_it_is_now(fleet.store), fleet.here.store.store
    fleet.revoke(issued)
    assert fleet.here.why_not(other) == ""  # a request in another thread, which has read the feed
    fleet.here.store.store = snapshot
    for _ in range(2):
        assert fleet.here.why_not(issued).startswith("store: ")
    fleet.here.store.store = present
    assert fleet.here.why_not(issued) == "revoked"


def test_nor_does_one_of_before_what_this_process_has_done_itself() -> None:
    store = MemoryStore()
    here, world = Process(store), World(store)
    issued = world.issue()
    here.cache.catch_up()
    here.store.store = as_it_is_now(store)
    world.issuer.revoke(issued.token.id, actor="tests")
    assert here.why_not(issued).startswith("store: ")


def test_a_restored_backup_refuses_nobody_for_longer_than_until_the_feed_is_read(fleet: Fleet) -> None:
    issued = fleet.issue()
    backup = as_it_is_now(fleet.store)
    assert fleet.here.why_not(fleet.issue()) == ""
    fleet.here.store.store = backup
    assert fleet.here.why_not(issued).startswith("store: ")
    fleet.here.seconds.now += 0.501
    assert fleet.here.why_not(issued) == ""
    fleet.here.seconds.now += 0.501
    assert fleet.here.why_not(issued) == ""
    fleet.here.seconds.now += 0.501
    assert fleet.here.queries(issued) == (0, 1)


def test_nor_if_what_this_process_has_done_itself_is_gone() -> None:
    store = MemoryStore()
    here, world = Process(store), World(store)
    issued = world.issue()
    backup = as_it_is_now(store)
    world.issue()
    here.store.store = backup
    assert here.why_not(issued).startswith("store: ")
    here.seconds.now += 0.501
    assert here.why_not(issued) == ""


def test_what_this_process_does_while_it_reads_the_feed_is_not_forgotten_by_that() -> None:
    store = MemoryStore()
    here, world = Process(store), World(store)
    issued = world.issue()
    here.cache.catch_up()

    def meanwhile() -> None:
        here.seconds.now += 0.001
        world.issuer.revoke(issued.token.id, actor="tests")

    before = as_it_is_now(store)
    here.store.after_feed = meanwhile
    here.seconds.now += 0.6
    here.cache.catch_up()
    here.store.store = before  # a request that read the token before it was revoked
    assert here.why_not(issued).startswith("store: ")


def test_what_happens_all_the_time_refuses_nobody() -> None:
    store = MemoryStore()
    here, world = Process(store), World(store)
    issued = world.issue()
    here.store.after_find = world.issue
    assert here.why_not(issued) == ""
    assert here.store.finds == [True, True]
    assert len(here.cache) == 0


# Interruptions, as by a signal: Ctrl-C, or a time limit for the request


def interrupted(job: Callable[[], object], step: int) -> bool:
    """Do the job, and interrupt it at a step of the code that keeps entries and indexes; False if it ends first."""
    steps = count()
    keeping = {each.__code__ for each in (TokenCache._remember, TokenCache._forget, TokenCache._forget_one)}

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code not in keeping:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            raise Interrupted
        return trace

    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks only here
    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        job()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


def at_every_step(ask: Callable[[Fleet, Issued], Callable[[], object]]) -> Iterator[tuple[Fleet, Issued]]:
    """Yield a fleet for each step of the job that ``ask`` returns, interrupted at that step, and the job's token."""
    for step in count():
        fleet = Fleet()
        issued = fleet.issue()
        if not interrupted(ask(fleet, issued), step):
            assert step > 20
            return
        yield fleet, issued


@pytest.mark.parametrize("all_of_it", [False, True])
def test_what_was_interrupted_while_it_learnt_of_a_revocation_learns_of_it_later(all_of_it: bool) -> None:
    def learn(fleet: Fleet, issued: Issued) -> Callable[[], object]:
        others = [fleet.issue() for _ in range(2)]
        assert [fleet.here.why_not(each) for each in (issued, *others)] == [""] * 3
        if all_of_it:
            fleet.there.issuer.disable(fleet.client.id, actor="tests")
        else:
            fleet.revoke(issued)
        fleet.here.seconds.now += 1.001
        return lambda: fleet.here.why_not(others[0])

    for fleet, issued in at_every_step(learn):
        assert fleet.here.why_not(issued) == ("client disabled" if all_of_it else "revoked")


def test_what_was_interrupted_while_it_was_remembered_can_be_forgotten() -> None:
    for fleet, issued in at_every_step(lambda fleet, issued: lambda: fleet.here.why_not(issued)):
        assert fleet.here.why_not(issued) == ""
        fleet.revoke(issued)
        fleet.here.seconds.now += 1.001
        assert fleet.here.why_not(issued) == "revoked"


def test_what_was_interrupted_while_it_waited_for_another_keeps_nobody_else_waiting(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 30)
    issued, cache = fleet.issue(), fleet.here.cache
    interrupt_while_waiting(cache._reading, lambda: fleet.here.why_not(issued))
    assert not cache._reading.locked()
    assert fleet.here.why_not(issued) == ""


# The caller's transactions


def test_inside_a_callers_transaction_nothing_is_filled_in(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.store.in_transaction = True
    assert fleet.here.queries(issued) == (1, 0)
    assert len(fleet.here.cache) == 0
    fleet.here.store.in_transaction = False
    assert fleet.here.queries(issued) == (1, 2)
    assert len(fleet.here.cache) == 1


def test_nor_refreshed_and_what_is_not_fresh_is_read_directly(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.store.in_transaction = True
    fleet.here.seconds.now += 0.6
    assert fleet.here.queries(issued) == (0, 0)
    fleet.revoke(issued)
    fleet.here.seconds.now += 0.6
    assert fleet.here.why_not(issued) == "revoked"
    assert len(fleet.here.store.feeds) == 2


# Ends


@pytest.mark.parametrize("options", [{"expires_in": 3600}, {"idle_timeout": 3600}])
def test_an_entry_never_outlives_its_token(fleet: Fleet, options: dict[str, int]) -> None:
    issued = fleet.issue(**options)
    assert fleet.here.why_not(issued) == ""
    fleet.here.clock.move(3599)
    assert fleet.here.queries(issued) == (0, 0)
    fleet.here.clock.move(61)
    assert fleet.here.why_not(issued) in ("expired", "idle")


def test_the_log_says_once_that_the_clock_has_stepped_back_and_since_when_time_stands_still(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    here, ends = fleet.here, fleet.issue(expires_in=3600)

    def steps_back(seconds: int) -> list[str]:
        caplog.clear()
        here.clock.move(seconds)
        here.why_not(ends)
        here.clock.move(-seconds)
        for _ in range(3):
            here.why_not(ends)
            here.seconds.now += 1
        return caplog.messages

    assert steps_back(5) == []
    here.clock.move(5)
    (warning,) = steps_back(86_400)
    assert "has stepped back by 86400 seconds" in warning
    assert f"this process stays at {isoformat(here.clock() + 86_400 * SECOND)}" in warning
    assert "restart it to correct that" in warning
    assert here.why_not(ends) == "expired"
    here.clock.move(86_400)  # the clock has caught up, so the next step back is logged again
    here.why_not(ends)
    here.seconds.now += 1
    assert len(steps_back(6)) == 1


def test_nor_its_overlap(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.there.rotate(issued.token.id, overlap=60)
    assert fleet.here.why_not(issued) == ""
    fleet.here.clock.move(61)
    assert fleet.here.why_not(issued) == "rotated"


def test_a_clock_that_steps_back_revives_nothing(fleet: Fleet) -> None:
    issued = fleet.issue(expires_in=3600)
    assert fleet.here.why_not(issued) == ""
    fleet.here.clock.move(3601)
    assert fleet.here.why_not(issued) == "expired"
    fleet.here.clock.move(-3601)
    assert fleet.here.why_not(issued) == "expired"


def test_nor_does_the_systems_own_on_the_short_way(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path reads that clock itself."""
    issued = fleet.issue(expires_in=3600)
    requests = RequestGuard(Guard(fleet.store, TokenFormat(SigningKeys(KEY))), AuthScheme())

    def is_let_in_after(seconds: int) -> bool:
        at = (issued.token.created_at + seconds * SECOND) * 1000
        for clock in ("time.time_ns", "tokenguard.shortcut.time_ns"):
            monkeypatch.setattr(clock, lambda: at)
        return requests.wave_through(environ(issued), None) is not None

    assert [is_let_in_after(seconds) for seconds in (0, 3600, 0)] == [True, False, False]


def test_a_wall_clock_that_is_stepped_does_not_move_the_bound(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.revoke(issued)
    for step in (-86_400, 86_400, -10 * 86_400):
        fleet.here.clock.move(step)
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == "revoked"


# Outages


def test_what_is_known_may_be_used_until_the_bound_to_the_microsecond(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    monkeypatch.setattr(cache_module, "PATIENCE", 0)
    fleet.here.seconds.now += 1
    with fleet.here.cache._reading:  # another thread asks, and this one need not wait for it yet
        assert fleet.here.why_not(issued) == ""
        fleet.here.seconds.now += 0.000001
        assert fleet.here.why_not(issued).startswith("store:")


def test_past_the_bound_a_store_that_is_away_means_503_and_no_401(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.store.before_feed = fleet.here.store.before_find = fail
    fleet.here.seconds.now += 0.9
    assert fleet.here.why_not(issued) == ""
    fleet.here.seconds.now += 0.2
    assert fleet.here.why_not(issued) == "store: the store has just failed, and is tried again shortly"
    assert fleet.here.why_not(fleet.issue()).startswith("store:")
    fleet.here.store.before_feed = fleet.here.store.before_find = int
    fleet.here.seconds.now += PAUSE + 0.1
    assert fleet.here.why_not(issued) == ""


@pytest.mark.parametrize(("asked", "method"), [("before_feed", "authenticate"), ("before_find", "introspect")])
def test_the_operator_is_told_why_and_for_whom_nobody_can_say(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, asked: str, method: str
) -> None:
    issued = fleet.issue()
    setattr(fleet.here.store, asked, fail)
    with pytest.raises(TemporarilyUnavailable) as refused:
        getattr(fleet.here.guard, method)(issued.text)
    why = "the database cannot be used: connection refused"
    assert (refused.value.reason, refused.value.token_id) == (f"store: {why}", issued.token.id)
    assert caplog.messages == [f"the token store failed: {why}"]


def test_a_feed_that_fails_early_is_asked_again_once_and_the_log_says_so_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.store.before_feed = fail
    fleet.here.seconds.now += 0.6
    for _ in range(50):
        assert fleet.here.why_not(issued) == ""
    assert caplog.messages == ["changes could not be read yet: the database cannot be used: connection refused"]


def test_there_is_no_time_of_grace_unless_it_is_asked_for(fleet: Fleet) -> None:
    issued, seconds = fleet.issue(), fleet.here.seconds
    guard = fleet.here.guard
    guard.cache = TokenCache(fleet.here.store, monotonic=seconds)  # type: ignore[arg-type]
    guard.authenticate(issued.text)
    fleet.here.store.before_feed = fail
    seconds.now += 1
    guard.authenticate(issued.text)
    seconds.now += 0.001
    with pytest.raises(TemporarilyUnavailable):
        guard.authenticate(issued.text)


def test_in_the_time_of_grace_only_what_is_remembered_goes_on() -> None:
    fleet = Fleet(stale_grace=60)
    issued, other = fleet.issue(), fleet.issue()
    fleet.here.why_not(issued)
    # Only the feed fails: a replica may still answer lookups, and lag by as much.
    fleet.here.store.before_feed = fail
    fleet.here.seconds.now += 30
    assert fleet.here.why_not(issued) == ""
    assert fleet.here.why_not(other).startswith("store:")
    fleet.here.seconds.now += 31
    assert fleet.here.why_not(issued) == ""
    fleet.here.seconds.now += 0.1
    assert fleet.here.why_not(issued).startswith("store:")


def test_a_store_that_is_back_is_asked_what_has_changed_meanwhile() -> None:
    fleet = Fleet(stale_grace=60)
    issued = fleet.issue()
    fleet.here.why_not(issued)
    fleet.here.store.before_feed = fail
    fleet.here.seconds.now += 30
    assert fleet.here.why_not(issued) == ""
    fleet.revoke(issued)
    fleet.here.store.before_feed = int
    fleet.here.seconds.now += PAUSE + 0.1
    assert fleet.here.why_not(issued) == "revoked"


def test_a_store_that_has_failed_is_left_alone_for_a_moment(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.store.before_feed = fail
    for _ in range(100):
        assert fleet.here.why_not(issued).startswith("store:")
    assert len(fleet.here.store.feeds) == 1
    fleet.here.seconds.now += PAUSE
    for _ in range(100):
        assert fleet.here.why_not(issued).startswith("store:")
    assert len(fleet.here.store.feeds) == 2


def test_nobody_joins_those_who_wait_for_too_long() -> None:
    seconds = Seconds()
    breaker = Breaker(seconds)
    asked, answer = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        assert answer.wait(30)

    def others() -> None:
        assert asked.wait(30)
        assert breaker.call(lambda: 1) == 1
        seconds.now += PATIENCE + 0.1
        with pytest.raises(NotAsked):
            breaker.call(lambda: 1)
        answer.set()

    run_together([lambda: breaker.call(hang), others])
    assert breaker.call(lambda: 1) == 1


def test_one_finds_out_whether_the_store_is_back_while_the_others_do_not_wait() -> None:
    seconds = Seconds()
    breaker = Breaker(seconds)
    with pytest.raises(StoreUnavailable):
        breaker.call(fail)
    seconds.now += PAUSE

    def found_back() -> int:
        with pytest.raises(NotAsked):
            breaker.call(lambda: 1)
        return 2

    assert breaker.call(found_back) == 2
    assert breaker.call(lambda: 1) == 1


class Announced:
    """A lock that calls ``tell`` before somebody waits for it, and records how long they would wait at most."""

    def __init__(self, lock: threading.Lock, tell: Callable[[], object] = int) -> None:
        self.lock, self.tell = lock, tell
        self.release = lock.release
        self.locked = lock.locked
        self.timeouts: list[float] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.lock.locked():
            self.timeouts.append(timeout)
            self.tell()
        return self.lock.acquire(blocking, timeout)


def test_nobody_waits_for_who_finds_out_whether_the_store_is_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 0.001)
    issued = fleet.issue()
    fleet.here.cache._reading = reading = Announced(fleet.here.cache._reading)  # type: ignore[assignment]
    with reading.lock:  # another thread is asking a store that has not failed so far
        assert fleet.here.why_not(issued) == "store: other requests have been waiting for the store for too long"
    fleet.here.store.before_feed = fail
    assert fleet.here.why_not(issued) == "store: the database cannot be used: connection refused"
    with reading.lock:  # another thread is finding out whether the store is back
        assert fleet.here.why_not(issued) == "store: other requests have been waiting for the store for too long"
    assert reading.timeouts == [0.001, 0]


def test_who_needs_what_another_is_asking_for_waits_for_that(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE", 30)
    issued = fleet.issue()
    asking, waiting = threading.Event(), threading.Event()
    fleet.here.cache._reading = Announced(fleet.here.cache._reading, waiting.set)  # type: ignore[assignment]
    fleet.here.store.before_feed = lambda: (asking.set(), waiting.wait(30))
    outcomes: list[str] = []

    def wait() -> None:
        assert asking.wait(30)
        outcomes.append(fleet.here.why_not(issued))

    run_together([lambda: outcomes.append(fleet.here.why_not(issued)), wait])
    assert outcomes == ["", ""]


def test_who_waits_in_vain_for_a_turn_uses_what_another_has_read_meanwhile(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a start with many callers, who all wait, and of whom each has a turn only to see that it needs none."""
    monkeypatch.setattr(cache_module, "PATIENCE", 0.001)
    cache, issued = fleet.here.cache, fleet.issue()
    lock = cache._reading

    def read() -> None:
        cache._reading = lock
        cache.catch_up()

    cache._reading = busy = Announced(threading.Lock(), read)  # type: ignore[assignment]
    with busy.lock:
        assert fleet.here.why_not(issued) == ""


def test_what_is_wrong_with_one_row_keeps_nobody_else_from_theirs() -> None:
    seconds = Seconds()
    breaker = Breaker(seconds)

    def damaged() -> None:
        raise StoreError("a row of tokenguard_token is damaged")

    with pytest.raises(StoreError):
        breaker.call(damaged)
    assert breaker.call(lambda: 1) == 1
    # Also if reading that row is what shows that the store is back.
    with pytest.raises(StoreUnavailable):
        breaker.call(fail)
    seconds.now += PAUSE
    with pytest.raises(StoreError):
        breaker.call(damaged)
    assert breaker.call(lambda: 1) == 1


def test_lookups_that_fail_keep_nobody_who_is_remembered_out() -> None:
    fleet = Fleet(staleness=0.2)
    known, other = fleet.issue(), fleet.issue()
    assert fleet.here.why_not(known) == ""
    fleet.here.store.before_find = fail
    assert fleet.here.why_not(other).startswith("store:")
    fleet.here.seconds.now += 0.5
    assert fleet.here.why_not(known) == ""
    fleet.revoke(known)
    fleet.here.seconds.now += 0.3
    assert fleet.here.why_not(known) == "store: the store has just failed, and is tried again shortly"  # evicted


def test_lookups_that_wait_keep_nobody_who_is_remembered_out(fleet: Fleet) -> None:
    known, other = fleet.issue(), fleet.issue()
    assert fleet.here.why_not(known) == ""
    asked, done = threading.Event(), threading.Event()
    fleet.here.store.before_find = lambda: (asked.set(), done.wait(30))

    def others() -> None:
        assert asked.wait(30)
        fleet.here.seconds.now += PATIENCE + 0.1
        try:
            assert fleet.here.why_not(known) == ""
            assert (
                fleet.here.why_not(fleet.issue())
                == "store: other requests have been waiting for the store for too long"
            )
        finally:
            done.set()

    run_together([lambda: fleet.here.why_not(other), others])


# A replica


def lagging(fleet: Fleet, issued: Issued) -> None:
    """From now on look tokens up in a replica, which stays in its state of this moment."""
    fleet.here.store.replicated = True
    fleet.here.store.replica = fleet.store.standing(Read.of(issued.token))


def test_what_a_lagging_replica_says_is_not_believed(fleet: Fleet) -> None:
    issued = fleet.issue()
    lagging(fleet, issued)
    fleet.revoke(issued)
    assert fleet.here.why_not(issued) == "revoked"
    assert fleet.here.store.finds == [False, True]


def test_who_only_asks_about_a_token_is_told_by_the_primary(fleet: Fleet) -> None:
    issued = fleet.issue()
    lagging(fleet, issued)
    fleet.revoke(issued)
    with pytest.raises(InvalidToken, match="revoked"):
        fleet.here.guard.introspect(issued.text)


def test_a_replica_may_only_say_yes(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.store.replicated = True
    fleet.here.store.replica = None  # the replica does not have the token yet
    assert fleet.here.why_not(issued) == ""
    fleet.there.issuer.disable(fleet.client.id, actor="tests")
    lagging(fleet, issued)
    fleet.there.issuer.enable(fleet.client.id, actor="tests")
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == ""


def test_a_replica_that_is_ahead_of_the_primary_is_no_other_history(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The primary shows a change only when another replica has confirmed it."""
    issued = fleet.issue()
    fleet.here.why_not(issued)
    before = fleet.store._data
    fleet.revoke(fleet.issue())
    lagging(fleet, issued)
    fleet.store._data = before
    fleet.here.cache.evict(issued.token.id, fleet.client.id)
    assert fleet.here.why_not(issued) == ""
    fleet.here.seconds.now += 1.001
    assert fleet.here.why_not(issued) == ""
    assert [line for line in caplog.messages if "another history" in line] == []


def test_without_a_replica_a_no_is_asked_for_once(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.revoke(issued)
    fleet.here.why_not(issued)
    assert fleet.here.store.finds == [True]


# The size


def test_the_cache_is_bounded() -> None:
    fleet = Fleet(size=10)
    tokens = [fleet.issue() for _ in range(25)]
    for issued in tokens:
        assert fleet.here.why_not(issued) == ""
        assert len(fleet.here.cache) <= 10
    assert len(fleet.here.cache) == 10
    assert fleet.here.queries(tokens[-1])[0] == 0
    assert fleet.here.queries(tokens[0])[0] == 1


def test_of_a_full_cache_a_tenth_is_forgotten_and_nothing_is_left_of_it() -> None:
    fleet = Fleet(size=200)
    for _ in range(201):
        assert fleet.here.why_not(fleet.issue()) == ""
    cache = fleet.here.cache
    assert len(cache) == len(cache._keys) == 181


def test_a_size_of_1_remembers_one() -> None:
    fleet = Fleet(size=1)
    one, two = fleet.issue(), fleet.issue()
    assert [fleet.here.queries(issued)[0] for issued in (one, one, two, two, one)] == [1, 0, 1, 0, 1]


def test_a_size_of_0_remembers_nothing() -> None:
    fleet = Fleet(size=0)
    issued = fleet.issue()
    assert fleet.here.queries(issued)[0] == 1
    assert fleet.here.queries(issued)[0] == 1


# Threads and processes


def test_a_forked_child_starts_empty_whatever_its_parent_was_doing(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    cache = fleet.here.cache
    with cache._lock, cache._reading:  # as if held by another thread, which does not exist in the child
        assert in_child(lambda: (len(cache), fleet.here.queries(issued))) == (0, (1, 2))
    assert len(cache) == 1


def test_threads_that_verify_issue_and_revoke_together_leave_nothing_wrong() -> None:
    store = MemoryStore()
    here = Process(store, size=20)
    issuer = Issuer(store, TokenFormat(SigningKeys(KEY)), catalog=ScopeCatalog())
    issuer.register("billing", "*", actor="tests")
    revoked: list[Issued] = []
    wrong: list[str] = []

    def live() -> None:
        for _ in range(60):
            issued = issuer.issue("billing", "a", actor="tests")
            for _ in range(3):
                wrong.extend(filter(None, [here.why_not(issued)]))
            issuer.revoke(issued.token.id, actor="tests")
            revoked.append(issued)
            wrong.extend(["alive"] if here.why_not(issued) == "" else [])

    run_together([live] * 6)
    assert wrong == []
    assert all(here.why_not(issued) == "revoked" for issued in revoked)
    assert len(here.cache) == len(here.cache._keys) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"staleness": float("nan")}, "the staleness must be a number of seconds, 0 or more, not nan"),
        ({"staleness": float("inf")}, "the staleness must .*, not inf"),
        ({"staleness": -1}, "the staleness must .*, not -1"),
        ({"staleness": None}, "the staleness must .*, not None"),
        ({"stale_grace": float("nan")}, "the stale grace must .*, not nan"),
        ({"size": 0.5}, "the size of a cache must be a number of tokens, 0 or more, not 0.5"),
        ({"size": -1}, "the size .*, not -1"),
    ],
)
def test_a_cache_that_could_miss_a_revocation_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        TokenCache(MemoryStore(), **wrong)


def test_nothing_that_is_remembered_holds_a_tokens_text(fleet: Fleet) -> None:
    issued = fleet.issue()
    fleet.here.why_not(issued)
    (key,), (verified,) = fleet.here.cache.entries.keys(), fleet.here.cache.entries.values()
    secret = issued.text.reveal().rpartition("_")[2]
    shown = key.hex() + "".join(repr(getattr(verified, name)) for name in verified.__slots__)
    assert secret not in shown
    assert secret[:32] not in shown
