"""What takes the place of the cache while Django's tests run: each request is one query, whatever came before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..breaker import Breaker
from ..cache import TokenCache
from ..verified import Verified

T = TypeVar("T")


class NoCache(TokenCache):
    """Remembers nothing, so that there is nothing of which it would have to know whether it still holds.

    The tests of a project count queries, take the clock along, and undo what they have written, in any order.
    """

    def __init__(self, cache: TokenCache) -> None:
        """In the place of ``cache``."""
        super().__init__(cache.store, size=0)
        self.breaker = self.feed_breaker = _Open()

    def catch_up(self) -> int:
        return 0

    def put(self, key: bytes, verified: Verified, revision: int, generation: int) -> bool:
        return True


class _Open(Breaker):
    """One test's outage is none of the next one's."""

    def call(self, ask: Callable[..., T], *args: object, **kwargs: object) -> T:
        return ask(*args, **kwargs)
