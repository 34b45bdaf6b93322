"""An index by which pruning finds the days that are old."""

from alembic import op
from sqlalchemy import Connection

from tokenguard.sqlalchemy.upgrade import apply_step

revision = "tokenguard_0003"
down_revision = "tokenguard_0002"


def upgrade(connection: Connection | None = None) -> None:
    apply_step(connection or op.get_bind(), 3)
