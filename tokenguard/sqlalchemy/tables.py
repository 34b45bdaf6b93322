"""The tables and columns that ``schema.py`` creates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class _AsStored(TypeDecorator[bool]):
    """A boolean, read as it is stored: on SQLite, SQLAlchemy itself would read any text as true."""

    impl = Boolean
    cache_ok = True
    python_type = bool

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        return None


VERSION_TABLE = "tokenguard_alembic_version"

# Columns are in the order of the dataclasses' fields, as rows.py expects them.
metadata = MetaData()
client_table = Table(
    "tokenguard_client",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("enabled", _AsStored, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("conditions", Text, nullable=False),
    UniqueConstraint("name", name="tokenguard_client_name"),
)
token_table = Table(
    "tokenguard_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("client_id", ForeignKey("tokenguard_client.id", deferrable=True, initially="DEFERRED"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("key_fingerprint", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("conditions", Text, nullable=False),
    Column("idle_timeout", BigInteger),
    Column("idle_ended_at", BigInteger),
    Column("successor_id", String(16)),
    Column("overlap_ends_at", BigInteger),
    Index("tokenguard_token_client", "client_id", "created_at"),
    Index("tokenguard_token_created", "created_at", "id"),
)
use_table = Table(
    "tokenguard_use",
    metadata,
    Column("token_id", String(16), primary_key=True),
    Column("last_used_at", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
)
use_day_table = Table(
    "tokenguard_use_day",
    metadata,
    Column("token_id", String(16), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Index("tokenguard_use_day_day", "day"),
)
event_table = Table(
    "tokenguard_event",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(16), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("client_id", String(255), nullable=False),
    Column("token_id", String(16)),
    Column("data", Text, nullable=False),
    UniqueConstraint("id", name="tokenguard_event_id"),
    Index("tokenguard_event_client", "client_id", "number"),
    Index("tokenguard_event_token", "token_id", "number"),
)
revision_table = Table(
    "tokenguard_revision",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("schema_version", Integer, nullable=False),
)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Keep tokenguard's tables out of autogenerate: for ``include_name`` of your own Alembic environment."""
    return not (type_ == "table" and name is not None and name.startswith("tokenguard_"))
