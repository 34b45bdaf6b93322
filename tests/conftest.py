"""Shared by the tests: the setup of a service, a clock that stands still, and real databases."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coverage
import django
import hypothesis
import pytest
from django.db import connections
from django.test import override_settings

from tokenguard import (
    Client,
    Event,
    Guard,
    Hooks,
    InvalidToken,
    Issued,
    Issuer,
    MemoryStore,
    Policy,
    Requirement,
    ScopeCatalog,
    Scopes,
    SigningKeys,
    Store,
    StoreUnavailable,
    Token,
    TokenFormat,
    UsageLog,
)
from tokenguard.clock import SECOND
from tokenguard.conditions import Limiter
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import Standing
from tokenguard.tokens import Read
from tokenguard.turns import take

from . import postgresql
from .django_tables import migrate
from .keys import KEY as KEY
from .keys import OTHER_KEY as OTHER_KEY
from .postgresql import PostgreSQL
from .redis_server import RedisServer, redis_running
from .services.common import CATALOG
from .services.django_settings import database
from .sqlalchemy_tables import store_at

if TYPE_CHECKING:
    from .idp import Idp

# Before any test imports a module with models. Processes that the tests start inherit the second setting, and call
# setup() themselves: few of them need REST framework.
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.services.drf_settings"
django.setup()
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.services.django_settings"

# No deadline, since the machine may be busy with other work; no database, so that no files are left in the folder.
hypothesis.settings.register_profile("tests", deadline=None, database=None)
hypothesis.settings.load_profile("tests")

#: Files that take long although they have few tests.
LONG = (
    "test_outages.py",
    "test_docs.py",
    "test_package.py",
    "test_sample_django.py",
    "test_fleet_race.py",
    "test_okta_sdk.py",
    "test_testing.py",
    "test_shared_database.py",
    "test_fuzz.py",
    "test_model.py",
    "test_admin_browser.py",
    "test_jwt_services.py",
)
#: Files that repeat what others test, or do it in other processes: measuring their coverage would double their time.
UNMEASURED = {
    "test_admin_browser.py",
    "test_bench.py",
    "test_docs.py",
    "test_drf_service.py",
    "test_fleet_race.py",
    "test_fuzz.py",
    "test_model.py",
    "test_okta_sdk.py",
    "test_outages.py",
    "test_package.py",
    "test_sample_directory.py",
    "test_sample_django.py",
    "test_sample_flask.py",
    "test_sample_issuers.py",
    "test_shared_database.py",
    "test_wire_django.py",
    "test_wire_flask.py",
}


@pytest.fixture(scope="module", autouse=True)
def not_measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the files in ``UNMEASURED``, and the processes that their tests start, out of the coverage measurement."""
    measured = coverage.Coverage.current()
    if measured is None or request.path.name not in UNMEASURED:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        measured.stop()
        yield
        measured.start()


@pytest.fixture
def children_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the processes that the test starts out of it, because others measure what they do."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes longest first, so that no worker is still busy with it when the others are done."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -tests[item.path]))


def pytest_collection_finish() -> None:
    """Freeze what has been loaded, so that the garbage collector does not go through it each time."""
    gc.collect()
    gc.freeze()


class StoppedClock:
    """A clock that stands still until it is moved: at a whole second, far from midnight (UTC)."""

    def __init__(self) -> None:
        self.micros = 1_900_000_000 * SECOND

    def __call__(self) -> int:
        return self.micros

    def move(self, seconds: float) -> None:
        self.micros += int(seconds * SECOND)


class CountingStore(MemoryStore):
    """Counts how often a guard asks it about a token, and fails when told to."""

    asked = 0
    down = False

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("the database cannot be used: connection refused")
        return super().standing(read, primary=primary)


@cache
def asked(scopes: tuple[str, ...]) -> Requirement:
    """Return a view's requirement: the same object for each of its requests."""
    return Requirement(scopes)


@dataclass
class World:
    """A guard and an issuer on one store."""

    store: Store
    clock: StoppedClock = field(default_factory=StoppedClock)
    tokens: TokenFormat = field(default_factory=lambda: TokenFormat(SigningKeys(KEY)))
    catalog: ScopeCatalog = field(default_factory=lambda: ScopeCatalog(CATALOG))
    policy: Policy = field(default_factory=Policy)
    hooks: Hooks = field(default_factory=Hooks)
    limiter: Limiter | None = None

    def __post_init__(self) -> None:
        self.usage = UsageLog(self.store, clock=self.clock)
        self.guard = Guard(
            self.store,
            self.tokens,
            catalog=self.catalog,
            clock=self.clock,
            limiter=self.limiter,
            usage=self.usage,
        )
        self.issuer = Issuer(
            self.store, self.tokens, catalog=self.catalog, policy=self.policy, hooks=self.hooks, clock=self.clock
        )

    def client(self, name: str = "billing", scopes: str = "users:manage groups:read") -> Client:
        return self.issuer.register(name, scopes, actor="tests")

    def issue(self, scopes: str = "users:read", *, client: str = "billing", **kwargs: Any) -> Issued:
        """Issue a token to the client, which is registered if it is the usual one and is not there yet."""
        if client == "billing" and self.store.client(client) is None:
            self.client()
        return self.issuer.issue(client, scopes, actor="tests", **kwargs)

    def rotate(self, token_id: str, overlap: int = 3600) -> Issued:
        return self.issuer.rotate(token_id, actor="tests", overlap=overlap)

    def use(self, issued: Issued, *scopes: str, address: str = "192.0.2.1", write: bool = True) -> None:
        """Use the token as a request does that is let in and, with ``write``, answered."""
        self.usage.note(self.guard.admit(issued.text, address), asked(scopes), address)
        if write and self.usage.due:
            self.usage.write()

    def scopes_of(self, issued: Issued) -> Scopes:
        return self.guard.authenticate(issued.text).scopes


def run_together(jobs: Iterable[Callable[[], object]]) -> None:
    """Run each job in a thread of its own, and wait until all are done."""

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        finally:
            connections.close_all()  # this thread's; Python 3.13 complains of one that nobody has closed

    threads = [threading.Thread(target=run, args=[job], daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


class Interrupted(BaseException):
    """What a signal's handler, or a job queue's time limit, raises. No Exception, so nothing takes it for a failure."""


def interrupt_while_waiting(lock: threading.Lock, ask: Callable[[], object]) -> None:
    """Call ``ask`` in a thread, and interrupt that while it waits for its turn with this lock.

    Job queues that run in threads, as dramatiq does, raise their time limit in this way.
    """
    outcomes = []

    def asking() -> None:
        try:
            ask()
        except Interrupted:
            outcomes.append("interrupted")

    thread = threading.Thread(target=asking)
    with lock:
        thread.start()
        ident = thread.ident or 0
        while getattr(sys._current_frames().get(ident), "f_code", None) is not take.__code__:
            thread.join(0.001)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Interrupted))
    thread.join(30)
    assert outcomes == ["interrupted"]


def replayed(events: Iterable[Event]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rebuild clients and tokens from these events, by field. Each event's old values must match the state so far."""
    clients: dict[str, Any] = {}
    tokens: dict[str, Any] = {}
    for event in events:
        if event.kind.startswith("token."):
            assert event.token_id is not None
            item = tokens.setdefault(event.token_id, {"client_id": event.client_id, "created_at": event.at})
        elif event.kind.startswith("client."):
            item = clients.setdefault(event.client_id, {"created_at": event.at})
        else:
            continue
        for name, (old, new) in event.data.items():
            assert item.get(name) == old, (event.number, name)
            item[name] = new
    return clients, tokens


def present(store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the store's clients and tokens in the form of ``replayed``, without digests and what is not set."""
    return (
        {client.id: _plain(client) for client in store.clients()},
        {record.token.id: _plain(record.token) for record in store.records()},
    )


def _plain(item: Client | Token) -> dict[str, Any]:
    values = {f.name: getattr(item, f.name) for f in fields(item)}
    values |= {"scopes": list(item.scopes), "conditions": item.conditions.dump()}
    return {name: value for name, value in values.items() if name not in {"id", "digest"} and value is not None}


def mistyped(text: str) -> str:
    """Return a token's text with another last character: it looks like a token, but nobody has signed it."""
    return text[:-1] + ("a" if text[-1] != "a" else "b")


def works(world: World, issued: Issued) -> bool:
    """Whether the world's guard lets the token in."""
    return why_not(world, issued) == ""


def why_not(world: World, issued: Issued, guard: Guard | None = None) -> str:
    """Return the reason for the refusal, or an empty string if the token is let in."""
    try:
        (guard or world.guard).authenticate(issued.text)
    except InvalidToken as refused:
        return refused.reason
    return ""


@pytest.fixture
def world(clock: StoppedClock) -> World:
    """A world in memory, all of whose parts use the same clock."""
    return World(MemoryStore(clock), clock=clock)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a real PostgreSQL server, started for this run."""
    with (
        tempfile.TemporaryDirectory(prefix="tg-pg-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", folder)  # private to this run, as the server's package expects
        server = PostgreSQL(Path(folder) / "data")
        try:
            yield server.url
        finally:
            server.clean_up()


@pytest.fixture(scope="session")
def second_server(postgresql_server: str) -> Iterator[PostgreSQL]:
    """A second server, on which no other test has a database."""
    with postgresql.server_folder() as folder:
        server = PostgreSQL(folder / "data")
        yield server
        server.clean_up()


@pytest.fixture
def mortal_server(second_server: PostgreSQL) -> PostgreSQL:
    """A running, empty server that a test may kill or stop, if the test starts it again."""
    second_server.start()
    postgresql.empty(second_server.url)
    return second_server


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: str) -> str:
    """The URL of a database on that server."""
    import psycopg

    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tests")
    return postgresql_server.replace("/postgres?", "/tests?")


@pytest.fixture
def postgresql_url(postgresql_database: str) -> str:
    """The URL of that database, emptied of what earlier tests left: creating a new one takes three times as long."""
    postgresql.empty(postgresql_database)
    return postgresql_database


@pytest.fixture(scope="session")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_running(tmp_path_factory.mktemp("redis"), "tests") as server:
        yield server


@pytest.fixture
def redis_server(running_redis: RedisServer) -> RedisServer:
    """A real Redis server, emptied. A test that kills it has to start it again."""
    with running_redis.connect() as connection:
        connection.flushall()
    return running_redis


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
    with store_at(database_url) as store:
        yield store


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no option in the environment, of this process and of those that the test starts."""
    for name in [name for name in os.environ if name.startswith("TOKENGUARD_")]:
        monkeypatch.delenv(name)


@contextmanager
def django_alias(url: str) -> Iterator[str]:
    """Make the database known to Django under an alias, until the block ends."""
    alias = "of_this_test"
    connections.databases[alias] = connections.configure_settings({"default": {}, alias: database(url)})[alias]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias], connections.databases[alias]


@contextmanager
def django_project(alias: str, urls: str, *middleware: str, **options: Any) -> Iterator[None]:
    """Let Django serve this URLconf, with tokens in this database, until the block ends; ``options`` are ours."""
    from tokenguard.django.conf import service

    given = {"SCOPES": CATALOG, "SIGNING_KEY": KEY, "USING": alias, **options}
    chosen = middleware or ("tokenguard.django.TokenGuardMiddleware", "django.middleware.csrf.CsrfViewMiddleware")
    with override_settings(TOKENGUARD=given, ROOT_URLCONF=urls, MIDDLEWARE=list(chosen)):
        migrate(alias)
        yield
        usage = service().requests.guard.usage
        assert usage is not None
        usage.write(everything=True)  # before the database is gone


@pytest.fixture
def alias(database_url: str) -> Iterator[str]:
    """The Django alias of an empty database of each kind."""
    with django_alias(database_url) as alias:
        yield alias


@pytest.fixture(params=["memory", "sqlite", "postgresql", "django"])
def any_store(request: pytest.FixtureRequest, clock: StoppedClock) -> Iterator[Store]:
    """An empty store of each kind, whose own clock is the stopped one."""
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    if request.param == "django":
        from tokenguard.django.store import DjangoStore

        with django_alias(request.getfixturevalue("sqlite_url")) as alias:
            of_django = DjangoStore(alias, clock=clock)
            migrate(alias)
            yield of_django
        return
    with store_at(request.getfixturevalue(f"{request.param}_url"), clock) as store:
        yield store


@pytest.fixture(scope="session")
def running_idp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Idp, Path]]:
    from .idp import https_idp  # imported late: it generates keys, which takes time

    with https_idp(tmp_path_factory.mktemp("idp")) as found:
        yield found


@pytest.fixture
def served_idp(running_idp: tuple[Idp, Path]) -> tuple[Idp, Path]:
    """An issuer served over HTTPS, working again for each test, and the file with the certificate to trust."""
    idp, certificate = running_idp
    idp.broken = None
    idp.asked.clear()
    return idp, certificate


@pytest.fixture
def trusted_idp(served_idp: tuple[Idp, Path], monkeypatch: pytest.MonkeyPatch) -> Idp:
    """That issuer, with its certificate trusted by this process."""
    idp, certificate = served_idp
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return idp
