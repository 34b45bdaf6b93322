"""Questions to a server that may be slow or down: each is asked once at a time, and its answer kept for a while."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from ..breaker import Breaker, NotAsked
from ..clock import SECOND
from ..complaints import Complaint
from ..errors import TemporarilyUnavailable, counted
from ..forks import in_children
from .https import Unreachable

#: How many answers are kept; beyond that, the oldest are evicted.
MAX_KEPT = 4096


class NoAnswer(Exception):
    """What came is no answer to this question; others may get theirs. After Unreachable they would wait in vain."""


class Reply(NamedTuple):
    """What the server said of a text, None for a no; and when it was asked, in epoch microseconds."""

    said: Mapping[str, Any] | None
    asked_at: int


class _Kept(NamedTuple):
    answer: Reply
    #: Its end by the monotonic clock (seconds) and by wall time (epoch microseconds): whichever comes first.
    good_until: float
    ends_at: int


class _Question(Future[Reply | None]):
    """A question that is being asked, since ``begun`` by the monotonic clock."""

    def __init__(self, begun: float) -> None:
        super().__init__()
        self.begun = begun


class Asking:
    """Asks about texts, for many threads. Keeps no text. A forked child starts empty.

    ``ask`` returns what a text stands for, or None; it raises :class:`NoAnswer` or Unreachable. A yes is kept for
    ``max_age`` seconds, a no for ``negative_age``. A thread whose question another is just asking waits ``patience``
    seconds for that answer. At most ``concurrency`` threads ask or wait, not counting those that wait about a text that
    was good. Nobody asks while the server has just been unreachable. ``complaint`` is what the log says if there is no
    answer.
    """

    def __init__(
        self,
        ask: Callable[[str], Mapping[str, Any] | None],
        complaint: str,
        *,
        max_age: float,
        negative_age: float,
        patience: float,
        concurrency: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._max_age, self._negative_age = max_age, negative_age
        self._patience, self._concurrency = patience, concurrency
        self._monotonic = monotonic
        # One slow answer is no reason to refuse other questions: the number of waiting threads is limited already.
        self._breaker = Breaker(monotonic, counts=Unreachable, patience=patience)
        self._complain = Complaint(logging.ERROR, complaint)
        self._salt = secrets.token_bytes(blake2b.SALT_SIZE)
        self._start()
        in_children(self._start)

    def answer(self, text: str, at: int) -> Reply:
        """Return the answer about ``text`` at ``at`` (epoch microseconds), or raise TemporarilyUnavailable."""
        key = blake2b(text.encode(), salt=self._salt, digest_size=32).digest()
        mine = _Question(self._monotonic())
        admitted = waits_freely = False
        try:
            with self._lock:
                kept, asked = self._kept.get(key), self._asked.get(key)
                if kept is not None and self._monotonic() < kept.good_until and at < kept.ends_at:
                    return kept.answer
                if asked is not None and mine.begun - asked.begun >= self._max_age:
                    asked = None  # its answer will be too old for this request
                # A thread that only waits serves nobody else either, so it needs a slot too. But a token that was good
                # is no stranger's, and its frequent user must not be refused each time that it is asked about again.
                waits_freely = asked is not None and kept is not None and kept.answer.said is not None
                admitted = waits_freely or self._slots.acquire(blocking=False)
                if admitted and asked is None:
                    self._asked[key] = asked = mine
            if asked is None or not admitted:
                self._complain(f"no more than {counted(self._concurrency, 'request')} may wait for it")
                raise TemporarilyUnavailable("too many requests are waiting for its issuer to verify it")
            found = self._find(key, text, at, mine) if asked is mine else self._wait(asked)
        finally:
            if admitted and not waits_freely:
                self._slots.release()
            if self._asked.get(key) is mine:  # interrupted before it was asked, as by a job's time limit
                self._end(key, mine, None)
        if found is None:
            raise TemporarilyUnavailable("its issuer did not verify it")
        return found

    def _wait(self, asked: _Question) -> Reply | None:
        try:
            return asked.result(self._patience)
        except TooLate:
            return None

    def _find(self, key: bytes, text: str, at: int, mine: _Question) -> Reply | None:
        found = None
        try:
            # Taken before the question is sent: the answer may be as old as that.
            asked_at = self._monotonic()
            found = Reply(self._breaker.call(self._ask, text), at)
            self._keep(key, found, asked_at)
        except NotAsked:  # follows a failure that has been logged
            pass
        except (NoAnswer, Unreachable) as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - an answer that causes any error is none
            self._complain(type(error).__name__)
        finally:
            self._end(key, mine, found)
        return found

    def _end(self, key: bytes, mine: _Question, found: Reply | None) -> None:
        with self._lock:
            if self._asked.get(key) is mine:
                del self._asked[key]
        mine.set_result(found)

    def _keep(self, key: bytes, answer: Reply, asked_at: float) -> None:
        age = self._negative_age if answer.said is None else self._max_age
        with self._lock:
            if len(self._kept) >= MAX_KEPT:
                for oldest in list(islice(self._kept, MAX_KEPT // 100)):
                    del self._kept[oldest]
            self._kept.pop(key, None)  # so that it counts as the newest
            self._kept[key] = _Kept(answer, asked_at + age, answer.asked_at + int(age * SECOND))

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(self._concurrency)
        self._kept: dict[bytes, _Kept] = {}
        #: What is being asked just now.
        self._asked: dict[bytes, _Question] = {}
        self._breaker.forget()
