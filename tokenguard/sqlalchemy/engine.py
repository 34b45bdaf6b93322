"""Connections: which URLs are accepted, how SQLite is set up, and what a database's errors mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree

from ..databases import LOCK_TIMEOUT, READ_TIMEOUT, as_store_error
from ..errors import ConfigurationError, SchemaError, StoreError, StoreUnavailable

_INVALID = (
    "the database URL is invalid: write it as sqlite:///tokenguard.db or postgresql://user:password@host/database, "
    "with % and @ in the password or an option as %25 and %40"
)
_SPACED = "the database URL has white space around it, such as the end of a line: remove it"
#: The command that creates the tables.
SET_UP = '"tokenguard init" (in Flask "flask tokenguard init")'


def checked_database_url(url: str | URL) -> URL:
    """Return the URL with the driver that is used; raises ConfigurationError for one that cannot be."""
    # No message quotes the URL: it may hold a password.
    if isinstance(url, str) and url != url.strip():
        raise ConfigurationError(_SPACED)  # SQLite would create a file with such a name
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        passed_on = os.fsencode(parsed.database or "") if backend == "sqlite" else str(url).encode()
    except (ArgumentError, ValueError):
        raise ConfigurationError(_INVALID) from None
    if b"\0" in passed_on:
        raise ConfigurationError(_INVALID)  # what the system does not take would be an error with every request
    if backend in {"postgres", "postgresql"}:
        # Before the first "@" a "?" is a part of the password.
        options = url.partition("@")[2].partition("?")[2] if isinstance(url, str) else ""
        return _checked_postgresql(parsed, options)
    if backend == "sqlite":
        return _checked_sqlite(parsed)
    raise ConfigurationError(f"tokenguard supports SQLite and PostgreSQL, not {backend}")


def _checked_postgresql(parsed: URL, options: str) -> URL:
    if parsed.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ConfigurationError("tokenguard connects to PostgreSQL with psycopg 3: write the URL as postgresql://…")
    if "@" in (parsed.host or "") + (parsed.database or "") + options:
        # The end of a password: the driver's error would quote it as the host that it cannot find.
        raise ConfigurationError(_INVALID)
    return parsed.set(drivername="postgresql+psycopg")


def _checked_sqlite(parsed: URL) -> URL:
    if ":memory:" in (parsed.database or ":memory:") or parsed.query.get("mode") == "memory":
        raise ConfigurationError(
            "an in-memory SQLite database is separate for each connection: use a file, or memory:// in tests"
        )
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise ConfigurationError(
            "tokenguard connects to SQLite with Python's own sqlite3: write the URL as sqlite:///…"
        )
    return parsed


def replica_url(url: str | URL, primary: URL) -> URL:
    """Return the checked URL of a read replica of the primary database."""
    replica = checked_database_url(url)
    if {replica.get_backend_name(), primary.get_backend_name()} != {"postgresql"}:
        raise ConfigurationError("a read replica requires PostgreSQL: both URLs must begin with postgresql://")
    return replica


def reading_engine(url: URL) -> Engine:
    """Return an engine in autocommit: nothing begins a transaction, so none is left open and nothing is reset."""
    return _engine(url, READ_TIMEOUT, reading=True, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)


def writing_engine(url: URL) -> Engine:
    """Return an engine for transactions."""
    if url.get_backend_name() == "postgresql":
        # Not the server's default, which may be SERIALIZABLE: writers that queue up would be refused.
        return _engine(url, LOCK_TIMEOUT, isolation_level="READ COMMITTED", pool_pre_ping=True)
    engine = _engine(url, LOCK_TIMEOUT)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _engine(url: URL, patience: float, *, reading: bool = False, **options: Any) -> Engine:
    """Return an engine whose users wait for so many seconds: for a free connection and, on SQLite, for the lock."""
    if url.get_backend_name() == "postgresql":
        options |= _postgresql_options(url, reading)
    try:
        # Parameters hold digests, which must stay out of every message.
        engine = create_engine(url, hide_parameters=True, pool_timeout=patience, **options)
    except (ArgumentError, TypeError, ValueError):
        raise ConfigurationError("the database URL has an invalid option after its ?") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"this Python was built without SQLite: it has no module {error.name!r}") from None
    if url.get_backend_name() == "postgresql":
        from . import postgresql

        postgresql.set_up(engine)
    else:
        event.listen(engine, "do_connect", lambda *_: _refuse_missing_file(url))
        event.listen(engine, "connect", partial(_set_up_sqlite, patience))
    return engine


def _postgresql_options(url: URL, reading: bool) -> dict[str, Any]:
    try:
        from . import postgresql
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'PostgreSQL requires the Python package {error.name!r}: pip install "wsgi-tokenguard[postgres]"'
        ) from None
    # Otherwise SQLAlchemy would first ask each server for its hstore type, which is of no use here.
    return {"connect_args": postgresql.connect_args(url, reading=reading), "use_native_hstore": False}


def set_limits(connection: Connection, statements: float, locks: str) -> None:
    """Limit each statement of this transaction to so many seconds (0: no limit), and its wait for a lock to ``locks``.

    SQLite has only one lock, and its connections are set up with the time to wait for it.
    """
    if connection.dialect.name == "postgresql":
        from . import postgresql

        postgresql.set_limits(connection, statements, locks)


def create_file(url: URL) -> None:
    """Create an empty SQLite file if there is none yet; raises StoreUnavailable if that is not possible."""
    if (path := _sqlite_file(url)) is not None and not _is_there(path):
        try:
            path.touch()
        except OSError as error:
            raise StoreUnavailable(f"the database {path} cannot be created: {error.strerror}") from None


def use_wal(reading: Engine, writing: Engine) -> None:
    """Put a SQLite file into write-ahead mode for good: readers and the writer do not block each other then."""
    for attempt in range(10):
        try:
            with reading.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
        except OperationalError:
            # This statement does not wait for another process that runs it too; a transaction does.
            if attempt == 9:
                raise
            with writing.begin():
                pass


@contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLAlchemy raises in the block into a StoreError that says what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        raise store_error(error) from error


@contextmanager
def outcome_unknown() -> Iterator[None]:
    """For a commit: raise StoreUnavailable if the connection breaks, as it is unknown whether the commit was done."""
    try:
        yield
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise StoreUnavailable(
            "the connection broke while a change was being committed: check whether it was made before trying again"
        ) from error


def store_error(error: BaseException) -> StoreError:
    """Return what SQLAlchemy or the driver raised as a StoreError that says what to do."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return as_store_error(error.orig, SET_UP)
    if isinstance(error, NoneFree):
        return StoreUnavailable("all connections to the database are in use, and none became free in time")
    if isinstance(error, SQLAlchemyError):
        return StoreUnavailable(f"the database cannot be used: {type(error).__name__}")
    return as_store_error(error, SET_UP)


def _sqlite_file(url: URL) -> Path | None:
    path = url.database or ""
    return Path(path) if url.get_backend_name() == "sqlite" and not path.startswith("file:") else None


def _refuse_missing_file(url: URL) -> None:
    # SQLite would create an empty file for a mistyped name.
    path = _sqlite_file(url)
    if path is not None and not _is_there(path):
        raise SchemaError(
            f"there is no database {path.absolute()}: run {SET_UP} to create it, or set TOKENGUARD_DATABASE_URL if you "
            "have one elsewhere"
        )
    if path is not None and not os.access(path, os.R_OK):
        raise _unreadable(path)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        raise _unreadable(path) from None  # somebody else can tell whether it is there
    except OSError:
        return False
    return True


def _unreadable(path: Path) -> StoreUnavailable:
    return StoreUnavailable(f"the database {path.absolute()} cannot be read by this user")


def _begin_immediate(connection: Connection) -> None:
    # The driver itself would begin DEFERRED transactions. _set_up_sqlite turns that off, so this is the only BEGIN.
    _wait_for_lock(connection.connection, connection.get_execution_options().get("sqlite_patience", LOCK_TIMEOUT))
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _wait_for_lock(connection: Any, patience: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")


def _set_up_sqlite(patience: float, connection: Any, record: Any) -> None:
    connection.isolation_level = None  # see writing_engine
    _wait_for_lock(connection, patience)
    connection.execute("PRAGMA foreign_keys = ON")
