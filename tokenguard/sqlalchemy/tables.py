"""The columns as ``schema.py`` makes them, and rows as what they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    UniqueConstraint,
)

from ..errors import StoreError
from ..store import Event, dump_json, dump_scopes, load_scopes
from ..tokens import Client, Token

VERSION_TABLE = "tokenguard_alembic_version"

# In the order of the dataclasses' fields: a row is their arguments.
metadata = MetaData()
client_table = Table(
    "tokenguard_client",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("name", name="tokenguard_client_name"),
)
token_table = Table(
    "tokenguard_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("client_id", ForeignKey("tokenguard_client.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("key_fingerprint", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Index("tokenguard_token_client", "client_id", "created_at"),
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
    """For the ``include_name`` of your own Alembic environment: keeps tokenguard's tables out of autogenerate."""
    return not (type_ == "table" and name is not None and name.startswith("tokenguard_"))


def load_client(row: Sequence[Any]) -> Client:
    client_id, name, scopes, enabled, created_at = row
    return Client(client_id, name, _load(load_scopes, scopes), bool(enabled), created_at)


def load_token(row: Sequence[Any]) -> Token:
    token_id, client_id, name, scopes, *rest = row
    return Token(token_id, client_id, name, _load(load_scopes, scopes), *rest)


def load_event(row: Sequence[Any]) -> Event:
    number, event_id, kind, at, actor, client_id, token_id, data = row
    return Event(number, event_id, kind, at, actor, client_id, token_id, _load(json.loads, data))


def _load(read: Any, stored: str) -> Any:
    try:
        return read(stored)
    except ValueError as error:
        raise StoreError(f"a row in the database is damaged: {error}") from None


def dump_row(table: Table, item: Client | Token | Event) -> dict[str, Any]:
    """The values of the row that keeps ``item``."""
    values = {column.name: getattr(item, column.name) for column in table.c}
    if isinstance(item, Event):
        values["data"] = dump_json(item.data)
    else:
        values["scopes"] = dump_scopes(item.scopes)
    return values
