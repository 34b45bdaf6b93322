"""The Flask sample twice: where it always is, and mounted below a path."""

from __future__ import annotations

from typing import Any

from asgiref.wsgi import WsgiToAsgi
from flask import Flask

from sample_flask import create_app as create_sample

from .common import mounted


def create_app() -> Flask:
    # Its own form of errors would not tell why a request was refused.
    app = create_sample({"TOKENGUARD_ERROR_FORM": "problem"})
    app.wsgi_app = mounted(app.wsgi_app)  # type: ignore[method-assign]
    return app


def create_asgi_app() -> Any:
    return WsgiToAsgi(create_app())
