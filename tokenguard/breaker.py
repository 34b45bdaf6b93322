"""A circuit breaker: calls that would only wait for a store, or a server, that does not answer fail at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import StoreUnavailable

T = TypeVar("T")
#: Seconds for which no call is made to a store that has failed; then one is, to see whether it is back.
PAUSE = 1.0
#: Seconds for which calls may wait for an answer before no more are made, unless another number is given.
PATIENCE = 1.0


class NotAsked(StoreUnavailable):
    """The store was not asked, as it would most likely not have answered."""


class Breaker:
    """Lets calls through to a store while it answers. Threads may share it.

    Only an error of the type ``counts`` is a failure, after which no call is made for ``pause`` seconds. Any other
    error is an answer too, and a problem with one row must not keep others from theirs. While a call has been waiting
    for more than ``patience`` seconds, no other joins it.
    """

    #: When each call that is under way began.
    _calls: dict[object, float]
    _paused_until: float

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        counts: type[Exception] = StoreUnavailable,
        patience: float | None = None,
        pause: float | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._counts = counts
        self._patience = PATIENCE if patience is None else patience
        self._pause = PAUSE if pause is None else pause
        self.forget()

    def call(self, ask: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Return ``ask(*args, **kwargs)``; raises NotAsked without asking where that would be in vain."""
        call, calls, at = object(), self._calls, self._monotonic()
        if calls or self._paused_until:
            self._check(at)
        calls[call] = at
        try:
            answer = ask(*args, **kwargs)
        except Exception as error:
            # Not from when it was asked: the failure may have taken its time.
            self._paused_until = self._monotonic() + self._pause if isinstance(error, self._counts) else 0.0
            raise
        finally:
            del calls[call]
        self._paused_until = 0.0
        return answer

    @property
    def in_doubt(self) -> bool:
        """Whether the last answer from the store was a failure."""
        return self._paused_until > 0

    def forget(self) -> None:
        """Return to the initial state: for a forked child, where nobody waits any more."""
        self._lock = threading.Lock()
        self._calls = {}
        self._paused_until = 0.0

    def _check(self, at: float) -> None:
        with self._lock:
            if at < self._paused_until:
                raise NotAsked("the store has just failed, and is tried again shortly")
            # A copy, as other calls begin and end meanwhile.
            if at - min(self._calls.copy().values(), default=at) > self._patience:
                raise NotAsked("other requests have been waiting for the store for too long")
            if self._paused_until:
                # This call finds out whether the store is back; until then the others do not wait.
                self._paused_until = at + self._pause
