"""The SQLite file behind the directory: its tables, and how it is opened and filled."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

import sqlalchemy as sa

from . import seed

_metadata = sa.MetaData()
# All times are epoch milliseconds, which is what Okta's dates show.
users = sa.Table(
    "users",
    _metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("login_key", sa.String(100), nullable=False, unique=True),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("profile", sa.JSON, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("activated", sa.BigInteger),
    sa.Column("status_changed", sa.BigInteger),
    sa.Column("last_updated", sa.BigInteger, nullable=False),
)
groups = sa.Table(
    "groups",
    _metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("description", sa.String(1024), nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("last_updated", sa.BigInteger, nullable=False),
    sa.Column("last_membership_updated", sa.BigInteger, nullable=False),
)


def open_database(url: str) -> sa.Engine:
    """Open the database at ``url``, created and filled if it is new; raises ValueError if that is not SQLite."""
    if sa.make_url(url).get_backend_name() != "sqlite":
        raise ValueError("SAMPLE_DATABASE_URL must be an SQLite URL, such as sqlite:///sample_directory.db")
    # No isolation level: Python's sqlite3 must not begin transactions itself, as _begin does that.
    engine = sa.create_engine(url, connect_args={"isolation_level": None, "timeout": 30})
    sa.event.listen(engine, "connect", _use_wal)
    sa.event.listen(engine, "begin", _begin)
    try:
        _fill(writing(engine))
    finally:
        # A connection must not be carried over a fork, which gunicorn --preload does after this.
        engine.dispose()
    return engine


def writing(engine: sa.Engine) -> sa.Engine:
    """Return the same engine for transactions that write.

    They take the lock at once. A transaction that reads first would fail on its first write, without waiting, if
    another process had written in between.
    """
    return engine.execution_options(sample_begin="IMMEDIATE")


def _use_wal(connection: sqlite3.Connection, _record: object) -> None:
    # When two processes change the mode of a new file at once, one of them fails instead of waiting. Nothing is
    # lost: the mode that the other sets stays with the file.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN " + connection.get_execution_options().get("sample_begin", "DEFERRED"))


def _fill(engine: sa.Engine) -> None:
    """Create and fill the tables in one transaction: a second process waits, a killed start leaves nothing."""
    with engine.begin() as connection:
        _metadata.create_all(connection)
        # Judged by the groups: callers can delete all users, who must then not come back, but no groups.
        if connection.scalar(sa.select(sa.func.count()).select_from(groups)) == 0:
            connection.execute(sa.insert(users), list(seed.people()))
            connection.execute(sa.insert(groups), list(seed.groups()))
