"""Connections: which URLs are taken, how SQLite is set up, and what a database's complaint means."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from ..databases import CLOCKS, LOCK_TIMEOUT, complaint
from ..errors import ConfigurationError, SchemaError, StoreError, StoreUnavailable

#: What makes the tables.
SET_UP = "tokenguard init"


def checked_url(url: str | URL) -> URL:
    # Never quotes the URL: it may hold a password.
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigurationError("the database URL cannot be read: write it as sqlite:///tokenguard.db") from None
    in_memory = ":memory:" in (parsed.database or ":memory:") or parsed.query.get("mode") == "memory"
    if backend in {"postgres", "postgresql"} and "+" not in parsed.drivername:
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif backend == "sqlite" and in_memory:
        raise ConfigurationError("an in-memory SQLite database is another one for each connection; name a file")
    elif backend not in CLOCKS:
        raise ConfigurationError(f"tokenguard keeps its tables in SQLite or PostgreSQL, not in {backend}")
    return parsed


def make_engines(url: URL) -> tuple[Engine, Engine]:
    """One pool of connections in two modes: for reading in autocommit, for writing in transactions."""
    try:
        # Parameters hold digests: they stay out of every message.
        engine = create_engine(url, hide_parameters=True, pool_timeout=LOCK_TIMEOUT, connect_args=_connect_args(url))
    except (TypeError, ValueError):
        raise ConfigurationError("the database URL has an option after its ? that cannot be used") from None
    except NoSuchModuleError:
        raise ConfigurationError(f"the database URL names the unknown driver {url.drivername!r}") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the database URL needs the Python package {error.name!r}; for PostgreSQL: "
            'pip install "wsgi-tokenguard[postgres]"'
        ) from None
    _forget_in_children(engine)
    if url.get_backend_name() == "postgresql":
        # Not what the server defaults to: under SERIALIZABLE, writers that queue up would be refused.
        writing = engine.execution_options(isolation_level="READ COMMITTED")
        return engine.execution_options(isolation_level="AUTOCOMMIT"), writing
    writing = engine.execution_options()
    event.listen(engine, "do_connect", lambda *_: _refuse_missing_file(url))
    event.listen(engine, "connect", _set_up_sqlite)
    # The driver would begin transactions by itself, and DEFERRED; it is told not to, so this is the only BEGIN.
    event.listen(writing, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine, writing


def _connect_args(url: URL) -> dict[str, Any]:
    # A database that does not answer must not hold up every worker. What the URL sets itself goes before.
    if url.get_backend_name() != "postgresql":
        return {}
    timeouts = {"connect_timeout": LOCK_TIMEOUT, "options": f"-c statement_timeout={LOCK_TIMEOUT}s"}
    return {name: value for name, value in timeouts.items() if name not in url.query}


def create_file(url: URL) -> None:
    """Make an empty SQLite file where there is none yet; raises StoreUnavailable where that is not possible."""
    if (path := _sqlite_file(url)) is not None:
        try:
            path.touch()
        except OSError as error:
            raise StoreUnavailable(f"the database {path} cannot be created: {error.strerror}") from None


def use_wal(reading: Engine, writing: Engine) -> None:
    """Put a SQLite file into write-ahead mode: readers and the writer do not block each other then. It stays so."""
    for attempt in range(10):
        try:
            with reading.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
        except OperationalError:
            # This one statement does not wait for another process that does the same: a transaction does.
            if attempt == 9:
                raise
            with writing.begin():
                pass


@contextmanager
def translated() -> Iterator[None]:
    """Turns what SQLAlchemy raises in the block into a StoreError that says what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _store_error(error) from error


def _sqlite_file(url: URL) -> Path | None:
    path = url.database or ""
    return Path(path) if url.get_backend_name() == "sqlite" and not path.startswith("file:") else None


def _refuse_missing_file(url: URL) -> None:
    # SQLite would make an empty file of any mistyped name.
    if (path := _sqlite_file(url)) is not None and not os.path.exists(path):
        raise SchemaError(f'there is no database {path.absolute()}: run "{SET_UP}" to create it')


def _set_up_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # see make_engines
    connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT * 1000}")
    connection.execute("PRAGMA foreign_keys = ON")


def _forget_in_children(engine: Engine) -> None:
    # A connection must not be used from two processes; a worker forked after the first query starts with none.
    reference = weakref.ref(engine)

    def forget() -> None:
        if (alive := reference()) is not None:
            alive.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _store_error(error: SQLAlchemyError) -> StoreError:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return complaint(error.orig, SET_UP)
    return StoreUnavailable(f"the database cannot be used: {type(error).__name__}")
