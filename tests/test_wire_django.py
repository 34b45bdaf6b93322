"""The Django sample under each server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .wire_contract import WireContract
from .wire_servers import Databases, opened


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with opened("django", tmp_path_factory.mktemp("wire")) as databases:
        yield databases


class DjangoContract(WireContract):
    sample = "django"


class TestGunicorn(DjangoContract):
    server = "gunicorn"


class TestWaitress(DjangoContract):
    server = "waitress"


class TestRunserver(DjangoContract):
    server = "runserver"


class TestUvicorn(DjangoContract):
    server = "uvicorn"
