"""Writing down the use of tokens, without waiting for anybody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, select, union_all, update
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
    written = {token_id for token_id in sorted(tokens - used) if _add(connection, merge_use(None, by_id[token_id]))}
    for token_id, known in locked.items():
        _replace(connection, merge_use(known, by_id[token_id]))
    written |= locked.keys()
    for token_id in sorted(written):
        for day, requests in sorted(by_id[token_id].requests.items()):
            _count(connection, token_id, day, requests)
    return tokens - written


def _lock(connection: Connection, token_ids: Collection[str]) -> dict[str, Use]:
    query = select(use_table).where(use_table.c.token_id.in_(token_ids)).with_for_update(skip_locked=True)
    uses = [load(Use, row) for row in connection.execute(query)]
    return {use.token_id: use for use in uses}


def _add(connection: Connection, use: Use) -> bool:
    # False if another process was first with the very first use; what it did not see is added later.
    statement = _insert(connection)(use_table).values(dump(use)).on_conflict_do_nothing()
    return connection.execute(statement.returning(use_table.c.token_id)).first() is not None


def _replace(connection: Connection, use: Use) -> None:
    row = dump(use)
    connection.execute(update(use_table).where(use_table.c.token_id == use.token_id).values(row))


def _count(connection: Connection, token_id: str, day: int, requests: int) -> None:
    # Whoever has the row of the use has these too, so nobody waits here.
    statement = _insert(connection)(use_day_table).values(token_id=token_id, day=day, requests=requests)
    more = {"requests": use_day_table.c.requests + requests}
    connection.execute(statement.on_conflict_do_update(index_elements=["token_id", "day"], set_=more))


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
