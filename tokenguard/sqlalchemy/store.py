"""The store itself: each read one statement, each write one transaction."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, text, update
from sqlalchemy.engine import URL

from ..errors import SchemaError
from ..store import FEED_LIMIT, Change, Event, Feed, Record, Transaction, number_event
from ..tokens import Client, Token
from .engine import LOCK_TIMEOUT, checked_url, create_file, make_engines, translated, use_wal
from .tables import (
    client_table,
    dump_row,
    event_table,
    load_client,
    load_event,
    load_token,
    revision_table,
    token_table,
)
from .upgrade import check_version, schema_version, upgrade

_TOKEN_END = 1 + len(token_table.c)
# From the counter outwards: a row comes back for an unknown token too, and none means damage, not a no.
_FIND = (
    select(revision_table.c.revision, *token_table.c, *client_table.c)
    .select_from(revision_table)
    .outerjoin(token_table, token_table.c.id == bindparam("token_id"))
    .outerjoin(client_table, client_table.c.id == token_table.c.client_id)
    .where(revision_table.c.id == 1)
)


class SQLAlchemyStore:
    """Clients, tokens and events in SQLite or PostgreSQL, on connections of its own.

    Raises ConfigurationError for a URL that names neither. Any number of threads and processes may share the
    database; after a fork, the child opens connections of its own.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = checked_url(url)
        self._reading, self._writing = make_engines(self.url)
        # A store that nobody holds any more holds no connections either; Python 3.13 complains of open ones.
        weakref.finalize(self, self._reading.dispose)

    # Reading: each is one statement in autocommit, so it sees one state and holds nothing.

    def find(self, token_id: str) -> Record | None:
        with self._connection() as connection:
            row = _first(connection.execute(_FIND, {"token_id": _askable(token_id)}).all())
        if row[1] is None:
            return None
        return Record(load_token(row[1:_TOKEN_END]), load_client(row[_TOKEN_END:]), row[0])

    def feed(self, since: int) -> Feed:
        query = (
            select(revision_table.c.revision, *event_table.c)
            .select_from(revision_table)
            .outerjoin(event_table, event_table.c.number >= since)
            .where(revision_table.c.id == 1)
            .order_by(event_table.c.number)
            .limit(FEED_LIMIT)
        )
        with self._connection() as connection:
            rows = connection.execute(query).all()
        return Feed(_first(rows)[0], tuple(load_event(row[1:]) for row in rows if row[1] is not None))

    def client(self, ref: str) -> Client | None:
        with self._connection() as connection:
            return _find_client(connection, ref)

    def clients(self) -> list[Client]:
        query = select(client_table).order_by(client_table.c.name)
        with self._connection() as connection:
            return [load_client(row) for row in connection.execute(query)]

    def tokens(self, client_id: str | None = None) -> list[Token]:
        query = select(token_table).order_by(token_table.c.created_at, token_table.c.id)
        if client_id is not None:
            query = query.where(token_table.c.client_id == client_id)
        with self._connection() as connection:
            return [load_token(row) for row in connection.execute(query)]

    def events(self, limit: int) -> list[Event]:
        query = select(event_table).order_by(event_table.c.number.desc()).limit(limit)
        with self._connection() as connection:
            return [load_event(row) for row in connection.execute(query)][::-1]

    def check(self) -> None:
        with self._connection() as connection:
            check_version(schema_version(connection))

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with translated(), self._writing.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
                connection.execute(text(f"SET LOCAL statement_timeout = '{LOCK_TIMEOUT * 2}s'"))
            # Every writer locks this row first, and on SQLite has begun IMMEDIATE: they queue, and never deadlock.
            counter = select(revision_table.c.revision, revision_table.c.schema_version).with_for_update()
            revision, version = _first(connection.execute(counter).all())
            check_version(version)
            yield _Transaction(connection, revision)

    def upgrade(self) -> tuple[int, int]:
        """Create the tables, or bring older ones up to date; returns the schema versions before and after.

        One transaction under a lock: it is done whole or not at all, and two at once do it once. Raises
        SchemaError for a database newer than this code.
        """
        create_file(self.url)
        with translated():
            if self.url.get_backend_name() == "sqlite":
                use_wal(self._reading, self._writing)
            with self._writing.begin() as connection:
                return upgrade(connection)

    def close(self) -> None:
        """Close the pool's connections; the next use opens new ones."""
        self._reading.dispose()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with translated(), self._reading.connect() as connection:
            yield connection


class _Transaction:
    """Writes while the counter is locked, each write with its event."""

    def __init__(self, connection: Connection, revision: int) -> None:
        self._connection = connection
        self._revision = revision

    def client(self, ref: str) -> Client | None:
        return _find_client(self._connection, ref)

    def token(self, token_id: str) -> Token | None:
        query = select(token_table).where(token_table.c.id == _askable(token_id))
        row = self._connection.execute(query).one_or_none()
        return load_token(row) if row else None

    def put_client(self, client: Client, change: Change) -> Event:
        self._put(client_table, client)
        return self._record(change, client.id, None)

    def put_token(self, token: Token, change: Change) -> Event:
        self._put(token_table, token)
        return self._record(change, token.client_id, token.id)

    def _put(self, table: Table, item: Client | Token) -> None:
        values = dump_row(table, item)
        if self._connection.execute(update(table).where(table.c.id == item.id).values(values)).rowcount == 0:
            self._connection.execute(insert(table).values(values))

    def _record(self, change: Change, client_id: str, token_id: str | None) -> Event:
        self._revision += 1
        event = number_event(change, self._revision, client_id, token_id)
        self._connection.execute(insert(event_table).values(dump_row(event_table, event)))
        self._connection.execute(update(revision_table).values(revision=self._revision))
        return event


def _find_client(connection: Connection, ref: str) -> Client | None:
    if not ref.isprintable():
        return None  # no id or name; and not every database could even be asked for it
    for column in (client_table.c.id, client_table.c.name):
        row = connection.execute(select(client_table).where(column == ref)).one_or_none()
        if row:
            return load_client(row)
    return None


def _askable(token_id: str) -> str:
    """``token_id`` itself, or a text that is no token's id: not every database could be asked for any text."""
    return token_id if token_id.isalnum() and token_id.isascii() else ""


def _first(rows: Sequence[Any]) -> Any:
    if not rows:
        raise SchemaError("the row of tokenguard_revision is missing: restore the database from a backup")
    return rows[0]
