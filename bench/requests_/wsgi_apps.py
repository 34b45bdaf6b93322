"""Plain WSGI: the view, the least that a guard could do, and tokenguard's middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenguard import Store, TokenGuardMiddleware
from tokenguard.config import Options
from tokenguard.hooks import Hooks
from tokenguard.service import Service
from tokenguard.sqlalchemy import SQLAlchemyStore

from ..fixtures import SCOPE, SCOPES, SIGNING_KEY, forgeries, issue
from . import by_hand
from .contestants import Arena, Contestant, Guarded, nothing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: For "not cached": the requests cycle through so many tokens, other than the cached one ...
MANY = 500
#: ... and the process caches at most so many.
REMEMBERED = 50
OPTIONS = {"SIGNING_KEY": SIGNING_KEY, "SCOPES": SCOPES, "CACHE_SIZE": REMEMBERED}

#: The headers of a refusal.
REFUSED = {"WWW-Authenticate": 'Bearer realm="api"', "Cache-Control": "no-store", "Vary": "Authorization"}


def view(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A small answer in JSON."""
    body = b'{"users": []}'
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def floor(app: WSGIApplication, find: by_hand.Find) -> WSGIApplication:
    """The least that a guard could do."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        caller = find(environ["HTTP_AUTHORIZATION"][7:])
        if caller is None or SCOPE not in caller[1]:
            start_response("401 Unauthorized", [("Content-Length", "0"), *REFUSED.items()])
            return []
        environ["bench.identity"] = caller[0]

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            return start_response(status, [*headers, ("Vary", "Authorization"), ("Cache-Control", "private")], exc_info)

        return app(environ, start)

    return guarded


def floors(make: Callable[[by_hand.Find], Guarded], tokens: list[str], asking: by_hand.Find) -> list[Contestant]:
    """Return the least that a guard could do in any framework, by how it finds the caller."""
    remembering, enter = make(by_hand.remembered(tokens[0]))
    not_cached, enter_not_cached = make(asking)
    return [
        Contestant("floor", remembering, tokens[:1], marked=True, enter=enter),
        Contestant("floor, not cached", not_cached, tokens[1:], marked=True, enter=enter_not_cached),
        Contestant("floor, refused", remembering, forgeries(1), status=401, marked=True, enter=enter),
    ]


def tokenguard_contestants(guarded: Guarded, tokens: list[str]) -> list[Contestant]:
    """tokenguard in any framework."""
    app, enter = guarded
    return [
        Contestant("**tokenguard**, cached", app, tokens[:1], marked=True, enter=enter),
        Contestant("**tokenguard**, not cached", app, tokens[1:], marked=True, enter=enter),
        Contestant("**tokenguard**, forged", app, forgeries(MANY), status=401, marked=True, enter=enter),
    ]


def tokenguard_app(store: Store, **more: object) -> TokenGuardMiddleware:
    """The view behind the middleware, with these further options."""
    requests = Service.build(Options.read(OPTIONS | more), store, hooks=Hooks()).requests
    return TokenGuardMiddleware(view, requests.guard, SCOPE, scheme=requests.scheme, hooks=requests.hooks)


def make_arena(folder: Path, left_out: list[str]) -> Arena:
    """Return the contestants on plain WSGI."""
    url = f"sqlite:///{folder}/wsgi.db"
    store = SQLAlchemyStore(url)
    store.upgrade()
    tokens = issue(store, 1 + MANY)
    return Arena(
        "WSGI",
        Contestant("bare", view, tokens[:1]),
        [
            *floors(lambda find: (floor(view, find), nothing), tokens, by_hand.asking_sqlite(url)),
            *tokenguard_contestants((tokenguard_app(store), nothing), tokens),
        ],
    )
