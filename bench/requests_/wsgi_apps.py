"""Plain WSGI: the view, the least that a guard could do, and tokenguard's middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenguard import TokenGuardMiddleware
from tokenguard.config import Options
from tokenguard.hooks import Hooks
from tokenguard.service import Service
from tokenguard.sqlalchemy import SQLAlchemyStore

from ..fixtures import SCOPE, SCOPES, SIGNING_KEY, forgeries, issue
from .contestants import Arena, Contestant

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Not cached: the requests go through so many tokens in a circle ...
MANY = 500
#: ... and the process remembers no more than so many.
REMEMBERED = 50
OPTIONS = {"SIGNING_KEY": SIGNING_KEY, "SCOPES": SCOPES, "CACHE_SIZE": REMEMBERED}

#: What a refusal says of itself.
REFUSED = {"WWW-Authenticate": 'Bearer realm="api"', "Cache-Control": "no-store", "Vary": "Authorization"}


def view(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A small answer in JSON."""
    body = b'{"users": []}'
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def floor(app: WSGIApplication, known: dict[bytes, tuple[str, frozenset[str]]]) -> WSGIApplication:
    """The least that a guard with a cache could do: nothing is checked that makes it safe."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        caller = known.get(sha256(environ["HTTP_AUTHORIZATION"][7:].encode()).digest())
        if caller is None or SCOPE not in caller[1]:
            start_response("401 Unauthorized", [("Content-Length", "0"), *REFUSED.items()])
            return []
        environ["bench.identity"] = caller[0]

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("Vary", "Authorization"), ("Cache-Control", "private")], exc_info)

        return app(environ, start)

    return guarded


def known(text: str) -> dict[bytes, tuple[str, frozenset[str]]]:
    """What the floor knows: a token's digest, its client and its scopes."""
    return {sha256(text.encode()).digest(): ("billing", frozenset({SCOPE, "groups:read"}))}


def tokenguard_contestants(
    app: WSGIApplication, tokens: list[str], enter: Callable[[], None] | None = None
) -> list[Contestant]:
    """tokenguard in any framework, with what must be set before its turns."""
    more: dict[str, Any] = {} if enter is None else {"enter": enter}
    return [
        Contestant("**tokenguard**, cached", app, tokens[:1], marked=True, **more),
        Contestant("**tokenguard**, not cached", app, tokens[1:], marked=True, **more),
        Contestant("**tokenguard**, forged", app, forgeries(MANY), status=401, **more),
    ]


def make_arena(folder: Path, left_out: list[str]) -> Arena:
    """The contestants on plain WSGI."""
    store = SQLAlchemyStore(f"sqlite:///{folder}/wsgi.db")
    store.upgrade()
    tokens = issue(store, MANY)
    service = Service.build(Options.read(OPTIONS), store, hooks=Hooks())
    guarded = TokenGuardMiddleware(
        view, service.requests.guard, SCOPE, scheme=service.requests.scheme, hooks=service.requests.hooks
    )
    guarded_by_hand = floor(view, known(tokens[0]))
    return Arena(
        "WSGI",
        Contestant("bare", view, tokens[:1]),
        [
            Contestant("floor", guarded_by_hand, tokens[:1], marked=True),
            Contestant("floor, refused", guarded_by_hand, forgeries(1), status=401),
            *tokenguard_contestants(guarded, tokens),
        ],
    )
