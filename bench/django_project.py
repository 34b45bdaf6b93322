"""A Django project of one view, with the Django applications of those other packages that are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.urls import path

from .fixtures import SCOPES

GUARD = "tokenguard.django.TokenGuardMiddleware"
_PEERS = ["rest_framework_api_key", "knox", "oauth2_provider"]


def set_up(database: Path, options: dict[str, Any]) -> None:
    """Configure Django, for the whole process, with one SQLite file. ``options`` are tokenguard's."""
    settings.configure(
        SECRET_KEY="of the benchmark alone: 0123456789abcdefghijklmnopqrstuvwxyz",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "rest_framework.authtoken",
            "tokenguard.django",
            *(name for name in _PEERS if find_spec(name)),
        ],
        # As the documentation advises. Otherwise each request that uses the database would pay for opening it again.
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(database),
                "CONN_MAX_AGE": None,
                "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode = WAL"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        TOKENGUARD=options,
        OAUTH2_PROVIDER={"SCOPES": {name: name for name in SCOPES}},
    )
    django.setup()


def migrate() -> None:
    """Create the tables."""
    call_command("migrate", verbosity=0)


def urls(**views: Any) -> ModuleType:
    """Return a URLconf with only these views, each at its name."""
    module = ModuleType("bench.urls")
    vars(module)["urlpatterns"] = [path(name, view) for name, view in views.items()]
    return module


def handler(*middleware: str) -> WSGIHandler:
    """Return the WSGI application, with only these middlewares."""
    settings.MIDDLEWARE = list(middleware)
    return WSGIHandler()


def serve(urlconf: ModuleType) -> None:
    """Use this URLconf for requests from now on."""
    settings.ROOT_URLCONF = urlconf
