"""The uses of tokens that this process has seen, until they are written to the store.

A token's use is written after the response as soon as it is a minute newer than the one on record, together with the
uses of other tokens that have waited for a minute, or will have in a second: about one write a minute for a token and
process. What a process still holds is written at its exit. One that is killed loses what it has counted since its last
write, and a last use that was less than a minute newer than the one on record.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

from .breaker import Breaker
from .clock import DAY, NEVER, SECOND, Clock, now
from .conditions import read_address
from .errors import SchemaError, StoreBusy, StoreError, StoreUnavailable, counted
from .events import Change, EventKind
from .forks import in_children
from .records import USE_INTERVAL, NewUse, State
from .scopes import Requirement, Scopes
from .secret import redact
from .store import Store
from .verified import NOBODY, NOTHING, Using, Verified

log = logging.getLogger("tokenguard")
#: How many tokens may have uses waiting; beyond that, uses are written earlier.
MAX_WAITING = 10_000
#: How long after a failed write the next one is tried.
RETRY_AFTER = 5 * SECOND
#: Uses that become due within this time are written together, and so become due together from then on.
TOGETHER = SECOND
#: How many tokens' uses are written together at most: the thread that writes answers nobody meanwhile, and a slow
#: database has only limited time for them.
MANY_WRITTEN = 200
#: Seconds before each attempt to write what a process holds when it ends.
PAUSES_AT_EXIT = (0, 0.05, 0.1, 0.2, 0.4)
#: Seconds after which no further attempt is made.
LONGEST_EXIT = 1
#: The actor of events that are nobody's doing.
ACTOR = "tokenguard"


class UsageLog:
    """Collects the uses of tokens and writes them to the store. Threads may share it; a forked child starts empty."""

    #: The ids of tokens whose uses are to be written now, or as soon as a failed write may be tried again.
    due: set[str]
    #: By token id; also for a minute after they were taken to be written.
    _waiting: dict[str, Using]
    #: By token id, when a failed write may be tried again.
    _again_at: dict[str, int]
    _swept_at: int
    _retry_at: int

    def __init__(self, store: Store, *, clock: Clock = now) -> None:
        self.store = store
        self._clock = clock
        # While a write waits for long, as for somebody who holds SQLite's only lock, other requests do not join it.
        self._breaker = Breaker(pause=0)
        self._start_empty()
        in_children(self._start_empty)
        _write_at_exit(self)

    def note(self, verified: Verified, requirement: Requirement, address: str | None, *, again: bool = False) -> None:
        """Note that a request was let in with this token from ``address``, since it meets ``requirement``.

        ``again``: the request was noted before, and now has to meet another requirement.
        """
        at, using = self._clock(), verified.using
        if at >= using.renew_at or requirement.mark not in using.met:
            self.prepare(verified, requirement, at)
        using.at, using.address = at, address
        if not again:
            next(using.uses)

    def waiting(self, token_id: str, scopes: Scopes) -> Using | None:
        """Return the waiting uses of a token that was read again, if they were counted with the same scopes."""
        using = self._waiting.get(token_id)
        return using if using is not None and using.scopes is scopes else None

    def last_use(self, token_id: str) -> int:
        """Return when the token was last used, going by its waiting uses; 0 if it has none."""
        using = self._waiting.get(token_id)
        return 0 if using is None else using.at

    def prepare(self, verified: Verified, requirement: Requirement, at: int) -> None:
        """Do the rare part of :meth:`note`: prepare to count uses that meet ``requirement``, from ``at`` on."""
        using = verified.using
        if using.token_id == NOBODY:
            verified.meets(requirement)
            using.renew_at = NEVER
            return
        at = min(at, self._clock())  # the guard's clock hides that the one behind it has stepped back
        with self._lock:
            older = self._waiting.get(using.token_id)
            if older is not using:
                self._waiting[using.token_id] = using
                if older is not None:  # from an earlier entry of the token
                    _move(older, using)
            if using.day != (day := at // DAY):
                if using.day:  # otherwise nothing has been counted yet
                    _add_up(using)
                using.day = day
            verified.meets(requirement)
            # The use on record may come from a host whose clock was fast.
            using.due_at = min(using.due_at, at + USE_INTERVAL)
            using.renew_at = min(max(using.due_at, self._retry_at), (using.day + 1) * DAY)
            if at >= using.renew_at or (len(self._waiting) > MAX_WAITING and at >= self._retry_at):
                self.due.add(using.token_id)

    def forget_times(self) -> None:
        """Let nothing wait any longer for a time by the clock, which has stepped back."""
        with self._lock:
            self._again_at.clear()
            self._swept_at = self._retry_at = 0
            for using in self._waiting.values():
                using.renew_at = 0

    def write(self, *, everything: bool = False) -> bool:
        """Write the uses that are due and those that wait with them, or everything.

        What cannot be written now waits for the next call. Returns whether another process was in the way, so that the
        next call may be soon.
        """
        at, in_the_way = self._clock(), False
        if at < self._retry_at and not everything:
            return False
        with self._lock:
            chosen = iter(list(self._waiting) if everything else self._to_write(at))
        try:
            while taken := self._take(chosen, at):
                in_the_way |= self._write(taken, at)
                if at < self._retry_at:
                    break  # the others would fare no better
        finally:
            with self._lock:
                self.due.update(chosen)
        return in_the_way

    def write_rest(self) -> None:
        """Write everything, for the last time. A server's workers end together, so each waits a bit for the others."""
        begun = time.monotonic()
        self._breaker.forget()  # another thread's write may wait for long, but there is no later one for these
        for pause in PAUSES_AT_EXIT:
            time.sleep(pause)
            # If an attempt itself takes long, one is enough: whoever stops the process may kill it soon.
            if not self.write(everything=True) or time.monotonic() - begun > LONGEST_EXIT:
                return

    def write_one(self, token_id: str) -> bool:
        """Write this token's waiting uses, before it is called idle; return whether there were any."""
        at = self._clock()
        if taken := self._take(iter([token_id]), at):
            self._write(taken, at)
        return bool(taken)

    def _write(self, taken: list[tuple[Using, NewUse]], at: int) -> bool:
        uses = [use for _, use in taken]
        # Put back at the end, however that comes: all of them, until it is known which were written.
        again, until = {use.token_id for use in uses}, at + RETRY_AFTER
        try:
            again = self._breaker.call(self.store.record_uses, uses)
            self._retry_at = 0
            return bool(again)
        except (StoreUnavailable, SchemaError) as error:
            log.warning("the use of %s could not be recorded yet: %s", counted(len(uses), "token"), error)
            # By the clock as it is now: the failure may have taken its time, or the clock have stepped back.
            self._retry_at = until = self._clock() + RETRY_AFTER
            return isinstance(error, StoreBusy)
        except Exception as error:  # noqa: BLE001 - the answer is sent: nothing may be lost, and nothing may break
            # A problem with one token's row must not keep the others from being written.
            if (half := len(taken) // 2) > 0:
                again = {use.token_id for use in uses[half:]}
                in_the_way = self._write(taken[:half], at)
                if at < self._retry_at:
                    return in_the_way
                again = set()
                return self._write(taken[half:], at) | in_the_way
            log.warning("the use of token %s could not be recorded: %s", uses[0].token_id, redact(str(error)))
            until = at + USE_INTERVAL
            return False
        finally:
            with self._lock:
                for using, use in taken:
                    if use.token_id in again:
                        self._put_back(using, use, until)

    def _to_write(self, at: int) -> list[str]:
        due = dict.fromkeys(token_id for token_id in self.due if at >= self._again_at.get(token_id, 0))
        self.due.difference_update(due)
        if self.due and not due:
            return []  # it is not time yet
        are_many = len(self._waiting) > MAX_WAITING
        if at - self._swept_at < TOGETHER and not are_many:  # going through all of them is costly
            return list(due)
        self._swept_at = at
        # Forget those that were taken and not used again: the next use of each would have been prepared for.
        taken = [each for each in self._waiting.values() if not each.renew_at and (are_many or at >= each.due_at)]
        for using in taken:
            if not _add_up(using).requests:
                del self._waiting[using.token_id]
        # Also tokens that were not used again.
        ready = (
            token_id
            for token_id, using in self._waiting.items()
            if (are_many or at + TOGETHER >= using.due_at) and token_id not in due and _add_up(using).requests
        )
        return [*due, *islice(ready, max(0, MANY_WRITTEN - len(due)))]

    def _take(self, token_ids: Iterator[str], at: int) -> list[tuple[Using, NewUse]]:
        """Take the waiting uses of the next of these tokens; the next use of each goes through :meth:`prepare`."""
        taken: list[tuple[Using, NewUse]] = []
        with self._lock:
            while len(taken) < MANY_WRITTEN and (token_id := next(token_ids, None)) is not None:
                using = self._waiting.get(token_id)
                if using is None or not _add_up(using).requests:
                    continue  # its first use is only just being counted
                # It is not removed yet: another thread may have prepared before, and only now count its use.
                self._again_at.pop(token_id, None)
                using.at = min(using.at, at)
                using.renew_at, using.due_at = 0, using.at + USE_INTERVAL
                scopes = using.scopes_needed
                address = str(read_address(using.address) or "")
                taken.append((using, NewUse(token_id, using.at, address, scopes, using.requests)))
                using.asked, using.met, using.requests = frozenset(), NOTHING, NOTHING
        return taken

    def _put_back(self, using: Using, use: NewUse, until: int) -> None:
        newer = self._waiting.setdefault(use.token_id, using)
        newer.asked |= use.scopes
        newer.requests = _sum(newer.requests, use.requests)
        if use.last_used_at > newer.at:
            newer.at, newer.address = use.last_used_at, use.address
        # A store that is away is not asked at every request, but soon again: an idle token's end may depend on it.
        newer.due_at = self._again_at[use.token_id] = until
        newer.renew_at = 0
        # For whichever request ends next: this token may not be used here again, and must not seem idle elsewhere.
        self.due.add(use.token_id)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._breaker.forget()
        self._waiting, self._again_at = {}, {}
        self.due = set()
        self._swept_at = self._retry_at = 0


def _add_up(using: Using) -> Using:
    """Add the uses that were counted since the last call to those of their day."""
    seen = next(using.uses)  # reading the counter also advances it
    if new := seen - using.uses_seen:
        using.requests = _sum(using.requests, {using.day: new})
    using.uses_seen = seen + 1
    return using


def _move(older: Using, newer: Using) -> None:
    """Move a token's uses from its older entry to the one that was read since."""
    newer.requests = _sum(newer.requests, _add_up(older).requests)
    newer.asked |= older.scopes_needed
    newer.due_at = max(newer.due_at, older.due_at)
    if older.at > newer.at:
        newer.at, newer.address = older.at, older.address
    older.asked, older.met, older.requests, older.renew_at = frozenset(), NOTHING, NOTHING, 0


def _sum(one: Mapping[int, int], other: Mapping[int, int]) -> Mapping[int, int]:
    if not (one and other):
        return one or other
    return {day: one.get(day, 0) + other.get(day, 0) for day in {*one, *other}}


def end_if_idle(store: Store, token_id: str) -> None:
    """Record for good that a token was idle for too long, if it was by the store's own clock.

    Not by this host's clock: a fast one must not end a token for good.
    """
    try:
        with store.transaction() as tx:
            record, at = tx.record(token_id), tx.now()
            if record is not None and record.token.idle_ended_at is None and record.state(at) == State.IDLE:
                ended = replace(record.token, idle_ended_at=at)
                tx.put_token(ended, Change(EventKind.TOKEN_IDLE_ENDED, at, ACTOR, {"idle_ended_at": [None, at]}))
    except StoreError as error:
        log.warning("the end of idle token %s could not be recorded yet: %s", token_id, error)


def _write_at_exit(usage: UsageLog) -> None:
    reference = weakref.ref(usage)

    def write() -> None:
        if (alive := reference()) is not None:
            alive.write_rest()

    atexit.register(write)
    # Python would keep the function to the end, and a process may make and drop any number of logs.
    weakref.finalize(usage, atexit.unregister, write).atexit = False
