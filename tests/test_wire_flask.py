"""The Flask sample under each server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .wire_contract import WireContract
from .wire_servers import Databases, opened


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with opened("flask", tmp_path_factory.mktemp("wire")) as databases:
        yield databases


class FlaskContract(WireContract):
    sample = "flask"


class TestGunicorn(FlaskContract):
    server = "gunicorn"


class TestWaitress(FlaskContract):
    server = "waitress"


class TestWerkzeug(FlaskContract):
    server = "werkzeug"


class TestUvicorn(FlaskContract):
    server = "uvicorn"
