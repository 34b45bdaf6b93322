"""The parts of one service, opened and built as its options say; every framework's integration keeps them.

What the options name by URLs is opened if the package for it is there: the store, the Redis of pushes, the limiter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cache import TokenCache
from .clock import Clock, now
from .config import PREFIX, Options, named
from .errors import ConfigurationError
from .hooks import Hooks
from .issuer import Issuer
from .memory import MemoryStore
from .request import RequestGuard
from .store import Store

if TYPE_CHECKING:
    from .push import Publisher
    from .ratelimits import RateLimiter


@dataclass(frozen=True, slots=True)
class Service:
    """A store, with the verifying and the granting side on it."""

    options: Options
    store: Store
    requests: RequestGuard
    issuer: Issuer

    @classmethod
    def build(cls, options: Options, store: Store, *, hooks: Hooks, clock: Clock = now) -> Service:
        """Build all parts; connects to nothing yet. Raises ConfigurationError for an option that cannot be used."""
        publish(options, store)
        requests = options.request_guard(store, limiter=open_limiter(options), hooks=hooks, clock=clock)
        subscribe(options, requests.guard.cache)
        return cls(options, store, requests, options.issuer(store, hooks=hooks, clock=clock))


def open_store(url: str, read_url: str | None = None, *, clock: Clock = now) -> Store:
    """Return the store that ``url`` names: an SQLAlchemy URL, or ``memory://`` for one that dies with the process.

    ``read_url`` names a read replica, for finding tokens; ``clock`` is for a store without one of its own. Connects to
    nothing yet. Raises ConfigurationError for a URL that cannot be used, or a missing package.
    """
    if url == "memory://":
        if read_url is not None:
            raise ConfigurationError(f"{PREFIX}READ_URL: a store in memory has no read replica")
        return MemoryStore(clock)
    try:
        from .sqlalchemy import SQLAlchemyStore
        from .sqlalchemy.engine import checked_database_url, replica_url
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'a database of tokens requires {error.name}: pip install "wsgi-tokenguard[sqlalchemy]" '
            '(for a Django project, use "manage.py tokenguard" instead)'
        ) from None
    if read_url is not None:
        named("READ_URL", replica_url, read_url, named("DATABASE_URL", checked_database_url, url))
    return named("DATABASE_URL", SQLAlchemyStore, url, read_url=read_url)


def publish(options: Options, store: Store) -> Publisher | None:
    """Publish what ``store`` commits to other processes over Redis, as long as it lives, if the options say so.

    Set up only once, however often this is called; returns what publishes, if anything does. Raises ConfigurationError
    for a URL that cannot be used, or a missing package.
    """
    if (url := options.push_url) is None:
        return None
    if url not in store.committed.kept:
        store.committed.kept[url] = named("PUSH_URL", _push().Publisher, url, store)
    publisher: Publisher = store.committed.kept[url]
    return publisher


def subscribe(options: Options, cache: TokenCache) -> None:
    """Let ``cache`` forget the tokens that other processes publish. Raises as :func:`publish` does."""
    if options.push_url is not None:
        cache.on_reading = named("PUSH_URL", _push().Subscriber, options.push_url, cache).start


def open_limiter(options: Options) -> RateLimiter | None:
    """Return what counts requests that have a rate; None if the package for it is missing and no URL asks for it."""
    try:
        from .ratelimits import RateLimiter
    except ModuleNotFoundError as error:
        if options.rate_limit_url == "memory://":
            return None
        raise ConfigurationError(f'rate limits require {error.name}: pip install "wsgi-tokenguard[limits]"') from None
    return named("RATE_LIMIT_URL", RateLimiter, options.rate_limit_url, fail_open=options.rate_limit_fail_open)


def _push() -> Any:
    try:
        from . import push
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'{PREFIX}PUSH_URL requires {error.name}: pip install "wsgi-tokenguard[redis]"'
        ) from None
    return push
