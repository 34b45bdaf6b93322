"""What the store needs of a database connection beyond the ORM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, Error, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from .. import schema
from ..databases import READ_ONLY, USE_LOCK_TIMEOUT_SQLITE, as_store_error
from ..errors import StoreError
from ..rows import first
from .models import Revision

_LABEL = Revision._meta.app_label
#: The parent's connections, which a forked child holds on to so that they stay open.
_INHERITED: list[object] = []


def migrate_command(alias: str) -> str:
    """Return the command that creates the tables in this database."""
    return '"manage.py migrate tokenguard{}"'.format("" if alias == DEFAULT_DB_ALIAS else f" --database {alias}")


def set_up_command(connection: BaseDatabaseWrapper) -> str:
    """Return the command that creates the tables in the present state of the database."""
    command = '"manage.py tokenguard init"' if is_only_recorded(connection) else migrate_command(connection.alias)
    if takes_migrations(connection):
        return command
    return f"{command}, once the database routers let the migrations of tokenguard go there"


def takes_migrations(connection: BaseDatabaseWrapper) -> bool:
    """Whether the database routers let our migrations run on this database."""
    return router.allow_migrate(connection.alias, _LABEL)


def is_only_recorded(connection: BaseDatabaseWrapper) -> bool:
    """Whether there are no tables, or those of an older version, although "migrate" has nothing left to apply.

    A router has kept the tables out until now, somebody has dropped them, or a migration was recorded with "--fake".
    """
    if len(applied(connection)) < schema.latest():
        return False
    # With tables, version 0 means that a flush has deleted the row: "migrate" restores it.
    return not tables(connection) or 0 < schema_version(connection) < schema.latest()


def applied(connection: BaseDatabaseWrapper) -> list[str]:
    """Return our migrations that Django has recorded in this database."""
    return [name for app, name in MigrationRecorder(connection).applied_migrations() if app == _LABEL]


def tables(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the names of our tables that exist in this database."""
    with connection.cursor() as cursor:
        there = connection.introspection.table_names(cursor)
    return table_names().intersection(there)


def table_names() -> set[str]:
    """Return the names of all our tables."""
    return {model._meta.db_table for model in apps.get_app_config(_LABEL).get_models()}


@contextmanager
def translated(alias: str) -> Iterator[None]:
    """Turn an error of this database in the block into a StoreError that says what to do."""
    try:
        yield
    except Error as error:
        raise store_error(error, alias) from error


def store_error(error: Exception, alias: str) -> StoreError:
    """Return what Django or the driver raised about this database as a StoreError that says what to do."""
    return as_store_error(error.__cause__ or error, migrate_command(alias))


@contextmanager
def writing(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Run the block in a transaction that writes, or as a part of the caller's. Raises StoreError."""
    with translated(connection.alias):
        try:
            with transaction.atomic(using=connection.alias):
                yield
        except Error as error:
            # This connection stays read-only. A new one, as soon as Django makes it, may be able to write.
            if getattr(error.__cause__, "sqlstate", None) == READ_ONLY:
                connection.close_at = 0.0
            raise


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a read would now be part of a transaction that outlasts it. Connects to nothing."""
    # A connection that is not open yet will begin as the settings say.
    autocommit = connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit
    return connection.in_atomic_block or not autocommit


@contextmanager
def up_to_date(connection: BaseDatabaseWrapper) -> Iterator[BaseDatabaseWrapper]:
    """Yield a connection to the same database that sees all that is committed; inside a transaction, the same one.

    In SQLite's write-ahead mode, a cursor that was not read to its end keeps its whole connection at the snapshot with
    which it began, even outside of transactions. So a file is read on a connection that is opened for that and closed
    afterwards: none is left to another thread, or to a forked child.
    """
    if not _is_file(connection) or in_transaction(connection):
        yield connection
        return
    with closing(connection.copy()) as own:
        # What watches or counts the project's queries must see this one, too.
        own.execute_wrappers, own.queries_log = connection.execute_wrappers, connection.queries_log
        own.force_debug_cursor = connection.force_debug_cursor
        yield own


def _is_file(connection: BaseDatabaseWrapper) -> bool:
    # For a database in memory, as in tests, another connection would find another database, or locked tables.
    return connection.vendor == "sqlite" and not connection.is_in_memory_db()  # type: ignore[attr-defined]


def readers_wait(connection: BaseDatabaseWrapper) -> bool:
    """Whether readers of this database wait for its writers."""
    if not _is_file(connection):
        return False
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        return bool(cursor.fetchone() != ("wal",))


def leave_to_parent(alias: str) -> None:
    """Make a forked child open a connection of its own: answers on its parent's connection are not for it.

    The connection to a database in memory stays, as there is no other way to reach it.
    """
    connection = connections[alias]
    if connection.vendor == "postgresql" or _is_file(connection):
        # The parent's connections, including those of a pool, are open. While they are referenced, nothing closes them.
        pools = getattr(connection, "_connection_pools", {})
        _INHERITED.append((connection.connection, pools.pop(alias, None)))
        connection.connection = None
        # The parent's atomic block is not the child's, nor are the callbacks that wait for its commit. A block begun
        # inside it would count as a part of it, and nothing would roll back what is written there.
        connection.in_atomic_block, connection.run_on_commit = False, []


def schema_version(connection: BaseDatabaseWrapper) -> int:
    """Return the version of the schema in the database; 0 if there are no tables yet, or all of them are empty.

    Raises SchemaError if the version is not a number.
    """
    if not _is_found(connection):
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT schema_version FROM tokenguard_revision")
        rows = cursor.fetchall()
    # A flush deletes the row, and "migrate" restores it.
    version: int = first(rows)[0] if rows else 0
    return version


def _is_found(connection: BaseDatabaseWrapper) -> bool:
    """Whether queries find the counter's table."""
    if connection.vendor != "postgresql":
        return Revision._meta.db_table in tables(connection)
    # django-tenants introspects a tenant's schema alone, but queries also find what is in the shared one.
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [Revision._meta.db_table])
        (found,) = cursor.fetchone()
    return bool(found)


@contextmanager
def lock_timeout(connection: BaseDatabaseWrapper, timeout: str) -> Iterator[None]:
    """In the block, wait for locks no longer than ``timeout``, in PostgreSQL's notation. Only inside a transaction.

    After the block, the caller's own timeout applies again. On SQLite, the project's option ``timeout`` applies.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [timeout])
        (before, _) = cursor.fetchone()
        yield
        # Not if the block fails: then the transaction is rolled back, and the setting with it.
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


@contextmanager
def short_wait(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """On SQLite, wait in the block for the lock no longer than a use may, and then again as the project's options say.

    Asked of the driver itself: these are no queries of the project's.
    """
    if connection.vendor != "sqlite":
        yield
        return
    with translated(connection.alias):
        connection.ensure_connection()
    driver: Any = connection.connection
    (before,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute(f"PRAGMA busy_timeout = {min(before, USE_LOCK_TIMEOUT_SQLITE * 1000)}")
    try:
        yield
    finally:
        with suppress(driver.ProgrammingError):  # it was closed, as Django does if a rollback fails
            driver.execute(f"PRAGMA busy_timeout = {before}")


class _Ours(partial[object]):
    """A callback that was given to :func:`call_first_after_commit`."""


def call_first_after_commit(connection: BaseDatabaseWrapper, callback: Callable[[], object]) -> None:
    """Call ``callback`` after the outermost commit, ahead of the project's callbacks. Only inside a transaction.

    If a callback of the project fails, those behind it are not called, but what is committed must be announced.
    """
    transaction.on_commit(_Ours(callback), using=connection.alias)
    # A TestCase's own transaction is never committed, and captureOnCommitCallbacks finds callbacks by their position.
    if not getattr(connection.atomic_blocks[0], "_from_testcase", False):
        # Each callback keeps the savepoints that it belongs to, and the sort is stable.
        connection.run_on_commit.sort(key=lambda waiting: not isinstance(waiting[1], _Ours))


def first_to_write(connection: BaseDatabaseWrapper) -> None:
    """On SQLite, make the transaction one that writes, from its first statement on.

    Django begins it DEFERRED unless told otherwise. If it then read first, and another transaction wrote before it did,
    it could not go on.
    """
    if connection.vendor == "sqlite":
        Revision._base_manager.using(connection.alias).filter(pk=0).update(revision=0)
