"""Idle expiry, rotation, conditions, and what is known of a token's use."""

from alembic import op
from sqlalchemy import Connection

from tokenguard.sqlalchemy.upgrade import apply_step

revision = "tokenguard_0002"
down_revision = "tokenguard_0001"


def upgrade(connection: Connection | None = None) -> None:
    apply_step(connection or op.get_bind(), 2)
