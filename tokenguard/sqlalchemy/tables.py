"""The columns as ``schema.py`` makes them, and rows as what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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

from ..errors import StoreError
from ..store import Event, dump_json, dump_scopes, load_conditions, load_scopes
from ..tokens import Client, Token, Use


class _AsStored(TypeDecorator[bool]):
    """A boolean as it is in the row: on SQLite, SQLAlchemy itself would take any text for true."""

    impl = Boolean
    cache_ok = True
    python_type = bool

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        return None


VERSION_TABLE = "tokenguard_alembic_version"

# In the order of the dataclasses' fields: a row is their arguments.
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
    Column("client_id", ForeignKey("tokenguard_client.id"), nullable=False),
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
    return Client(*_load(client_table, row))


def load_token(row: Sequence[Any]) -> Token:
    return Token(*_load(token_table, row))


def load_use(row: Sequence[Any]) -> Use | None:
    """None where an outer join found no use."""
    return None if row[0] is None else Use(*_load(use_table, row))


def load_event(row: Sequence[Any]) -> Event:
    return Event(*_load(event_table, row))


def _load(table: Table, row: Sequence[Any]) -> list[Any]:
    # Nothing is taken on trust: SQLite keeps any value in any column, and a text such as "false" would count as true.
    try:
        return [read(value) for read, value in zip(_READERS[table.name], row, strict=True)]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"a row of {table.name} is damaged: {type(error).__name__}: {error}") from None


def _reader(column: Column[Any]) -> Callable[[Any], Any]:
    special: dict[str, Callable[[Any], Any]] = {
        "scopes": load_scopes,
        "conditions": load_conditions,
        "data": json.loads,
    }
    read = special.get(column.name) or _BY_TYPE[column.type.python_type]
    return (lambda value: None if value is None else read(value)) if column.nullable else read


def _whole_number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("what is there is not text")
    return value


_BY_TYPE: dict[type, Callable[[Any], Any]] = {int: _whole_number, str: _text, bool: {0: False, 1: True}.__getitem__}
_READERS = {table.name: [_reader(column) for column in table.c] for table in metadata.sorted_tables}


def dump_row(table: Table, item: Client | Token | Use | Event) -> dict[str, Any]:
    """The values of the row that keeps ``item``."""
    values = {column.name: getattr(item, column.name) for column in table.c}
    if isinstance(item, Event):
        values["data"] = dump_json(item.data)
    else:
        values["scopes"] = dump_scopes(item.scopes)
    if isinstance(item, (Client, Token)):
        values["conditions"] = dump_json(item.conditions.dump())
    return values
