"""Apply the schema's steps as migrations, and restore the counter's row after a flush has emptied the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management import CommandError
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython
from django.db.migrations.recorder import MigrationRecorder

from .. import schema
from ..databases import ADVISORY_LOCK, CLOCKS
from . import models
from .connections import applied, schema_version, tables


def step(number: int) -> RunPython:
    """Return the migration operation that takes the tables to version ``number``, if their version is lower.

    They may have that version already: the command line and Flask services create the same tables.
    """
    return RunPython(_apply(number), _refuse_to_go_back)


def _apply(number: int) -> Callable[[Any, BaseDatabaseSchemaEditor], None]:
    def apply(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
        connection = schema_editor.connection
        # "sqlmigrate" asks for the statements, whatever the version of the tables, and changes nothing.
        told = schema_editor.collect_sql
        if not told:
            _lock(connection)
        for each in [number] if told else _lacking(connection, number):
            for statement in schema.statements(each):
                schema_editor.execute(statement, params=None)

    return apply


def make_tables(connection: BaseDatabaseWrapper) -> None:
    """Apply the steps that the tables lack although all migrations are recorded."""
    with connection.schema_editor() as schema_editor:
        _apply(schema.latest())(None, schema_editor)


def _lacking(connection: BaseDatabaseWrapper, number: int) -> range:
    """Return the steps up to this one that the tables lack: all if an earlier one was recorded but made no tables."""
    if not tables(connection):
        return range(1, number + 1)
    # If a flush has deleted the row, the step before is done.
    return range((schema_version(connection) or number - 1) + 1, number + 1)


def _lock(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor not in CLOCKS:
        raise CommandError(
            f"tokenguard supports SQLite and PostgreSQL, not {connection.display_name}: keep this app "
            'from it with a database router, and name another database with TOKENGUARD["USING"]'
        )
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        else:
            # A statement that writes takes SQLite's lock, and waits for it, even if it changes nothing.
            table = connection.ops.quote_name(MigrationRecorder.Migration._meta.db_table)
            cursor.execute(f"UPDATE {table} SET app = app WHERE id = 0")  # noqa: S608


def _refuse_to_go_back(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if not tables(schema_editor.connection):
        return  # there is nothing to lose, and the recorded migrations made no tables
    raise CommandError(
        "tokenguard's tables cannot be migrated back to an older version: they hold every token and the trail of what "
        "was done, and another service may be using them. Drop them by hand if nobody does, and run this again"
    )


def restore_counter(sender: Any, using: str, **kwargs: Any) -> None:
    """Restore the one row that the counter needs, if the tables are empty.

    They are empty after a flush, as between a TransactionTestCase's tests, and if tests run without migrations.
    """
    connection = connections[using]
    if not router.allow_migrate_model(using, models.Revision) or not _emptied(connection):
        return
    last = models.Event.objects.using(using).order_by("-number").values_list("number", flat=True).first() or 0
    # If tests run without migrations, none is applied: the tables are then created from the present models.
    row = models.Revision(id=1, revision=last, schema_version=len(applied(connection)) or schema.latest())
    models.Revision._base_manager.using(using).bulk_create([row], ignore_conflicts=True)


def _emptied(connection: BaseDatabaseWrapper) -> bool:
    if models.Revision._meta.db_table not in tables(connection):
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM tokenguard_revision")
        return not cursor.fetchall()
