"""Run by ``tokenguard init`` on a connection that already holds the lock and the transaction."""

from alembic import context

from tokenguard.sqlalchemy.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
