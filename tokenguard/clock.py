"""Time: internally always an integer of microseconds since the epoch, UTC; datetimes only at the edges."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from .errors import ConfigurationError, InvalidValue

log = logging.getLogger("tokenguard")
#: Returns the present time in epoch microseconds. Guards, issuers and tests pass it in.
Clock = Callable[[], int]
#: Seconds of a clock that never goes back and, if the system has such a clock, runs while the machine sleeps.
monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)

SECOND = 1_000_000
DAY = 86_400 * SECOND
#: A time that is never reached.
NEVER = 1 << 63
#: The longest duration, in seconds: it keeps every sum of times within BIGINT and within a datetime's years.
LONGEST = 100 * 366 * 24 * 3600
#: By how much a clock has to step back to be worth a warning: the clocks of a fleet may differ by as much.
WORTH_TELLING = 5 * SECOND

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Years of four digits, and a day away from either end, so that any time zone can express them.
_FIRST = (datetime(1000, 1, 2, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def checked_clock(clock: Clock) -> Clock:
    """Return ``clock``; raises ConfigurationError for one that counts seconds, by which no token would ever expire."""
    # Milliseconds since the epoch are fewer than this, too.
    if clock is not now and (not isinstance(at := clock(), int) or at < 100 * DAY):
        raise ConfigurationError(f"a clock must return whole microseconds since the epoch, as an int, not {at!r}")
    return clock


class NeverBack:
    """A clock that stands still when the one behind it steps back: what has ended stays ended in this process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        #: The latest time that it has returned.
        self.latest = 0
        #: Called once it is noticed that the clock has stepped back.
        self.on_step_back: Callable[[], object] | None = None
        self._has_told = False

    def __call__(self) -> int:
        at = self.clock()
        # Threads may overwrite each other's value with one a moment older, which changes nothing that matters.
        if at < self.latest:
            return self.latest
        self.latest = at
        return at

    def stands_still(self) -> bool:
        """Whether the clock behind it has stepped back, by more than threads that overtake each other account for."""
        behind = self.latest - self.clock()
        if behind <= SECOND:
            self._has_told = False
        elif behind > WORTH_TELLING and not self._has_told:
            self._has_told = True
            self._tell(behind)
        return behind > SECOND

    def follow(self) -> None:
        """Go back with the clock behind it from now on. Only for tests, some of which move the time."""
        self.__class__ = _Following

    def _tell(self, behind: int) -> None:
        log.warning(
            "the clock of this host has stepped back by %d seconds: until it reaches that time again, this process "
            "stays at %s, so tokens that end earlier have expired; restart it to correct that",
            behind // SECOND,
            isoformat(self.latest),
        )
        if self.on_step_back is not None:
            self.on_step_back()


class _Following(NeverBack):
    # Whoever uses the clock compares with the latest time and sets it, as the shortcut does: so it holds nothing back.
    @property
    def latest(self) -> int:
        return self.clock()

    @latest.setter
    def latest(self, at: int) -> None:
        pass


def now() -> int:
    """The present time in epoch microseconds."""
    return time.time_ns() // 1000


def to_datetime(micros: int) -> datetime:
    """Convert epoch microseconds to an aware datetime in UTC, exact to the microsecond.

    A time outside the calendar, as a damaged row may hold, becomes the first or the last that can be expressed.
    """
    return _EPOCH + timedelta(microseconds=min(max(micros, _FIRST), _LAST))


def from_datetime(moment: datetime) -> int:
    """Convert an aware datetime to epoch microseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def isoformat(micros: int) -> str:
    """Format epoch microseconds as RFC 3339 text in UTC, to the second: ``2026-01-31T12:00:00Z``."""
    return to_datetime(micros).strftime("%Y-%m-%dT%H:%M:%SZ")


def earliest(*ends: int | None) -> int | None:
    """Return the first of these times; None, for never, if there is none."""
    return min([end for end in ends if end is not None], default=None)


def parse_duration(text: str) -> int:
    """Convert text such as ``90d`` to seconds. The units are s, m, h, d and w. Raises InvalidValue otherwise."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip(), re.ASCII)
    if match is None:
        raise InvalidValue(f"{text!r} is not a duration: write a number and a unit (s, m, h, d, w), as in 90d")
    return check_duration(int(match[1]) * _UNITS[match[2]])


def duration_text(seconds: int) -> str:
    """Format seconds as a duration, in the largest unit up to days that expresses it exactly."""
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def overlap_seconds(text: str) -> int:
    """Convert a duration to seconds, where 0 needs no unit; raises InvalidValue."""
    return 0 if text.strip() == "0" else parse_duration(text)


def check_duration(seconds: int) -> int:
    """Return ``seconds`` if it is a whole number between 1 second and 100 years; otherwise raise InvalidValue."""
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise InvalidValue(f"a duration must be a whole number of seconds, not {seconds!r}")
    if not 1 <= seconds <= LONGEST:
        raise InvalidValue(f"a duration must be between 1 second and 100 years, not {seconds} seconds")
    return seconds
