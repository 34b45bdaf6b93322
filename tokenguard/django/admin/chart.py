"""The requests of the last days as bars: the place and the height of each, for the template to draw."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

from ...details import DAYS

WIDTH, HEIGHT = 600, 100
_STEP = WIDTH // DAYS
_GAP = 4


class Bar(NamedTuple):
    """One day."""

    x: int
    y: int
    width: int
    height: int
    day: date
    requests: int


class Chart(NamedTuple):
    """All days, the oldest first."""

    bars: tuple[Bar, ...]
    total: int
    #: The day with the most requests.
    busiest: Bar
    width: int = WIDTH
    height: int = HEIGHT


def chart(requests: Mapping[date, int], today: date) -> Chart:
    """Return the chart of ``requests`` by day over the last DAYS days; a day that is missing had none."""
    days = [today - timedelta(days=ago) for ago in reversed(range(DAYS))]
    most = max((requests.get(day, 0) for day in days), default=0)
    bars = tuple(_bar(place, day, requests.get(day, 0), most) for place, day in enumerate(days))
    return Chart(bars, sum(bar.requests for bar in bars), max(bars, key=lambda bar: bar.requests))


def _bar(place: int, day: date, requests: int, most: int) -> Bar:
    # A day with one request must be visible beside one with thousands.
    height = max(2, HEIGHT * requests // most) if requests else 0
    return Bar(place * _STEP + _GAP // 2, HEIGHT - height, _STEP - _GAP, height, day, requests)
