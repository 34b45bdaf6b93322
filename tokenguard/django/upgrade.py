"""The schema's steps as migrations apply them, and the counter's row where a flush has emptied the tables."""

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
from .connections import schema_version


def step(number: int) -> RunPython:
    """The migration operation that takes the tables to version ``number``, if they are of a lower one.

    They may be of that version already: the command line and Flask services make the same tables.
    """
    return RunPython(_apply(number), _refuse_to_go_back)


def _apply(number: int) -> Callable[[Any, BaseDatabaseSchemaEditor], None]:
    def apply(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
        connection = schema_editor.connection
        # "sqlmigrate" asks for the statements, wherever the tables stand, and changes nothing.
        told = schema_editor.collect_sql
        if not told:
            _lock(connection)
        if told or schema_version(connection) < number:
            for statement in schema.statements(number):
                schema_editor.execute(statement, params=None)

    return apply


def _lock(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor not in CLOCKS:
        raise CommandError(
            f"tokenguard keeps its tables in SQLite or PostgreSQL, not in {connection.display_name}: keep this app "
            'from it with a database router, and name another database with TOKENGUARD["USING"]'
        )
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        else:
            # A statement that writes takes SQLite's lock, and waits for it, also if it changes nothing.
            table = connection.ops.quote_name(MigrationRecorder.Migration._meta.db_table)
            cursor.execute(f"UPDATE {table} SET app = app WHERE id = 0")  # noqa: S608


def _refuse_to_go_back(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    raise CommandError(
        "tokenguard's tables are not taken back to an older version: they hold every token and the trail of what was "
        "done, and another service may be using them. Drop them by hand if nobody does"
    )


def restore_counter(sender: Any, using: str, **kwargs: Any) -> None:
    """Where the tables are empty, put the one row back that the counter needs.

    After a flush, as between a TransactionTestCase's tests, and where tests run without migrations.
    """
    connection = connections[using]
    if not router.allow_migrate_model(using, models.Revision) or not _emptied(connection):
        return
    last = models.Event.objects.using(using).order_by("-number").values_list("number", flat=True).first() or 0
    applied = [name for app, name in MigrationRecorder(connection).applied_migrations() if app == sender.label]
    # None is applied where tests run without migrations: then the tables are made from the models, as they are now.
    row = models.Revision(id=1, revision=last, schema_version=len(applied) or schema.latest())
    models.Revision._base_manager.using(using).bulk_create([row], ignore_conflicts=True)


def _emptied(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        if models.Revision._meta.db_table not in connection.introspection.table_names(cursor):
            return False
    return not models.Revision.objects.using(connection.alias).exists()
