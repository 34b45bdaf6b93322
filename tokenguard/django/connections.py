"""What the store needs of a database connection beyond the ORM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, Error, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from .. import schema
from ..databases import READ_ONLY, complaint
from ..rows import first
from .models import Revision

_LABEL = Revision._meta.app_label
#: What a forked child has of its parent's connections.
_INHERITED: list[object] = []


def set_up(alias: str) -> str:
    """The command that makes the tables in this database."""
    return '"manage.py migrate tokenguard{}"'.format("" if alias == DEFAULT_DB_ALIAS else f" --database {alias}")


def to_set_up(connection: BaseDatabaseWrapper) -> str:
    """The one that does it as things stand there."""
    command = '"manage.py tokenguard init"' if is_recorded_alone(connection) else set_up(connection.alias)
    if takes_migrations(connection):
        return command
    return f"{command}, once the database routers let the migrations of tokenguard go there"


def takes_migrations(connection: BaseDatabaseWrapper) -> bool:
    """Whether the database routers let our migrations go there."""
    return router.allow_migrate(connection.alias, _LABEL)


def is_recorded_alone(connection: BaseDatabaseWrapper) -> bool:
    """Whether there are no tables, and "migrate" has nothing left to apply.

    A router has kept them from there until now, or somebody has dropped them.
    """
    return len(applied(connection)) >= schema.latest() and not tables(connection)


def applied(connection: BaseDatabaseWrapper) -> list[str]:
    """The migrations that Django has recorded here."""
    return [name for app, name in MigrationRecorder(connection).applied_migrations() if app == _LABEL]


def tables(connection: BaseDatabaseWrapper) -> set[str]:
    """Those of ours that are there."""
    with connection.cursor() as cursor:
        there = connection.introspection.table_names(cursor)
    return {model._meta.db_table for model in apps.get_app_config(_LABEL).get_models()}.intersection(there)


@contextmanager
def translated(alias: str) -> Iterator[None]:
    """Turns what this database raises in the block into a StoreError that says what to do."""
    try:
        yield
    except Error as error:
        raise complaint(error.__cause__ or error, set_up(alias)) from error


@contextmanager
def writing(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction that writes, or a part of the caller's. Raises StoreError."""
    with translated(connection.alias):
        try:
            with transaction.atomic(using=connection.alias):
                yield
        except Error as error:
            # It would be told so for good: a new one, as soon as Django makes one, may be one that can.
            if getattr(error.__cause__, "sqlstate", None) == READ_ONLY:
                connection.close_at = 0.0
            raise


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether what is read now is read in a transaction that is not over with it. Connects to nothing."""
    # What is not connected yet will begin as the settings say.
    autocommit = connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit
    return connection.in_atomic_block or not autocommit


@contextmanager
def up_to_date(connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """One to the same database that sees all that is committed; inside a transaction it is the same connection.

    In SQLite's write-ahead mode a cursor that was not read to its end keeps its whole connection at what was there when
    it began, also outside of transactions. So a file is read on a connection that is opened for that, and closed after
    it: none is left to another thread, or to a forked child.
    """
    if not _is_file(connection) or in_transaction(connection):
        yield connection
        return
    with closing(connection.copy()) as own:
        # Whoever watches or counts the project's queries hears of this one, too.
        own.execute_wrappers, own.queries_log = connection.execute_wrappers, connection.queries_log
        own.force_debug_cursor = connection.force_debug_cursor
        yield own


def _is_file(connection: BaseDatabaseWrapper) -> bool:
    # In memory, as in tests, another connection would find another database, or tables that this one has locked.
    return connection.vendor == "sqlite" and not connection.is_in_memory_db()  # type: ignore[attr-defined]


def leave_to_parent(alias: str) -> None:
    """Have a forked child connect to this database for itself: answers on its parent's connection are not for it.

    A database in memory stays, as there is no other way to it.
    """
    connection = connections[alias]
    if connection.vendor == "postgresql" or _is_file(connection):
        # They are still open, also those of a pool: as long as somebody holds them, nobody closes them.
        pools = getattr(connection, "_connection_pools", {})
        _INHERITED.append((connection.connection, pools.pop(alias, None)))
        connection.connection = None
        # The block that the parent is in is not the child's, nor is what waits for its end: one that is begun within it
        # would pass for a part of it, and nothing would undo what is written there.
        connection.in_atomic_block, connection.run_on_commit = False, []


def schema_version(connection: BaseDatabaseWrapper) -> int:
    """The version of the schema in the database; 0 where there are no tables yet, or all of them are empty.

    Raises SchemaError for one that is no number.
    """
    if Revision._meta.db_table not in tables(connection):
        return 0
    rows = [*Revision.objects.using(connection.alias).values_list("schema_version")]
    # Where a flush has taken the row, "migrate" puts it back.
    version: int = first(rows)[0] if rows else 0
    return version


@contextmanager
def lock_timeout(connection: BaseDatabaseWrapper, timeout: str) -> Iterator[None]:
    """Wait no longer for another's locks in this block, in PostgreSQL's notation. Only inside a transaction.

    The caller's own timeout holds again after it; on SQLite the project's ``timeout`` is the one.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [timeout])
        (before, _) = cursor.fetchone()
        yield
        # Not if the block fails: then it is rolled back, and the setting with it.
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


class _Ours(partial[object]):
    """What :func:`call_first_after_commit` was given."""


def call_first_after_commit(connection: BaseDatabaseWrapper, callback: Callable[[], object]) -> None:
    """Call it after the outermost commit, ahead of what the project has waiting for that. Only inside a transaction.

    One of the project's that fails keeps all behind it from being called, and what is committed must be told.
    """
    transaction.on_commit(_Ours(callback), using=connection.alias)
    # In a TestCase's own transaction nothing is committed, and what waits is found by its place.
    if not getattr(connection.atomic_blocks[0], "_from_testcase", False):
        # Each with the savepoints that it goes with, and in the order in which they came.
        connection.run_on_commit.sort(key=lambda waiting: not isinstance(waiting[1], _Ours))


def first_to_write(connection: BaseDatabaseWrapper) -> None:
    """Make the transaction on SQLite one that writes, from its first statement on.

    Django begins it DEFERRED unless told otherwise; if it read first, and another wrote in between, it could not go on.
    """
    if connection.vendor == "sqlite":
        Revision._base_manager.using(connection.alias).filter(pk=0).update(revision=0)
