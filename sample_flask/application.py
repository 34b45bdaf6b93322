"""The sample as a Flask application: its options, its guard and its blueprints put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Flask

from tokenguard.flask import TokenGuard, management_blueprint

from . import groups, okta, scopes, users, web
from .directory import Directory

guard = TokenGuard()
guard.protect(groups.blueprint, "okta.groups.read")


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the WSGI application; ``config`` takes precedence over the environment.

    The directory is kept at SAMPLE_DATABASE_URL, clients and tokens at TOKENGUARD_DATABASE_URL. TOKENGUARD_ISSUERS
    names other issuers whose JWTs are accepted too. SAMPLE_TRUSTED_HOSTS are the host names of the service, separated
    by spaces: without it, links in answers lead to whatever host a request names.
    """
    app = Flask("sample_flask", static_folder=None)
    app.config["SAMPLE_DATABASE_URL"] = os.environ.get("SAMPLE_DATABASE_URL", "sqlite:///sample_directory.db")
    app.config["TRUSTED_HOSTS"] = os.environ.get("SAMPLE_TRUSTED_HOSTS", "").split() or None
    app.config["MAX_CONTENT_LENGTH"] = okta.MAX_BODY + 1  # one byte more than allowed shows that a body is too long
    app.config["TOKENGUARD_SCOPES"] = scopes.SCOPES
    app.config["TOKENGUARD_ERROR_FORM"] = "okta"
    app.config["TOKENGUARD_IDLE_TIMEOUT"] = scopes.IDLE_TIMEOUT
    app.config.update(config or {})

    guard.init_app(app)
    app.extensions["sample_directory"] = Directory(app.config["SAMPLE_DATABASE_URL"])
    web.handle_errors(app)
    app.register_blueprint(users.blueprint)
    app.register_blueprint(groups.blueprint)
    app.register_blueprint(management_blueprint())
    app.add_url_rule("/", view_func=index)
    return app


def index() -> dict[str, str]:
    """The one page that needs no token."""
    return okta.INDEX
