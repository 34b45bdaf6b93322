"""The upgrade of any older schema to the present one, and the refusal to work with another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from .. import schema
from ..databases import ADVISORY_LOCK, check_version
from ..errors import ConfigurationError, SchemaError
from ..rows import first
from .engine import SET_UP
from .tables import VERSION_TABLE, metadata, revision_table

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, migrate: Callable[[Connection], None]) -> tuple[int, int]:
    """Run the missing steps in the caller's transaction; returns the versions before and after.

    ``migrate`` is what :func:`load_migrations` returned before the transaction. On SQLite that transaction has begun
    IMMEDIATE, on PostgreSQL this takes a lock: so two upgrades at once run each step once.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
    before = schema_version(connection)
    if before > schema.latest():
        check_version(before, SET_UP)
    migrate(connection)
    after = schema_version(connection)
    check_version(after, SET_UP)
    if missing := [name for name in metadata.tables if not inspect(connection).has_table(name)]:
        raise SchemaError(f"the table {missing[0]} is missing: restore the database from a backup")
    return before, after


def apply_step(connection: Connection, step: int) -> None:
    """Take the schema to version ``step`` if it is lower. The caller holds the lock, and has applied earlier steps."""
    if schema_version(connection) < step:
        for statement in schema.statements(step):
            connection.exec_driver_sql(statement)


def schema_version(connection: Connection) -> int:
    """The version of the schema in the database; 0 where there are no tables yet.

    Raises SchemaError where the row that holds it is missing or damaged.
    """
    if not inspect(connection).has_table(revision_table.name):
        return 0
    version: int = first(connection.execute(select(revision_table.c.schema_version)).all())[0]
    return version


def load_migrations() -> Callable[[Connection], None]:
    """Return what runs the migrations on a connection.

    Loading them takes longer than running them, and no other process should wait for a lock meanwhile.
    """
    # Without Alembic's environment, which is global to the process: this may run in a host's own migration, and in
    # several threads. Every revision is called; the schema's version decides whether it has anything to do.
    try:
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'setting up the tables requires {error.name}: pip install "wsgi-tokenguard[sqlalchemy]"'
        ) from None

    if not MIGRATIONS.is_dir():  # Alembic reads files, and knows nothing of archives
        raise ConfigurationError(
            f"setting up the tables requires the directory {MIGRATIONS}: run tokenguard from an unpacked installation"
        )
    script = ScriptDirectory(str(MIGRATIONS))
    revisions = list(script.walk_revisions())

    def migrate(connection: Connection) -> None:
        for revision in reversed(revisions):
            revision.module.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        context.stamp(script, "head")

    return migrate
