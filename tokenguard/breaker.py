"""A short circuit breaker: whoever would only wait for a store, or a server, that does not answer is told at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .errors import StoreUnavailable

T = TypeVar("T")
#: Seconds for which nobody asks a store that has failed; then one does, to see whether it is back.
PAUSE = 1.0
#: Seconds after which nobody joins those who still wait for an answer, where nothing else is said.
PATIENCE = 1.0


class NotAsked(StoreUnavailable):
    """It was not asked, as it would most likely not have answered."""


class Breaker:
    """Lets calls through to a store while it answers. Threads may share it.

    Only an error that ``counts`` is a failure: what is wrong with one row must not keep others from theirs, and whoever
    says so is there; after it nobody asks for ``pause`` seconds. Nobody joins those who have been waiting for more than
    ``patience`` seconds.
    """

    #: When those that are under way were begun.
    _calls: dict[object, float]
    _closed_until: float

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
        """``ask(*args, **kwargs)``; raises NotAsked without asking where that would be in vain."""
        call, calls, at = object(), self._calls, self._monotonic()
        if calls or self._closed_until:
            self._check(at)
        calls[call] = at
        try:
            answer = ask(*args, **kwargs)
        except Exception as error:
            # Not from when it was asked: it may have taken its time.
            self._closed_until = self._monotonic() + self._pause if isinstance(error, self._counts) else 0.0
            raise
        finally:
            del calls[call]
        self._closed_until = 0.0
        return answer

    @property
    def in_doubt(self) -> bool:
        """Whether the last that was heard of the store is that it failed."""
        return self._closed_until > 0

    def forget(self) -> None:
        """As at the beginning: in a forked child, where nobody waits any more."""
        self._lock = threading.Lock()
        self._calls = {}
        self._closed_until = 0.0

    def _check(self, at: float) -> None:
        with self._lock:
            if at < self._closed_until:
                raise NotAsked("the store has just failed, and is asked again in a moment")
            # A copy, as others begin and end meanwhile.
            if at - min(self._calls.copy().values(), default=at) > self._patience:
                raise NotAsked("others have been waiting for the store for too long")
            if self._closed_until:
                # This one finds out whether the store is back; until then the others do not wait.
                self._closed_until = at + self._pause
