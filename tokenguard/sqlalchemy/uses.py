"""Writing down the use of tokens, without waiting for anybody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select, union_all
from sqlalchemy.dialects import postgresql, sqlite

from ..records import NewUse, merge_use
from ..rows import dump, load
from ..tokens import Use
from .tables import client_table, token_table, use_day_table, use_table


def write_uses(connection: Connection, uses: Sequence[NewUse]) -> set[str]:
    """Add ``uses`` in the caller's transaction; returns the ids of tokens that another process is writing down.

    Those are skipped rather than waited for: their last use will be as new, and the rest can be added later. On
    SQLite, where there is one writer at a time, the transaction has the lock already. Unknown tokens are passed over.
    Only another's very first use of the same token is waited for, for as long as the transaction waits for locks.
    """
    by_id = {use.token_id: use for use in uses}
    # Both kinds of id are random, or made in the same way: none of the one kind is of the other.
    found = [select(table.c.id).where(table.c.id.in_(by_id)) for table in (token_table, client_table)]
    tokens = set(connection.scalars(union_all(*found)))
    used = set(connection.scalars(select(use_table.c.token_id).where(use_table.c.token_id.in_(tokens))))
    locked = _lock(connection, used)
    # In one order for all, so that two who write the same first uses do not wait for each other in a circle.
    added = _add(connection, [merge_use(None, by_id[token_id]) for token_id in sorted(tokens - used)])
    _replace(connection, [merge_use(known, by_id[token_id]) for token_id, known in locked.items()])
    written = added | locked.keys()
    _count(connection, [by_id[token_id] for token_id in sorted(written)])
    return tokens - written


def _lock(connection: Connection, token_ids: Collection[str]) -> dict[str, Use]:
    query = select(use_table).where(use_table.c.token_id.in_(token_ids)).with_for_update(skip_locked=True)
    uses = [load(Use, row) for row in connection.execute(query)]
    return {use.token_id: use for use in uses}


def _add(connection: Connection, uses: Sequence[Use]) -> set[str]:
    """Those that were added. If another process was first with a very first use, what it did not see is added later."""
    statement = _insert(connection, use_table).on_conflict_do_nothing().returning(use_table.c.token_id)
    return set(connection.scalars(statement, [dump(use) for use in uses])) if uses else set()


def _replace(connection: Connection, uses: Sequence[Use]) -> None:
    statement = _insert(connection, use_table)
    new = {column.name: statement.excluded[column.name] for column in use_table.c if not column.primary_key}
    if uses:
        statement = statement.on_conflict_do_update(index_elements=["token_id"], set_=new)
        connection.execute(_as_one(statement, use_table), [dump(use) for use in uses])


def _count(connection: Connection, uses: Sequence[NewUse]) -> None:
    # Whoever has the row of the use has these too, so nobody waits here.
    statement = _insert(connection, use_day_table)
    more = {"requests": use_day_table.c.requests + statement.excluded.requests}
    rows = [
        {"token_id": use.token_id, "day": day, "requests": requests}
        for use in uses
        for day, requests in sorted(use.requests.items())
    ]
    if rows:
        statement = statement.on_conflict_do_update(index_elements=["token_id", "day"], set_=more)
        connection.execute(_as_one(statement, use_day_table), rows)


def _as_one(statement: Any, table: Table) -> Any:
    # Where something is to be returned, SQLAlchemy puts all rows into one statement, and else has one for each.
    return statement.returning(table.c.token_id)


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
