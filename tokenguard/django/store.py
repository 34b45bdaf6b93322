"""The store on Django's database connections: the project's own database, and its transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist

from .. import schema
from ..clock import Clock
from ..databases import CLOCKS, LOCK_TIMEOUT, check_version
from ..errors import SchemaError, StoreUnavailable
from ..events import ALL_EVENTS, Committed, Event, EventFilter, Feed, run_of_old
from ..forks import in_children
from ..records import ForeignRecord, NewUse, Place, Record, Standing
from ..replica import Replica, check_history
from ..rows import dump, first
from ..store import EventedTransaction, Transaction
from ..tokens import NO_TOKEN, Client, Read, Token
from . import models
from .connections import (
    call_first_after_commit,
    first_to_write,
    in_transaction,
    is_only_recorded,
    leave_to_parent,
    lock_timeout,
    migrate_command,
    readers_wait,
    schema_version,
    set_up_command,
    short_wait,
    table_names,
    tables,
    takes_migrations,
    translated,
    up_to_date,
    writing,
)
from .queries import (
    database_time,
    find_alive_or_rotated,
    find_client,
    find_clients,
    find_days,
    find_events,
    find_foreign,
    find_missing_indexes,
    find_page,
    find_predecessor,
    find_record,
    find_records,
    find_standing,
    find_standing_by,
    read_feed,
)
from .upgrade import make_tables
from .uses import write_uses


class DjangoStore:
    """Clients, tokens and events in one of the project's databases, SQLite or PostgreSQL.

    ``using`` is the alias of that database. Without it, the database routers choose one, as for a write, and must
    always choose the same: once they have named another, the store refuses everything. ``read_using`` is the alias of
    a replica, where tokens are looked up as long as it answers; everything else is read from the primary. A write
    inside an open ``atomic`` block is a part of that, and is rolled back with it. ``clock``, for tests, replaces the
    database's own clock, which decides when an idle token ends for good; no last use is later than that clock.
    """

    def __init__(self, using: str | None = None, *, read_using: str | None = None, clock: Clock | None = None) -> None:
        # Chosen now, when the server starts: otherwise the first request would decide for those routed elsewhere.
        self._alias = _routed() if using is None else using
        self._is_routed = using is None
        #: Another alias that the routers have named since.
        self._other: str | None = None
        #: The alias of its replica, if there is one.
        self.read_using = read_using
        self._replica = Replica()
        self._clock = clock
        self.committed = Committed()
        self.replicated = read_using is not None
        in_children(self._leave_connections)

    def _leave_connections(self) -> None:
        for alias in {self._alias, self.read_using or self._alias}.intersection(connections):
            leave_to_parent(alias)

    @property
    def in_transaction(self) -> bool:
        # Without asking the routers: this is also read when a request is over, where nothing may be raised.
        return in_transaction(_connection(self._alias))

    @property
    def using(self) -> str:
        """The alias of the database. Raises StoreUnavailable once the routers have named another."""
        if self._is_routed and (routed := _routed()) != self._alias:
            self._other = routed
        # Permanently: as long as the feed can be read, cached tokens let requests in, whatever the routers say.
        if self._other is not None:
            raise StoreUnavailable(
                f"the database routers named {self._alias!r} for the tokens, and then {self._other!r}, but a service "
                'keeps its tokens in one database: name it with TOKENGUARD["USING"], and start again'
            )
        return self._alias

    # Reading

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        connection, alias = self._connection, self.read_using
        # The token may have been issued a moment ago in the caller's own transaction, which the replica does not see.
        if alias is None or primary or in_transaction(connection):
            return find_standing(connection, read)
        return self._replica.ask(lambda: find_standing_by(_connection(alias), read), self.check_replica)

    def find(self, token_id: str) -> Record | None:
        return find_record(self._connection, token_id)

    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        return find_foreign(self._connection, token_id, client_id)

    def feed(self, since: int) -> Feed:
        with translated(self._alias), up_to_date(self._connection) as connection:
            return read_feed(connection, since)

    def use_by_day(self, token_id: str) -> dict[int, int]:
        return find_days(self._connection, token_id)

    def predecessor(self, token: Token) -> str | None:
        return find_predecessor(self._connection, token)

    def client(self, ref: str) -> Client | None:
        return find_client(self._connection, ref)

    def clients(self) -> list[Client]:
        return find_clients(self._connection)

    def records(self, client_id: str | None = None) -> list[Record]:
        return find_records(self._connection, client_id)

    def page(
        self, limit: int, now: int | None, *, client_id: str | None = None, after: Place | None = None
    ) -> list[Record]:
        return find_page(self._connection, limit, now, client_id, after)

    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        return find_events(self._connection, limit, which)

    def now(self) -> int:
        with translated(self._alias):
            return self._clock() if self._clock else database_time(self._connection)

    def check(self) -> None:
        with translated(self._alias):
            self._check(self._connection)

    def check_replica(self) -> None:
        if self.read_using is not None:
            replica = _connection(self.read_using)
            find_standing_by(replica, NO_TOKEN)
            check_history(find_events(replica, 1, ALL_EVENTS), self)

    def missing_indexes(self) -> list[str]:
        return find_missing_indexes(self._connection)

    def readers_wait(self) -> bool:
        with translated(self._alias):
            return readers_wait(self._connection)

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        connection = self._connection
        with translated(self._alias):
            if not (connection.in_atomic_block or connection.get_autocommit()):
                raise StoreUnavailable(
                    f"nothing would commit what is written to the database {connection.alias!r}: it must "
                    "be in autocommit mode, which is Django's default"
                )
        # For every lock: while this waits for a row that a transaction of somebody else holds, all other writers wait.
        with writing(connection), lock_timeout(connection, f"{LOCK_TIMEOUT}s"):
            revision, version = _lock_counter(connection)
            check_version(version, migrate_command(connection.alias))
            draft = _Transaction(connection, revision, self._clock)
            yield draft
            # After the outermost commit, which may be the project's own.
            call_first_after_commit(connection, partial(draft.announce, self.committed))

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        connection = self._connection
        with short_wait(connection), writing(connection):
            return write_uses(connection, uses, self._clock)

    def upgrade(self) -> tuple[int, int]:
        """Run ``migrate tokenguard``, and return the schema versions before and after.

        If that has nothing left to apply, and the tables are missing or older all the same, apply the steps they lack.
        Raises SchemaError for a database newer than this code or without some table, or one that the database routers
        keep migrations from.
        """
        connection = self._connection
        with translated(self._alias):
            before = schema_version(connection)
            if before <= schema.latest():
                call_command("migrate", "tokenguard", database=connection.alias, interactive=False, verbosity=0)
                if is_only_recorded(connection) and takes_migrations(connection):
                    make_tables(connection)
            after, there = self._check(connection), tables(connection)
            # With django-tenants none may be there, as queries also find those of the shared schema.
            if there and (missing := sorted(table_names() - there)):
                raise SchemaError(f"the table {missing[0]} is missing: restore the database from a backup")
            return before, after

    def _check(self, connection: BaseDatabaseWrapper) -> int:
        version = schema_version(connection)
        older = version < schema.latest()
        check_version(version, set_up_command(connection) if older else migrate_command(connection.alias))
        return version

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        return _connection(self.using)


class _Transaction(EventedTransaction):
    """Writes while the counter is locked, each write with its event."""

    def __init__(self, connection: BaseDatabaseWrapper, revision: int, clock: Clock | None) -> None:
        super().__init__(revision)
        self._connection = connection
        self._alias = connection.alias
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
        # In the order in which uses are written, so that the two cannot deadlock.
        self._all(models.Use).filter(pk__in=token_ids).delete()
        self._all(models.UseDay).filter(token_id__in=token_ids).delete()
        # Rows of the project that refer to them may be deleted too, and are counted apart.
        _, counts = self._all(models.Token).filter(pk__in=token_ids).delete()
        count: int = counts.get(models.Token._meta.label, 0)
        return count

    def delete_events(self, before: int, limit: int) -> int:
        events = self._all(models.Event)
        oldest = events.filter(number__lt=self._revision).order_by("number").values_list("number", "at")[:limit]
        count, last = run_of_old(oldest, before)
        events.filter(number__lte=last).delete()
        return count

    def delete_days(self, before: int, limit: int) -> int:
        days = self._all(models.UseDay).filter(day__lt=before).order_by("day")
        # Days that a process is just counting are left for the next time, so that the two cannot deadlock.
        old = list(days.select_for_update(skip_locked=True).values_list("token_id", "day")[:limit])
        # Not through the ORM, which would ask for a statement's answer token by token, while every writer waits.
        with self._connection.cursor() as cursor:
            cursor.executemany("DELETE FROM tokenguard_use_day WHERE token_id = %s AND day = %s", old)
        return len(old)

    def _all(self, model: Any) -> Any:
        return model._base_manager.using(self._alias)

    def _put(self, item: Client | Token) -> None:
        model: Any = models.Client if isinstance(item, Client) else models.Token
        values = dump(item)
        if not self._all(model).filter(pk=item.id).update(**values):
            self._all(model).bulk_create([model(**values)])

    def _append(self, event: Event) -> None:
        self._all(models.Event).bulk_create([models.Event(**dump(event))])
        self._all(models.Revision).update(revision=event.number)


def _routed() -> str:
    """Return the alias of the database in which the routers keep tokens now."""
    return router.db_for_write(models.Token) if router.routers else DEFAULT_DB_ALIAS


def _connection(alias: str) -> BaseDatabaseWrapper:
    try:
        connection = connections[alias]
    except (ConnectionDoesNotExist, ImproperlyConfigured) as error:
        raise StoreUnavailable(f"the database {alias!r} cannot be used: {error}") from None
    if connection.vendor not in CLOCKS:
        raise SchemaError(f"tokenguard supports SQLite and PostgreSQL, not {connection.display_name}")
    return connection


def _lock_counter(connection: BaseDatabaseWrapper) -> tuple[int, int]:
    """Take the lock that every writer takes first; return the counter and the schema's version."""
    counter = models.Revision._base_manager.using(connection.alias).filter(pk=1)
    first_to_write(connection)
    revision, version = first([*counter.select_for_update().values_list("revision", "schema_version")])
    return revision, version
