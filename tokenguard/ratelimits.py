"""Rates per token and per client, counted by the ``limits`` library: in the process, or in Redis for a fleet."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from .conditions import Allowance, LimiterUnavailable, Rate
from .errors import ConfigurationError

log = logging.getLogger("tokenguard")
#: Seconds between two lines in the log about counts that cannot be reached.
COMPLAIN_EVERY = 60

_ITEMS: dict[str, type[RateLimitItem]] = {
    "second": RateLimitItemPerSecond,
    "minute": RateLimitItemPerMinute,
    "hour": RateLimitItemPerHour,
    "day": RateLimitItemPerDay,
}


class RateLimiter:
    """``url`` is ``memory://`` (each process counts for itself) or another that limits takes: ``redis://host:6379``.

    When the counts cannot be reached, requests are let through and the log says so once a minute; with
    ``fail_open=False`` they are refused. Raises ConfigurationError for a URL that cannot be used.
    """

    def __init__(self, url: str = "memory://", *, fail_open: bool = True) -> None:
        try:
            storage = storage_from_string(url, wrap_exceptions=True)
        except Exception:  # noqa: BLE001 - each storage has its own; a cluster is asked at once
            # The URL is not quoted: it may hold a password.
            raise ConfigurationError(
                "the rate limit URL cannot be used: write it as redis://host:6379, "
                'which needs pip install "wsgi-tokenguard[redis]"'
            ) from None
        self._limiter = FixedWindowRateLimiter(storage)
        self._fail_open = fail_open
        self._complained_at = -math.inf

    def hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        """See :class:`tokenguard.conditions.Limiter`."""
        try:
            return self._hit(rates)
        except StorageError as error:
            if not self._fail_open:
                raise LimiterUnavailable(f"{type(error.storage_error).__name__}") from error
            self._complain(error)
            return None

    def _hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        items = [(rate, _item(rate), (kind, key)) for kind, key, rate in rates]
        for rate, item, keys in items:
            if not self._limiter.test(item, *keys):
                return Allowance(rate, -1, self._reset(item, keys))
        counted = [self._limiter.hit(item, *keys) for _, item, keys in items]
        allowances = []
        for good, (rate, item, keys) in zip(counted, items, strict=True):
            left = self._limiter.get_window_stats(item, *keys).remaining
            allowances.append(Allowance(rate, left if good else -1, self._reset(item, keys)))
        return min(allowances, key=lambda allowance: allowance.remaining)

    def _reset(self, item: RateLimitItem, keys: tuple[str, str]) -> int:
        return max(1, math.ceil(self._limiter.get_window_stats(item, *keys).reset_time - time.time()))

    def _complain(self, error: StorageError) -> None:
        if time.monotonic() - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = time.monotonic()
            log.error("rate limits cannot be counted, requests are let through: %s", type(error.storage_error).__name__)


def _item(rate: Rate) -> RateLimitItem:
    return _ITEMS[rate.period](rate.count, namespace="tokenguard")
