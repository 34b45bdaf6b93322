"""Measuring on a machine that others use too: what is compared runs in turns of a few milliseconds, in random order.

Such a machine is now fast and now slow, by a factor of two. A difference or a ratio is taken between neighbours in
time, once in every round, and the median over all rounds is reported with its quartiles.
"""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

T = TypeVar("T")

#: How long one turn lasts, in seconds.
TURN = 0.003


class Spread(NamedTuple):
    """The median and the quartiles of the measured values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of at least two values."""
        low, median, high = statistics.quantiles(values, n=4)
        return cls(median, low, high)

    def show(self, digits: int = 1) -> str:
        """Return the text ``median (low to high)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def time_requests(app: WSGIApplication, environs: Iterator[WSGIEnvironment], count: int) -> float:
    """Return seconds for each of ``count`` requests with copies of the environs; answers are iterated and closed."""
    begun = time.perf_counter()
    for environ in islice(environs, count):
        answer = app(environ.copy(), _start_response)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return (time.perf_counter() - begun) / count


def time_calls(call: Callable[[], object], count: int) -> float:
    """Return seconds for each of ``count`` calls."""
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begun) / count


def fitting(timed: Callable[[int], float]) -> int:
    """Return how many calls fill a turn, where ``timed(count)`` returns seconds for each."""
    timed(3)
    return max(1, round(TURN / min(timed(3), timed(10))))


def undisturbed(measure: Callable[[], T], attempts: int = 5) -> T:
    """Call ``measure()`` until the operating system has not given the processor to others meanwhile; return its result.

    On a machine that is always busy, the last attempt counts.
    """
    for _ in range(attempts):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        measured = measure()
        if resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == before:
            break
    return measured


def shuffled(items: Sequence[T], rounds: int) -> Iterator[T]:
    """Yield every item once in every round, each round in an order of its own."""
    for _ in range(rounds):
        yield from random.sample(items, len(items))


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
    return _write


def _write(data: bytes) -> None:
    raise NotImplementedError("nobody writes that way any more")
