"""The pytest plugin. It is loaded wherever tokenguard is installed, so it imports nothing before that is needed."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import AsClient


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test with the fixture use the database: it is marked, so that pytest-django makes one for it.

    Once all tests are collected, that may be too late: pytest-django puts them in their order by their marks.
    """
    if "as_client" not in getattr(item, "fixturenames", ()) or item.get_closest_marker("django_db"):
        return
    if item.config.pluginmanager.has_plugin("django") and _has_django():
        # What an async test writes is written by another thread, outside the transaction of the test.
        is_async = inspect.iscoroutinefunction(getattr(item, "function", None))
        item.add_marker(pytest.mark.django_db(transaction=is_async))


def _has_django() -> bool:
    django = sys.modules.get("django.apps")
    return django is not None and django.apps.ready and django.apps.is_installed("tokenguard.django")
