"""Rates per token and per client, counted by the ``limits`` library: in the process, or in Redis for a fleet."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from .breaker import Breaker
from .complaints import Complaint
from .conditions import Allowance, LimiterUnavailable, Rate
from .errors import ConfigurationError, StoreUnavailable
from .extras import from_extra
from .forks import in_children

with from_extra("limits", "limits"):
    from limits import (
        RateLimitItem,
        RateLimitItemPerDay,
        RateLimitItemPerHour,
        RateLimitItemPerMinute,
        RateLimitItemPerSecond,
    )
    from limits.storage import storage_from_string
    from limits.strategies import FixedWindowRateLimiter

#: Seconds that a request waits for Redis.
TIMEOUT = 0.5

_ITEMS: dict[str, type[RateLimitItem]] = {
    "second": RateLimitItemPerSecond,
    "minute": RateLimitItemPerMinute,
    "hour": RateLimitItemPerHour,
    "day": RateLimitItemPerDay,
}


class RateLimiter:
    """Counts requests at ``url``: ``memory://`` (each process for itself) or another that limits takes.

    A Redis is ``redis://host:6379`` or ``unix:///path``.

    When the counts cannot be reached, requests are let through and the log says so once a minute; with
    ``fail_open=False`` they are refused. Raises ConfigurationError for a URL that cannot be used, and for a
    ``fail_open`` that is neither True nor False.
    """

    def __init__(self, url: str = "memory://", *, fail_open: bool = True) -> None:
        if not isinstance(fail_open, bool):  # "false", from the environment, would be true
            raise ConfigurationError(f"fail_open must be True or False, not {fail_open!r}")
        url = f"redis+{url}" if url.startswith("unix://") else url
        self._in_memory = url.lower().startswith("memory:")  # as limits reads it
        self._opened: FixedWindowRateLimiter | None = None
        try:
            # In memory, counting starts a thread. So it begins when there is something to count, which is after a fork:
            # otherwise a server that forks by itself, as uWSGI does, could not be stopped.
            self._open = partial(storage_from_string, url, **_patience(url))
            if "+cluster://" in url:
                # A cluster's client asks its nodes as soon as it is made, and they may be away while a service starts:
                # it is made for the first count. Sentinels' URLs are read in the same way, and nothing is asked.
                storage_from_string(url.replace("+cluster", "+sentinel", 1), service_name="any")
            elif not self._in_memory:
                storage = self._open()
                if _is_redis(url):
                    _check_parameters(storage)
                self._opened = FixedWindowRateLimiter(storage)
        except Exception:  # noqa: BLE001 - each storage has its own
            # The URL is not quoted: it may hold a password.
            raise ConfigurationError(
                "the rate limit URL cannot be used: write it as redis://host:6379, "
                'which needs pip install "wsgi-tokenguard[redis]"'
            ) from None
        self._fail_open = fail_open
        self._breaker = Breaker()
        self._turn: AbstractContextManager[object] = nullcontext()
        self._complain = Complaint(logging.ERROR, "rate limits cannot be counted, requests are let through")
        self._start()
        in_children(self._start)

    def hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        """See :class:`tokenguard.conditions.Limiter`."""
        try:
            return self._breaker.call(self._ask, rates)
        except StoreUnavailable as error:
            if not self._fail_open:
                raise LimiterUnavailable(str(error)) from error
            self._complain(str(error))
            return None

    def check(self) -> None:
        """Raise StoreUnavailable if nothing can be counted, which is tried, and undone."""
        if self._in_memory:
            return
        probe = RateLimitItemPerSecond(1, namespace="tokenguard")
        try:
            self._limiter.hit(probe, "check")
            self._limiter.clear(probe, "check")
        except Exception as error:
            raise StoreUnavailable(_kind(error)) from error

    def _start(self) -> None:
        # Called in a forked child too: whatever waits for an answer, or holds a lock, is a thread of its parent.
        self._breaker.forget()
        if self._in_memory:
            # One at a time: counting in memory is not atomic, and concurrent threads would get more through.
            self._turn = threading.Lock()
            self._opened = None

    def _ask(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        try:
            with self._turn:
                return self._hit(rates)
        except Exception as error:
            # Each storage has its own errors; and in memory a thread is started, of which there may be too many.
            raise StoreUnavailable(_kind(error)) from error

    @property
    def _limiter(self) -> FixedWindowRateLimiter:
        if self._opened is None:
            self._opened = FixedWindowRateLimiter(self._open())
        return self._opened

    def _hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        items = [(rate, _item(rate), (kind, key)) for kind, key, rate in rates]
        for rate, item, keys in items:
            if not self._limiter.test(item, *keys):
                return self._allowance(False, rate, item, keys)
        counted = [self._limiter.hit(item, *keys) for _, item, keys in items]
        allowances = [self._allowance(good, *each) for good, each in zip(counted, items, strict=True)]
        return min(allowances, key=lambda allowance: allowance.remaining)

    def _allowance(self, good: bool, rate: Rate, item: RateLimitItem, keys: tuple[str, str]) -> Allowance:
        window = self._limiter.get_window_stats(item, *keys)  # once, since Redis is asked twice for it
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        return Allowance(rate, window.remaining if good else -1, seconds, keys[0])


def _kind(error: Exception) -> str:
    """Return what kind of error it is: without its message, which may quote the URL."""
    return type(error).__name__


def _check_parameters(storage: Any) -> None:
    """Raise, as Redis' client does, for a parameter in the URL that it does not know. Connects to nothing."""
    pool = getattr(getattr(storage, "storage", None), "connection_pool", None)
    if pool is not None:
        pool.connection_class(**pool.connection_kwargs)


def _is_redis(url: str) -> bool:
    return url.startswith(("redis", "valkey"))


def _patience(url: str) -> dict[str, Any]:
    """Return how long a request waits for Redis, unless the URL itself says. Other storages have their own limits."""
    if not _is_redis(url):
        return {}
    timeouts: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    if url.startswith("redis"):
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as NotConnected
        from redis.retry import Retry

        # One retry without a pause, for a connection that has gone bad: by default it would sleep in between.
        timeouts["retry"] = Retry(NoBackoff(), 1, (NotConnected,))
    # The sentinels are asked on connections of their own, and a replica may not yet know what was counted.
    return {**timeouts, "sentinel_kwargs": timeouts, "use_replicas": False} if "+sentinel://" in url else timeouts


def _item(rate: Rate) -> RateLimitItem:
    return _ITEMS[rate.period](rate.count, namespace="tokenguard")
