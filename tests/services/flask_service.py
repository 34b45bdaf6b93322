"""The contract's service on Flask."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask

from tokenguard.flask import (
    TokenGuard,
    current_identity,
    get_identity,
    introspection_blueprint,
    require_scopes,
    require_token,
    revocation_blueprint,
)

from .common import CATALOG, HEADERS, ISSUER


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.update(TOKENGUARD_SCOPES=CATALOG, TOKENGUARD_HEADERS=HEADERS, TOKENGUARD_RATE_HEADERS="draft")
    guard = TokenGuard(app)

    @app.get("/open")
    def open_() -> dict[str, Any]:
        identity = get_identity()
        return {"client": identity.client_name if identity else None}

    @app.get("/any")
    @require_token
    def any_() -> dict[str, Any]:
        return {"client": current_identity.client_name}

    @app.route("/manage", methods=["GET", "POST"])
    @require_scopes("users:read", "users:manage")
    async def manage() -> dict[str, Any]:
        return {"client": current_identity.client_name}

    @app.route("/either", methods=["GET", "OPTIONS"])
    @require_scopes(any_of=("users:manage", "groups:read"))
    def either() -> dict[str, Any]:
        return {"client": current_identity.client_name}

    @app.get("/cached")
    @require_token
    def cached() -> tuple[str, dict[str, str]]:
        return "", {"Cache-Control": "max-age=60", "Vary": "Accept, authorization"}

    blueprint = guard.protect(Blueprint("protected", __name__), "users:read")

    @blueprint.get("/read")
    def read() -> dict[str, Any]:
        return {"client": current_identity.client_name}

    app.register_blueprint(blueprint)
    app.register_blueprint(revocation_blueprint("/revoke"))
    app.register_blueprint(introspection_blueprint("users:manage", issuer=ISSUER))
    return app
