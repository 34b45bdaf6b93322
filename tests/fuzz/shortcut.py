"""The fast path lets in whom the full path lets in, and nobody else: each request takes both, one after another.

Input: a letter for how tokens are sent, and requests, separated by ``|``. Each is a letter for what is done first, a
letter for the requirement, one for the client's address, and its headers in the order of ``HEADERS``, separated by
``;``. In those ``$a`` to ``$j`` stand for tokens in every possible state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.conftest import StoppedClock, World
from tokenguard import (
    AuthError,
    AuthScheme,
    Conditions,
    Guard,
    Hooks,
    Identity,
    MemoryStore,
    Requirement,
    UsageLog,
)
from tokenguard.cache import TokenCache
from tokenguard.conditions import Allowance, Rate
from tokenguard.outcome import IDENTITY
from tokenguard.request import RequestGuard
from tokenguard.store import NewUse

from . import number

DICTIONARY = (
    "Bearer $a", "bearer $b", "Bearer $j", "SSWS $c", "$d", ";", ";;", "|", "access_token=", "192.0.2.1", "10.0.0.1",
    "|aaaBearer $a", "|cbaBearer $e;q=1", "|daaBearer $f", "=", " ", "\xa0",
)  # fmt: skip
HEADERS = ("HTTP_AUTHORIZATION", "QUERY_STRING", "HTTP_X_API_KEY", "HTTP_X_FORWARDED_FOR")
ADDRESSES = ("192.0.2.1", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", None, "nonsense", "")
REQUIREMENTS = (
    Requirement(),
    Requirement(("users:read",)),
    Requirement(("users:read", "groups:read")),
    Requirement(("users:manage",)),
    Requirement((), ("users:manage", "groups:read")),
    Requirement(("users:read",), ("groups:read",)),
)
MAX_REQUESTS = 8
HOUR = 3600


class _EveryThird:
    """A limiter that lets two of three requests pass."""

    def __init__(self) -> None:
        self.hits = 0

    def hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        self.hits += 1
        return Allowance(rates[0][2], -1 if self.hits % 3 == 0 else 1, 1)


def _fill(world: World) -> dict[str, str]:
    client, disabled = world.client("billing", "users:* groups:read").id, world.client("disabled").id
    network, rate = Conditions.parse(["10.0.0.0/8"]), Conditions.parse(rate="2/minute")
    issued = {
        "a": world.issue("users:read", client=client),
        "b": world.issue("users:manage groups:read", client=client),
        "c": world.issue("users:* groups:read", client=client),
        "d": world.issue("groups:read", client=client, expires_in=HOUR),
        "e": world.issue("users:read", client=client, conditions=network),
        "f": world.issue("users:read", client=client, conditions=rate),
        "g": world.issue("users:read", client=client, idle_timeout=2 * HOUR),
        "h": world.issue("users:read", client=disabled),
        "i": world.issue("users:read", client=client),
    }
    world.issuer.disable(disabled, actor="tests")
    world.issuer.revoke(issued["i"].token.id, actor="tests")
    texts = {letter: token.text.reveal() for letter, token in issued.items()}
    return texts | {"j": world.tokens.mint().text.reveal()}


CLOCK = StoppedClock()
STORE = MemoryStore(CLOCK)
WORLD = World(STORE, clock=CLOCK)
TEXTS = _fill(WORLD)
BEGIN, DATA = CLOCK.micros, STORE._data


class Side:
    """A guard of its own, with everything that a worker has."""

    def __init__(self, further: bool, proxies: int) -> None:
        self.told: list[tuple[str, str]] = []
        self.written: list[NewUse] = []
        hooks = Hooks()
        hooks.authenticated.append(lambda identity, environ: self.told.append(("in", identity.token_id)))
        hooks.refused.append(lambda error, environ: self.told.append(("refused", error.code)))
        self.cache = TokenCache(STORE, monotonic=lambda: CLOCK.micros / 1e6)
        self.limiter = _EveryThird()
        self.guard = Guard(
            STORE,
            WORLD.tokens,
            catalog=WORLD.catalog,
            clock=CLOCK,
            limiter=self.limiter,
            cache=self.cache,
        )
        # On the guard's clock, since the fast path reads the time only once.
        self.guard.usage = self.usage = UsageLog(self, clock=self.guard.clock)  # type: ignore[arg-type]
        scheme = AuthScheme(headers=["X-API-Key"] if further else [], proxies=proxies)
        self.requests = RequestGuard(self.guard, scheme, hooks=hooks)

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        """Write every use, as a store does."""
        self.written += uses
        return set()

    def start_anew(self) -> None:
        """Forget everything, as after a fork."""
        self.cache._start_empty()
        self.usage._start_empty()
        self.guard._idle_tried.clear()
        self.guard.clock.latest = self.limiter.hits = 0
        self.told.clear()
        self.written.clear()


#: Two for each way of sending tokens: one whose requests may take the fast path, and one whose requests never do.
SIDES = [[Side(bool(kind & 1), kind >> 1) for _ in range(2)] for kind in range(4)]


def test_one_input(data: bytes) -> None:
    """Send some requests, which may take the fast path on one side and never do on the other."""
    CLOCK.micros, STORE._data = BEGIN, DATA
    text = data.decode("utf-8", "surrogateescape")
    short, long = sides = SIDES[number(text) % 4]
    for side in sides:
        side.start_anew()
    for request in text[1:].split("|")[:MAX_REQUESTS]:
        _prepare(request[:1])
        requirement = REQUIREMENTS[number(request[1:2]) % len(REQUIREMENTS)]
        ask_first = number(request[1:2]) >> 4 & 1 == 1
        environ = _environ(request[2:3], request[3:])
        other = dict(environ)
        assert _short(short.requests, environ, requirement, ask_first) == _long(long.requests, other, requirement), (
            request
        )
        assert environ.get(IDENTITY) == other.get(IDENTITY)
        assert short.requests.finish(environ, None, "") == long.requests.finish(other, None, "")
        assert short.told == long.told
    for side in sides:
        side.usage.write(everything=True)
    assert sorted(short.written, key=_by_token) == sorted(long.written, key=_by_token)


def _by_token(use: NewUse) -> tuple[str, int]:
    return use.token_id, use.last_used_at


def _prepare(step: str) -> None:
    """Do what happens before the request."""
    steps: dict[str, Callable[[], object]] = {
        "b": partial(CLOCK.move, 0.4),
        "c": partial(CLOCK.move, 2),
        "d": partial(CLOCK.move, HOUR),
        "e": partial(CLOCK.move, -10),
        "f": partial(WORLD.issuer.disable, "billing", actor="tests"),
        "g": partial(WORLD.issuer.enable, "billing", actor="tests"),
        "h": partial(WORLD.issuer.set_scopes, "billing", "groups:read", actor="tests"),
        "i": partial(WORLD.issuer.revoke, TEXTS["a"].split("_")[1], actor="tests"),
    }
    steps.get(step, lambda: None)()


def _environ(origin: str, headers: str) -> dict[str, Any]:
    values = [re.sub(r"\$([a-j])", lambda found: TEXTS[found[1]], value) for value in headers.split(";")]
    environ: dict[str, Any] = {key: value for key, value in zip(HEADERS, values, strict=False) if value}
    return environ | {"REMOTE_ADDR": ADDRESSES[number(origin) % len(ADDRESSES)]}


def _short(requests: RequestGuard, environ: dict[str, Any], requirement: Requirement, ask_first: bool) -> Any:
    """Decide as a framework does: on the fast path, and where that returns None, on the full path."""
    requests.guard.catalog.check(requirement)
    # As a middleware does that only identifies the caller.
    if ask_first and requests.wave_through(environ, None) is None:
        requests.authenticate(environ)
    if (verified := requests.wave_through(environ, requirement)) is not None:
        return verified.identity
    return _long(requests, environ, requirement)


def _long(requests: RequestGuard, environ: dict[str, Any], requirement: Requirement) -> Identity | tuple[Any, ...]:
    try:
        return requests.admit(environ, requirement)
    except AuthError as error:
        return type(error), error.reason, error.token_id, error.client_id, requests.scheme.refusal(error)
