"""What gunicorn serves, on Flask or Django: ``/bare``, ``/guarded`` by tokenguard, ``/floor`` by the least guard."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fixtures import SCOPE, SCOPES, SIGNING_KEY
from .requests_.by_hand import remembered
from .requests_.wsgi_apps import floor

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The environment variable that names a worker's database.
DATABASE = "BENCH_DATABASE"
#: The one that may hold the token that the least guard knows.
TOKEN = "BENCH_TOKEN"
OPTIONS: dict[str, Any] = {"SIGNING_KEY": SIGNING_KEY, "SCOPES": SCOPES}


def _dispatching(bare: WSGIApplication, guarded: WSGIApplication) -> WSGIApplication:
    """Put all into one application, so that the same workers answer."""
    paths = {"/bare": bare, "/floor": floor(bare, remembered(os.environ.get(TOKEN, ""))), "/guarded": guarded}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return paths[environ["PATH_INFO"]](environ, start_response)

    return app


def flask_app() -> WSGIApplication:
    """Flask, with tokens in the database of an SQLAlchemy URL; the environment may set more of the options."""
    from flask import Flask

    from tokenguard.flask import TokenGuard, require_scopes

    def users() -> dict[str, Any]:
        return {"users": [], "worker": os.getpid()}

    bare, guarded = Flask("bare"), Flask("guarded")
    for path in ("/bare", "/floor"):
        bare.add_url_rule(path, "users", users)
    guarded.add_url_rule("/guarded", "users", require_scopes(SCOPE)(users))
    options = {**OPTIONS, "DATABASE_URL": os.environ[DATABASE]}
    guarded.config.update({f"TOKENGUARD_{word}": value for word, value in options.items()})
    TokenGuard(guarded)
    return _dispatching(bare, guarded)


def django_app() -> WSGIApplication:
    """Django, with tokens in the SQLite file of such a URL."""
    from . import django_project

    django_project.set_up(Path(os.environ[DATABASE].removeprefix("sqlite:///")), OPTIONS)
    # These can only be imported once Django is configured.
    from django.http import HttpRequest, HttpResponse, JsonResponse

    from tokenguard.django import require_scopes

    def users(request: HttpRequest) -> HttpResponse:
        return JsonResponse({"users": [], "worker": os.getpid()})

    views = {"bare": users, "floor": users, "guarded": require_scopes(SCOPE)(users)}

    def found(request: HttpRequest, name: str) -> HttpResponse:
        # All by one route: Django tries routes in turn, so each would be found later than the one before it.
        return views[name](request)

    django_project.serve(django_project.urls(**{"<name>": found}))
    return _dispatching(django_project.handler(), django_project.handler(django_project.GUARD))
