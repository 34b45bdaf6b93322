"""The store itself: each read is one statement, and each write one transaction."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, text, update
from sqlalchemy.engine import URL

from ..clock import Clock
from ..databases import (
    INDEX_NAMES,
    LOCK_TIMEOUT,
    READ_TIMEOUT,
    STATEMENT_TIMEOUT,
    USE_LOCK_TIMEOUT,
    USE_LOCK_TIMEOUT_SQLITE,
    askable,
    check_version,
)
from ..events import ALL_EVENTS, Committed, Event, EventFilter, Feed, run_of_old
from ..forks import in_children
from ..records import ForeignRecord, NewUse, Place, Record, Standing
from ..replica import Replica, check_history, replicated
from ..rows import dump, first, load, load_foreign, load_record, load_standing
from ..schema import INDEXES
from ..store import EventedTransaction, Transaction
from ..tokens import NO_TOKEN, Client, Read, Token
from .engine import (
    SET_UP,
    checked_database_url,
    create_file,
    outcome_unknown,
    reading_engine,
    replica_url,
    set_limits,
    translated,
    use_wal,
    writing_engine,
)
from .fast_queries import FastQuery, Reserve
from .queries import (
    FEED,
    FIND,
    FIND_FOREIGN,
    STAND,
    STAND_BY,
    database_time,
    find_alive_or_rotated,
    find_client,
    find_events,
    find_page,
    find_record,
    find_records,
)
from .tables import (
    client_table,
    event_table,
    revision_table,
    token_table,
    use_day_table,
    use_table,
)
from .upgrade import load_migrations, schema_version, upgrade
from .uses import write_uses


class SQLAlchemyStore:
    """Clients, tokens and events in SQLite or PostgreSQL, on connections of its own.

    Raises ConfigurationError for a URL that names neither. ``read_url`` names a read replica of a PostgreSQL
    database, for finding tokens; while it cannot be asked, the primary is. Any number of threads and processes may
    share the database; after a fork, the child opens connections of its own. ``clock``, for tests, replaces the
    database's own clock, which decides when an idle token ends for good; no last use is later than that clock.
    """

    def __init__(self, url: str | URL, *, read_url: str | URL | None = None, clock: Clock | None = None) -> None:
        self.url = checked_database_url(url)
        self._clock = clock
        self.committed = Committed()
        #: False, as the store reads on connections of its own.
        self.in_transaction = False
        self._reading, self._writing = reading_engine(self.url), writing_engine(self.url)
        self._engines = [self._reading, self._writing]
        reserve = Reserve(self._reading)
        self._reserves = [reserve]
        self._find, self._standing = FastQuery(reserve, FIND), FastQuery(reserve, STAND)
        self._find_foreign, self._feed = FastQuery(reserve, FIND_FOREIGN), FastQuery(reserve, FEED)
        self.replicated = read_url is not None
        self._replica = Replica()
        #: The query that the replica is asked, if there is one.
        self._stand_by: FastQuery | None = None
        if read_url is not None:
            replica = reading_engine(replica_url(read_url, self.url))
            self._engines.append(replica)
            self._reserves.append(Reserve(replica))
            self._stand_by = FastQuery(self._reserves[-1], STAND_BY)
        in_children(self._forget_connections)
        # A store that is no longer referenced leaves no connections open: Python 3.13 warns of those.
        weakref.finalize(self, _dispose, self._engines, self._reserves)

    # Reading: each read is one statement, so it sees one state.

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        if self._stand_by is not None and not primary:
            stand_by = self._stand_by
            rows = self._replica.ask(lambda: replicated(stand_by.rows(*read)), self.check_replica)
            return load_standing(rows) if rows else None
        return load_standing(self._standing.rows(*read))

    def find(self, token_id: str) -> Record | None:
        row = first(self._find.rows(token_id if askable(token_id) else ""))
        return None if row[1] is None else load_record(row)

    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        wanted, owner = token_id if askable(token_id) else "", client_id if askable(client_id) else ""
        return load_foreign(first(self._find_foreign.rows(wanted, owner)))

    def feed(self, since: int) -> Feed:
        rows = self._feed.rows(since)
        return Feed(first(rows)[0], tuple(load(Event, row[1:]) for row in rows if row[1] is not None))

    def use_by_day(self, token_id: str) -> dict[int, int]:
        days = use_day_table.c
        query = select(days.day, days.requests).where(days.token_id == token_id).order_by(days.day)
        with self._connection() as connection:
            return {day: count for day, count in connection.execute(query)}  # noqa: C416

    def predecessor(self, token: Token) -> str | None:
        others = token_table.c
        query = select(others.id).where(others.client_id == token.client_id, others.successor_id == token.id).limit(1)
        with self._connection() as connection:
            return connection.scalar(query)

    def client(self, ref: str) -> Client | None:
        with self._connection() as connection:
            return find_client(connection, ref)

    def clients(self) -> list[Client]:
        query = select(client_table).order_by(client_table.c.name)
        with self._connection() as connection:
            return [load(Client, row) for row in connection.execute(query)]

    def records(self, client_id: str | None = None) -> list[Record]:
        with self._connection() as connection:
            return find_records(connection, client_id)

    def page(
        self, limit: int, now: int | None, *, client_id: str | None = None, after: Place | None = None
    ) -> list[Record]:
        with self._connection() as connection:
            return find_page(connection, limit, now, client_id, after)

    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        with self._connection() as connection:
            return find_events(connection, limit, which)

    def now(self) -> int:
        with self._connection() as connection:
            return self._clock() if self._clock else database_time(connection)

    def check(self) -> None:
        with self._connection() as connection:
            check_version(schema_version(connection), SET_UP)

    def check_replica(self) -> None:
        if self._stand_by is not None:
            load_standing(replicated(self._stand_by.rows(*NO_TOKEN)))
            with translated(), self._reserves[-1].engine.connect() as connection:
                newest = find_events(connection, 1, ALL_EVENTS)
            check_history(newest, self)

    def missing_indexes(self) -> list[str]:
        with self._connection() as connection:
            return sorted(INDEXES.keys() - connection.scalars(text(INDEX_NAMES[connection.dialect.name])))

    def readers_wait(self) -> bool:
        with self._connection() as connection:
            return self.url.get_backend_name() == "sqlite" and connection.scalar(text("PRAGMA journal_mode")) != "wal"

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._begin(STATEMENT_TIMEOUT) as connection:
            # Every writer locks this row first, and on SQLite has begun IMMEDIATE: writers queue, and never deadlock.
            counter = select(revision_table.c.revision, revision_table.c.schema_version).with_for_update()
            revision, version = first(connection.execute(counter).all())
            check_version(version, SET_UP)
            transaction = _Transaction(connection, revision, self._clock)
            yield transaction
        transaction.announce(self.committed)

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        # The caller that waits for this has other work, so it must be as quick as a read, or is tried again.
        with self._begin(READ_TIMEOUT, USE_LOCK_TIMEOUT, USE_LOCK_TIMEOUT_SQLITE) as connection:
            return write_uses(connection, uses, self._clock)

    def upgrade(self) -> tuple[int, int]:
        """Create the tables, or bring older ones up to date; returns the schema versions before and after.

        One transaction under a lock: it is done completely or not at all, and only once if two run at the same time.
        Raises SchemaError for a database newer than this code.
        """
        migrate = load_migrations()
        create_file(self.url)
        with translated():
            if self.url.get_backend_name() == "sqlite":
                use_wal(self._reading, self._writing)
        # Without a time limit: a large table may take long.
        with self._begin(0) as connection:
            return upgrade(connection, migrate)

    def close(self) -> None:
        """Close the pools' connections; the next use opens new ones."""
        _dispose(self._engines, self._reserves)

    def _forget_connections(self) -> None:
        # No connection may be used from two processes; a worker forked after the first query starts without any.
        for reserve in self._reserves:
            reserve.forget()
        for engine in self._engines:
            engine.dispose(close=False)

    @contextmanager
    def _begin(
        self, statements: float, locks: str = f"{LOCK_TIMEOUT}s", sqlite_patience: float = LOCK_TIMEOUT
    ) -> Iterator[Connection]:
        """A transaction in which each statement may take so many seconds (0: no limit), and wait so long for a lock."""
        with (
            translated(),
            self._writing.connect().execution_options(sqlite_patience=sqlite_patience) as connection,
            connection.begin() as transaction,
        ):
            set_limits(connection, statements, locks)
            yield connection
            with outcome_unknown():
                transaction.commit()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection for reads that no request waits for. On SQLite, a transaction would wait for other writers."""
        if self.url.get_backend_name() == "sqlite":
            with translated(), self._reading.connect() as connection:
                yield connection
        else:
            with self._begin(STATEMENT_TIMEOUT) as connection:
                yield connection


class _Transaction(EventedTransaction):
    """The writes while the counter is locked, each with its event."""

    def __init__(self, connection: Connection, revision: int, clock: Clock | None) -> None:
        super().__init__(revision)
        self._connection = connection
        self._clock = clock

    def now(self) -> int:
        return self._clock() if self._clock else database_time(self._connection)

    def client(self, ref: str) -> Client | None:
        return find_client(self._connection, ref)

    def record(self, token_id: str) -> Record | None:
        return find_record(self._connection, token_id)

    def alive_or_rotated(self, client_id: str, now: int) -> list[Record]:
        return find_alive_or_rotated(self._connection, client_id, now)

    def delete_tokens(self, token_ids: Collection[str]) -> int:
        # In the order in which uses are written, so that the two do not deadlock.
        for table in (use_table, use_day_table):
            self._connection.execute(delete(table).where(table.c.token_id.in_(token_ids)))
        return self._connection.execute(delete(token_table).where(token_table.c.id.in_(token_ids))).rowcount

    def delete_events(self, before: int, limit: int) -> int:
        number = event_table.c.number
        query = select(number, event_table.c.at).where(number < self._revision).order_by(number).limit(limit)
        count, last = run_of_old(self._connection.execute(query).all(), before)
        self._connection.execute(delete(event_table).where(number <= last))
        return count

    def delete_days(self, before: int, limit: int) -> int:
        days = use_day_table.c
        query = select(days.token_id, days.day).where(days.day < before).order_by(days.day).limit(limit)
        # Rows to which a process is just adding are left for the next time, so that the two do not deadlock.
        old = self._connection.execute(query.with_for_update(skip_locked=True)).all()
        # One by one: to find those of a list, SQLite would read the whole table, and PostgreSQL all days of the tokens.
        one = delete(use_day_table).where(days.token_id == bindparam("old_id"), days.day == bindparam("old_day"))
        if old:
            self._connection.execute(one, [{"old_id": token_id, "old_day": day} for token_id, day in old])
        return len(old)

    def _put(self, item: Client | Token) -> None:
        table = client_table if isinstance(item, Client) else token_table
        values = dump(item)
        if self._connection.execute(update(table).where(table.c.id == item.id).values(values)).rowcount == 0:
            self._connection.execute(insert(table).values(values))

    def _append(self, event: Event) -> None:
        self._connection.execute(insert(event_table).values(dump(event)))
        self._connection.execute(update(revision_table).values(revision=event.number))


def _dispose(engines: list[Engine], reserves: list[Reserve]) -> None:
    for reserve in reserves:
        reserve.empty()
    for engine in engines:
        engine.dispose()
