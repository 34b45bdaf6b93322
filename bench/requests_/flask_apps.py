"""Flask: the view, the least that a guard could do, tokenguard, and its peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from tokenguard.flask import TokenGuard, require_scopes

from ..fixtures import SCOPE, foreign_tokens, issue
from . import by_hand, flask_peers
from .contestants import Arena, Contestant, gather, nothing
from .wsgi_apps import MANY, OPTIONS, REFUSED, floors, tokenguard_contestants


def users() -> dict[str, Any]:
    """A small answer in JSON."""
    return {"users": []}


def app_with(view: Callable[..., Any], **config: Any) -> Flask:
    """Return an application with only this view."""
    app = Flask("bench")
    app.config.update(config)
    app.add_url_rule("/users", "users", view)
    return app


def floor(find: by_hand.Find) -> Flask:
    """The least that a guard could do."""

    @wraps(users)
    def guarded() -> Any:
        environ = request.environ
        caller = find(environ["HTTP_AUTHORIZATION"][7:])
        if caller is None or SCOPE not in caller[1]:
            return Response(status=401, headers=REFUSED)
        environ["bench.identity"] = caller[0]
        return users()

    app = app_with(guarded)

    @app.after_request
    def mark(response: Response) -> Response:
        if response.status_code == 200:
            response.headers["Vary"] = "Authorization"
            response.headers["Cache-Control"] = "private"
        return response

    return app


def tokenguard_app(url: str, **more: Any) -> tuple[Flask, TokenGuard]:
    """The view behind ``require_scopes``, with these further options."""
    options = {f"TOKENGUARD_{word}": value for word, value in (OPTIONS | more).items()}
    app = app_with(require_scopes(SCOPE)(users), TOKENGUARD_DATABASE_URL=url, **options)
    return app, TokenGuard(app)


def foreign_contestants(folder: Path) -> Iterator[Contestant]:
    """tokenguard with tokens of another issuer, whose keys are fetched for the first of them."""
    with foreign_tokens(1 + MANY) as (issuers, texts):
        app, guard = tokenguard_app(f"sqlite:///{folder}/foreign.db", ISSUERS=issuers)
        with app.app_context():
            guard.store.upgrade()
        contestants = [
            Contestant("**tokenguard**, JWT RS256, cached", app, texts[:1], marked=True),
            Contestant("**tokenguard**, JWT RS256, first use", app, texts[1:], marked=True),
        ]
        contestants[0].check()
        yield from contestants


def make_arena(folder: Path, left_out: list[str]) -> Arena:
    """Return the contestants on Flask."""
    url = f"sqlite:///{folder}/flask.db"
    app, guard = tokenguard_app(url)
    with app.app_context():
        guard.store.upgrade()
        tokens = issue(guard.store, 1 + MANY)
    peers = gather(flask_peers.MAKERS, folder, left_out)
    return Arena(
        "Flask",
        Contestant("bare", app_with(users), tokens[:1]),
        [
            *floors(lambda find: (floor(find), nothing), tokens, by_hand.asking_sqlite(url)),
            *tokenguard_contestants((app, nothing), tokens),
            *foreign_contestants(folder),
            *peers,
        ],
    )
