"""Clients, tokens, and the events that record every change of them."""

from alembic import op
from sqlalchemy import Connection

from tokenguard.sqlalchemy.upgrade import apply_step

revision = "tokenguard_0001"
down_revision = None


def upgrade(connection: Connection | None = None) -> None:
    apply_step(connection or op.get_bind(), 1)
