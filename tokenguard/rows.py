"""Converts database rows to dataclasses and back: a row holds the fields of one dataclass, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from .conditions import Conditions
from .errors import InvalidValue, SchemaError, StoreError
from .events import Event, plain
from .records import ForeignRecord, Record, Standing
from .scopes import Scopes
from .tokens import Client, Token, Use

T = TypeVar("T", Client, Token, Use, Event)
#: How many different sets of scopes, and of conditions, are cached once read: most tokens share theirs with others.
REMEMBERED = 1024


def columns(kind: type[Client | Token | Use | Event]) -> tuple[str, ...]:
    """Return the columns of the table that keeps this kind."""
    return tuple(column.name for column in fields(kind))


#: The columns of a :class:`Standing` after the counter's value; first those whose database form has to be converted.
STANDING: tuple[tuple[type[Client | Token | Use], str], ...] = (
    *[(Token, name) for name in ("scopes", "conditions")],
    *[(Client, name) for name in ("scopes", "enabled", "conditions")],
    *[(Token, name) for name in ("created_at", "expires_at", "revoked_at")],
    *[(Token, name) for name in ("idle_timeout", "idle_ended_at", "overlap_ends_at")],
    *[(Client, name) for name in ("id", "name")],
    (Use, "last_used_at"),
)
#: Where the columns to convert stand in the row.
_TO_CONVERT = slice(1, 6)
_FOREIGN_END = 2 + len(columns(Client))
_TOKEN_END = 1 + len(columns(Token))
_CLIENT_END = _TOKEN_END + len(columns(Client))
_BOOLEANS = {0: False, 1: True}
#: What reading a damaged row may raise.
_DAMAGE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
#: The column types of the standings that were read without an error.
_SOUND: set[tuple[type, ...]] = set()


def load(kind: type[T], row: Sequence[Any]) -> T:
    """Return what the row keeps; raises StoreError for a row that tokenguard cannot have written."""
    # No value is trusted: SQLite keeps any value in any column, and a text such as "false" would count as true.
    try:
        return kind(*[read(value) for read, value in zip(_READERS[kind], row, strict=True)])
    except _DAMAGE as error:
        raise _damaged(kind, error, row[0]) from None


def load_record(row: Sequence[Any]) -> Record:
    """Read a record from the counter's value and the columns of token, client and use; NULLs mean that there is no use.

    Raises StoreError as :func:`load` does.
    """
    token, client, used = row[1:_TOKEN_END], row[_TOKEN_END:_CLIENT_END], row[_CLIENT_END:]
    return Record(load(Token, token), load(Client, client), row[0], None if used[0] is None else load(Use, used))


def load_standing(rows: Sequence[Any]) -> Standing | None:
    """Read the one row of the counter's value and the columns of STANDING; None if these are NULL: there is no token.

    Raises StoreError as :func:`first` and :func:`load` do. Every request that asks the store waits for this.
    """
    row = rows[0] if rows else first(rows)  # which raises: there is none
    types = tuple(map(type, row))
    if types not in _SOUND:
        if first(rows)[1] is None:
            return None
        standing = _load_standing_by_column(row)
        if len(_SOUND) < REMEMBERED:
            _SOUND.add(types)
        return standing
    # A row of the same types has been read before, so only the columns to convert are left to be read.
    try:
        converted = _converted(*row[_TO_CONVERT])
    except _DAMAGE:
        return _load_standing_by_column(row)  # which reports what is wrong
    return Standing(row[0], *converted, *row[_TO_CONVERT.stop :])


def _load_standing_by_column(row: Sequence[Any]) -> Standing:
    values = [row[0]]
    for (kind, _), read, value in zip(STANDING, _STANDING_READERS, row[1:], strict=True):
        try:
            values.append(read(value))
        except _DAMAGE as error:
            raise _damaged(kind, error) from None
    return Standing._make(values)


@lru_cache(maxsize=REMEMBERED)
def _converted(*values: Any) -> tuple[Any, ...]:
    # Cached together: most tokens share all of them with others.
    return tuple([read(value) for read, value in zip(_STANDING_READERS, values, strict=False)])


def _damaged(kind: type[Any], error: Exception, row_id: object = None) -> StoreError:
    which = "" if row_id is None else f" ({row_id!a:.50})"
    return StoreError(f"a row of tokenguard_{kind.__name__.lower()} is damaged{which}: {type(error).__name__}: {error}")


def load_foreign(row: Sequence[Any]) -> ForeignRecord:
    """Read the counter's value, a token's id and the columns of client and use; NULLs stand for what is missing.

    Raises StoreError as :func:`load` does.
    """
    client = None if row[2] is None else load(Client, row[2:_FOREIGN_END])
    use = None if row[_FOREIGN_END] is None else load(Use, row[_FOREIGN_END:])
    return ForeignRecord(row[0], row[1] is not None, client, use)


def dump(item: Client | Token | Use | Event) -> dict[str, Any]:
    """Return the row that keeps ``item``, by column; raises InvalidValue for a value of another type than it has."""
    kind = type(item)
    return {
        name: _written(kind, name, getattr(item, name), read)
        for name, read in zip(columns(kind), _READERS[kind], strict=True)
    }


def dump_json(value: Any) -> str:
    """Return the JSON text in which sets and mappings are stored, the same whoever writes it."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=REMEMBERED)
def load_scopes(text: str) -> Scopes:
    """Read scopes from a JSON list; raises ValueError for anything else."""
    names = json.loads(text)
    if not isinstance(names, list):
        raise ValueError("the stored scopes are not a list")
    return Scopes(names)


@lru_cache(maxsize=REMEMBERED)
def load_conditions(text: str) -> Conditions:
    """Read conditions from a JSON object as made by ``Conditions.dump``; raises ValueError for anything else."""
    members = json.loads(text)
    if not isinstance(members, dict):
        raise ValueError("the stored conditions are not a mapping")
    return Conditions.load(members)


def first(rows: Sequence[Any]) -> Any:
    """Return the first of rows that begin with a number from tokenguard_revision: the counter's value, or the version.

    Raises SchemaError if that row is missing or damaged.
    """
    if not rows:
        raise SchemaError("the row of tokenguard_revision is missing: restore the database from a backup")
    if not isinstance(rows[0][0], int):
        raise SchemaError("the row of tokenguard_revision is damaged: restore the database from a backup")
    return rows[0]


def _written(kind: type[Any], name: str, value: Any, read: Callable[[Any], Any]) -> Any:
    # What could not be read back must not be written: one such event, and no process could read the feed any more.
    try:
        stored = _stored(value)
        if type(read(stored)) is type(value):
            return stored
    except _DAMAGE:
        pass
    raise InvalidValue(
        f"{name} in tokenguard_{kind.__name__.lower()} cannot be {value!r:.100}, which is a {type(value).__name__}"
    )


def _stored(value: Any) -> Any:
    members = plain(value)
    return dump_json(members) if isinstance(members, (list, Mapping)) else members


def _reader(hint: Any) -> Callable[[Any], Any]:
    if NoneType in get_args(hint):
        (inner,) = (part for part in get_args(hint) if part is not NoneType)
        read = _BY_TYPE[inner]
        return lambda value: None if value is None else read(value)
    return _BY_TYPE[hint]


def _whole_number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("the value is not a string")
    return value


def _changes(text: str) -> dict[str, Any]:
    """Read an event's changes, a JSON object of names to [old, new]; raises ValueError for anything else."""
    changes = json.loads(text)
    if not isinstance(changes, dict):
        raise ValueError("the changes are not a mapping")
    for name, pair in changes.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("a change is not a pair of the old and the new value")
        # Other values may have any form: a later version may have recorded them.
        read = _CHANGED.get(name) or (_whole_number if name.endswith("_at") else None)
        if read is not None:
            [read(value) for value in pair if value is not None]
    return changes


#: How to check the changes that are not just shown as they are.
_CHANGED: dict[str, Callable[[Any], Any]] = {
    "conditions": lambda value: load_conditions(dump_json(value)),
    "idle_timeout": _whole_number,
}
_BY_TYPE: dict[Any, Callable[[Any], Any]] = {
    int: _whole_number,
    str: _text,
    bool: _BOOLEANS.__getitem__,
    Scopes: load_scopes,
    Conditions: load_conditions,
    Mapping[str, Any]: _changes,
}
_READERS: dict[type[Any], list[Callable[[Any], Any]]] = {
    kind: [_reader(get_type_hints(kind)[name]) for name in columns(kind)] for kind in (Client, Token, Use, Event)
}
_STANDING_READERS = [_reader(hint) for name, hint in get_type_hints(Standing).items() if name != "revision"]
