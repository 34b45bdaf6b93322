"""The replacement for the cache while Django's tests run: each request is one query, whatever came before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..breaker import Breaker
from ..cache import TokenCache
from ..verified import Verified

T = TypeVar("T")


class NoCache(TokenCache):
    """A cache that keeps nothing, and so has nothing that could be out of date.

    The tests of a project count queries, move the clock, and roll back what they have written, in any order.
    """

    def __init__(self, cache: TokenCache) -> None:
        """Replace ``cache``."""
        super().__init__(cache.store, size=0)
        self.breaker = self.feed_breaker = _AlwaysAsked()

    def catch_up(self) -> int:
        return 0

    def put(self, key: bytes, verified: Verified, revision: int, generation: int) -> bool:
        return True


class _AlwaysAsked(Breaker):
    """Lets every call through, so that one test's outage does not affect the next test."""

    def call(self, ask: Callable[..., T], *args: object, **kwargs: object) -> T:
        return ask(*args, **kwargs)
