"""A small directory service, like an Okta org's, whose API is guarded by tokenguard.

Run it with ``flask --app sample_flask run`` or ``gunicorn sample_flask:app``. ``application.py``, ``users.py`` and
``groups.py`` hold all that has to do with tokenguard; the rest is the directory itself.

The parts that need no framework are shared with ``sample_django``: ``okta.py`` (the wire format), ``people.py`` and
``lifecycle.py`` (the rules), ``errors.py``, ``ids.py``, ``scopes.py`` and ``seed.py``. So importing this package loads
no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    """``create_app``, and ``app``, which is built on first access: importing this package opens no database."""
    if name not in ("app", "create_app"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import application

    found = globals()[name] = application.create_app() if name == "app" else application.create_app
    return found
