"""The Flask sample twice: at its usual place, and mounted below a path."""

from __future__ import annotations

from typing import Any

from asgiref.wsgi import WsgiToAsgi
from flask import Flask

from sample_flask import create_app as create_sample

from .common import mounted


def create_app() -> Flask:
    # The sample's own error form would not show why a request was refused.
    app = create_sample({"TOKENGUARD_ERROR_FORM": "problem"})
    app.wsgi_app = mounted(app.wsgi_app)  # type: ignore[method-assign]
    return app


def create_asgi_app() -> Any:
    return WsgiToAsgi(create_app())
