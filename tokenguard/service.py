"""The parts of one service, built from its options; every framework's integration keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from .backends import open_limiter, publish, subscribe
from .clock import Clock, now
from .config import Options
from .hooks import Hooks
from .issuer import Issuer
from .request import RequestGuard
from .store import Store


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
