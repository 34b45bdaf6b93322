"""A read replica of the database, which is asked before the primary and waited for less long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .breaker import Breaker, NotAsked
from .errors import SchemaError, StoreError, StoreUnavailable
from .events import Event
from .forks import in_children
from .store import Store

log = logging.getLogger("tokenguard")
T = TypeVar("T")
#: Seconds for which a read replica that could not be asked is left alone.
REPLICA_PAUSE = 10.0
#: Seconds for which calls may wait for a replica before no more are made: there is the primary.
REPLICA_PATIENCE = 0.3
#: Seconds after which it is checked again that the replica follows the primary: a copy may have done so until now.
CHECK_INTERVAL = 60.0


def replicated(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the rows of a query that has none on a server that is no replica; raises StoreUnavailable for those."""
    if not rows:
        raise StoreUnavailable("it is not a replica, or is still empty")
    return rows


class OtherHistory(StoreError):
    """The replica follows another database than the primary, perhaps a copy: what is revoked here may not be there."""


def check_history(newest: Sequence[Event], store: Store) -> None:
    """Raise OtherHistory if the replica's newest event, if it has any, is not one of the store's too."""
    for event in newest:
        feed = store.feed(event.number)
        others = {other.id for other in feed.events if other.number == event.number}  # none if it was pruned
        if feed.revision < event.number or others - {event.id}:
            raise OtherHistory(f"it follows another database: its event {event.number} is not the primary's")


class Replica:
    """A replica, to be asked in place of the primary as long as it answers, and follows that."""

    #: Held by the thread that checks it. Meanwhile others ask the primary.
    _checking: threading.Lock
    _check_at: float

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.breaker = Breaker(monotonic, counts=StoreError, patience=REPLICA_PATIENCE, pause=REPLICA_PAUSE)
        self.forget()
        in_children(self.forget)

    def ask(self, question: Callable[[], T], check: Callable[[], None]) -> T | None:
        """Return the replica's answer; None if it cannot be asked, lately could not, or keeps others waiting.

        ``check`` is called now and then, before the question. It raises StoreError if no answer may be believed.
        """
        try:
            if self._monotonic() >= self._check_at and not self._passes(check):
                return None
            return self.breaker.call(question)
        except NotAsked:
            return None
        except StoreError as error:
            self._check_at = 0.0  # what answers next may be another server
            # Not the error's own text, which advises to set up the tables: that is not done on a replica.
            why = "its tables are missing or outdated" if isinstance(error, SchemaError) else error
            log.warning("the read replica is not used for %.0f s: %s", REPLICA_PAUSE, why)
            return None

    def forget(self) -> None:
        """Return to the initial state: for a forked child, where nobody checks or waits any more."""
        self.breaker.forget()
        self._checking = threading.Lock()
        self._check_at = 0.0

    def _passes(self, check: Callable[[], None]) -> bool:
        if not self._checking.acquire(blocking=False):
            return False
        try:
            self.breaker.call(check)
            self._check_at = self._monotonic() + CHECK_INTERVAL
            return True
        finally:
            self._checking.release()
