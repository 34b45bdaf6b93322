"""The pytest plugin. It is loaded wherever tokenguard is installed, so it imports nothing before that is needed."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import AsClient

#: The fixtures of pytest-django by which a test itself declares how it uses the database.
_DATABASE = ("db", "transactional_db", "live_server")


@pytest.fixture
def as_client(request: pytest.FixtureRequest) -> AsClient:
    """``as_client(scopes="users:read")``: a test client that sends a token with these scopes.

    In a Django project with tokenguard it is a Django test client, and the test may use the database. Otherwise it is
    the test client of your fixture ``app``. Another application or client can be given first, and the rest is as in
    tokenguard.testing.as_client.
    """
    from .testing import as_client

    def make(target: Any = None, /, **kwargs: Any) -> Any:
        if target is None and not _has_django():
            target = request.getfixturevalue("app")
        return as_client(target, **kwargs)

    return make


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let tests with the fixture use the database: they are marked, so that pytest-django makes one for them."""
    if not config.pluginmanager.has_plugin("django") or not _has_django():
        return
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "as_client" in fixtures and fixtures.isdisjoint(_DATABASE) and not item.get_closest_marker("django_db"):
            # What an async test writes is written by another thread, outside the transaction of the test.
            is_async = inspect.iscoroutinefunction(getattr(item, "function", None))
            item.add_marker(pytest.mark.django_db(transaction=is_async))


def _has_django() -> bool:
    django = sys.modules.get("django.apps")
    return django is not None and django.apps.ready and django.apps.is_installed("tokenguard.django")
