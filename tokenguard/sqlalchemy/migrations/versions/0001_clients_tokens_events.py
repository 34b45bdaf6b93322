"""Clients, tokens, and the events that record every change of them."""

from alembic import op

from tokenguard.sqlalchemy.upgrade import apply_step

revision = "0001"
down_revision = None


def upgrade() -> None:
    apply_step(op.get_bind(), 1)
