"""What this process has seen of tokens' use, until it is written down.

The first use that is a minute newer than the one on record is written after the response, together with whatever
else has waited for a minute: at most one write a minute for a token and process. What a process holds when it ends
is written at its exit; one that is killed loses a minute's counts at most, and the time of a last use that was less
than a minute newer than the one on record.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from dataclasses import dataclass, field, replace

from .cache import Using, Verified
from .clock import DAY, SECOND, Clock, now
from .conditions import read_address
from .errors import StoreError, redact
from .store import USE_INTERVAL, Change, EventKind, NewUse, State, Store

log = logging.getLogger("tokenguard")
#: How many tokens' uses wait at most; beyond it they are written earlier.
MAX_WAITING = 10_000
#: How many uses are noted at most before they are added up.
MAX_NOTED = 1000
#: When a write that failed is tried again.
RETRY_AFTER = 5 * SECOND
#: Seconds before each attempt to write what a process holds when it ends.
PAUSES_AT_EXIT = (0, 0.05, 0.1, 0.2, 0.4)
#: Who records what nobody did.
ACTOR = "tokenguard"


@dataclass(slots=True)
class _Waiting:
    """A token's uses since they were last written."""

    #: What says when that is due.
    using: Using
    last_used_at: int = 0
    #: As the server gave it.
    address: str | None = None
    scopes: set[str] = field(default_factory=set)
    #: Day (days since the epoch, UTC) to number of requests.
    requests: dict[int, int] = field(default_factory=dict)


class UsageLog:
    """Collects the uses of tokens and writes them to the store. Threads may share it; a forked child starts empty."""

    #: The ids of tokens whose use is to be written now.
    due: set[str]
    #: What requests have noted, and nobody has added up yet.
    _noted: deque[tuple[Using, tuple[str, ...], int, int]]
    _waiting: dict[str, _Waiting]
    _looked_at: int
    _retry_at: int

    def __init__(self, store: Store, *, clock: Clock = now) -> None:
        self._store = store
        self._clock = clock
        self._forget()
        _write_at_exit(self)

    def note(self, verified: Verified, scopes: tuple[str, ...], address: str | None, requests: int = 1) -> None:
        """``requests`` were let in with this token from ``address``, for which it needed ``scopes``."""
        # This is all that a request pays for: it takes no lock, and is added up when it is written.
        at, using = self._clock(), verified.using
        using.at = at
        using.address = address
        self._noted.append((using, scopes, at // DAY, requests))
        if at >= using.due_at and at >= self._retry_at:
            self.due.add(using.token_id)
        if len(self._noted) >= MAX_NOTED:
            with self._lock:
                self._add_up()

    def write(self, *, everything: bool = False) -> bool:
        """Write what has waited for a minute, or everything. What cannot be written now waits for the next time.

        Returns whether another process is just writing down the same tokens, so that the next time may be soon.
        """
        at = self._clock()
        with self._lock:
            self._add_up()
            taken = {token_id: self._waiting.pop(token_id) for token_id in self._to_write(at, everything)}
        return self._write(taken, at)

    def write_rest(self) -> None:
        """Write everything, for the last time. The workers of a server end together: they wait for each other a bit."""
        for pause in PAUSES_AT_EXIT:
            time.sleep(pause)
            if not self.write(everything=True):
                return

    def write_one(self, token_id: str) -> bool:
        """Write what waits of this token; returns whether there was anything. For who would call it idle otherwise."""
        with self._lock:
            self._add_up()
            waiting = self._waiting.pop(token_id, None)
        if waiting is not None:
            self._write({token_id: waiting}, self._clock())
        return waiting is not None

    def _write(self, taken: dict[str, _Waiting], at: int) -> bool:
        for waiting in taken.values():
            waiting.using.due_at = at + USE_INTERVAL
        uses = [_new_use(token_id, waiting) for token_id, waiting in taken.items() if waiting.requests]
        if not uses:
            return False
        held = False
        try:
            again = self._store.record_uses(uses)
            held = bool(again)
        except Exception as error:  # noqa: BLE001 - the answer is sent: nothing may be lost, and nothing may break
            log.warning("the use of %d tokens could not be written down yet: %s", len(uses), redact(str(error)))
            again = {use.token_id for use in uses}
            self._retry_at = at + RETRY_AFTER
        self._put_back({token_id: taken[token_id] for token_id in again}, at)
        return held

    def _to_write(self, at: int, everything: bool) -> list[str]:
        due = [self.due.pop() for _ in range(len(self.due))]
        if everything or len(self._waiting) > MAX_WAITING:
            return list(self._waiting)
        if at - self._looked_at < USE_INTERVAL:
            return [token_id for token_id in due if token_id in self._waiting]
        # Once a minute also for those that were not used again: a look at all of them has its price.
        self._looked_at = at
        return [token_id for token_id, waiting in self._waiting.items() if at >= waiting.using.due_at]

    def _put_back(self, taken: dict[str, _Waiting], at: int) -> None:
        with self._lock:
            for token_id, older in taken.items():
                # A store that is away is not asked at every request, but soon: an idle token's end may depend on it.
                older.using.due_at = at + RETRY_AFTER
                newer = self._waiting.setdefault(token_id, _Waiting(older.using))
                if older.last_used_at > newer.last_used_at:
                    newer.last_used_at, newer.address = older.last_used_at, older.address
                newer.scopes |= older.scopes
                for day, requests in older.requests.items():
                    newer.requests[day] = newer.requests.get(day, 0) + requests

    def _add_up(self) -> None:
        noted = Counter([self._noted.popleft() for _ in range(len(self._noted))])
        for (using, scopes, day, requests), times in noted.items():
            if (waiting := self._waiting.get(using.token_id)) is None:
                waiting = self._waiting[using.token_id] = _Waiting(using)
            waiting.using = using  # the newest there is
            if using.at >= waiting.last_used_at:
                waiting.last_used_at, waiting.address = using.at, using.address
            waiting.scopes.update(scopes)
            waiting.requests[day] = waiting.requests.get(day, 0) + requests * times
        if len(self._waiting) > MAX_WAITING:
            self.due.update(self._waiting)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._noted = deque()
        self._waiting = {}
        self.due = set()
        self._looked_at = self._retry_at = 0


def end_if_idle(store: Store, token_id: str) -> None:
    """Record for good that a token was idle for too long, if it was by the store's own clock.

    Not by this host's clock: one that is fast ends nobody's token for good.
    """
    try:
        with store.transaction() as tx:
            record, at = tx.record(token_id), tx.now()
            if record is not None and record.token.idle_ended_at is None and record.state(at) == State.IDLE:
                ended = replace(record.token, idle_ended_at=at)
                tx.put_token(ended, Change(EventKind.TOKEN_IDLE_ENDED, at, ACTOR, {"idle_ended_at": [None, at]}))
    except StoreError as error:
        log.warning("the end of idle token %s could not be recorded yet: %s", token_id, error)


def _new_use(token_id: str, waiting: _Waiting) -> NewUse:
    address = str(read_address(waiting.address) or "")
    return NewUse(token_id, waiting.last_used_at, address, frozenset(waiting.scopes), dict(waiting.requests))


def _write_at_exit(usage: UsageLog) -> None:
    reference = weakref.ref(usage)

    def forget() -> None:
        if (alive := reference()) is not None:
            alive._forget()

    def write() -> None:
        if (alive := reference()) is not None:
            alive.write_rest()

    os.register_at_fork(after_in_child=forget)
    atexit.register(write)
