"""A small directory service, like an Okta org's, whose API is guarded by tokenguard.

Run it with ``flask --app sample_flask run`` or ``gunicorn sample_flask:app``. This file, ``users.py`` and
``groups.py`` hold all that has to do with tokenguard; the rest is the directory itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask

from tokenguard.flask import TokenGuard

from . import groups, users, web
from .directory import Directory

SCOPES = {
    "okta.users.read": "Read users",
    "okta.users.manage": {"description": "Create, change and delete users", "implies": ["okta.users.read"]},
    "okta.groups.read": "Read groups",
}

guard = TokenGuard()
guard.protect(groups.blueprint, "okta.groups.read")


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The WSGI application; ``config`` goes before the environment.

    The directory is kept at SAMPLE_DATABASE_URL, clients and tokens at TOKENGUARD_DATABASE_URL.
    """
    app = Flask(__name__, static_folder=None)
    app.config["SAMPLE_DATABASE_URL"] = os.environ.get("SAMPLE_DATABASE_URL", "sqlite:///sample_directory.db")
    # Many times a profile, and too little to keep the JSON parser busy.
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
    app.config["TOKENGUARD_SCOPES"] = SCOPES
    # As Okta has it: a token that nobody has used for 30 days ends.
    app.config["TOKENGUARD_IDLE_TIMEOUT"] = "30d"
    app.config.update(config or {})

    guard.init_app(app)
    app.extensions["sample_directory"] = Directory(app.config["SAMPLE_DATABASE_URL"])
    web.handle_errors(app)
    app.register_blueprint(users.blueprint)
    app.register_blueprint(groups.blueprint)
    app.add_url_rule("/", view_func=index)
    return app


def index() -> dict[str, Any]:
    """The one page that needs no token."""
    return {"name": "tokenguard sample directory", "users": "/api/v1/users", "groups": "/api/v1/groups"}


def __getattr__(name: str) -> Flask:
    """``app``, built when first asked for, so that importing this package opens no database."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app()
    return app
