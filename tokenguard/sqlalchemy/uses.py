"""Recording the use of tokens, without waiting for other processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select, union_all
from sqlalchemy.dialects import sqlite

from ..clock import Clock
from ..databases import NO_USES
from ..records import NewUse, merge_use
from ..rows import dump, load
from ..tokens import Use
from .queries import database_time
from .tables import client_table, token_table, use_day_table, use_table


def write_uses(connection: Connection, uses: Sequence[NewUse], clock: Clock | None) -> set[str]:
    """Record ``uses`` in the caller's transaction; returns the ids of tokens that another process is just recording.

    Those are skipped rather than waited for: their last use will be as recent, and the rest can be added later. On
    SQLite, which has one writer at a time, the transaction already has the lock. Unknown tokens are ignored. Only
    another process's very first use of the same token is waited for, for as long as the transaction waits for locks.
    """
    by_id = {use.token_id: use for use in uses}
    # The ids of tokens and of clients are random, or made in the same way: none is both a token's and a client's.
    found = [select(table.c.id).where(table.c.id.in_(by_id)) for table in (token_table, client_table)]
    tokens = set(connection.scalars(union_all(*found)))
    if not tokens:  # as when the doctor tries
        for statement in NO_USES:
            connection.exec_driver_sql(statement)
        return set()
    used = set(connection.scalars(select(use_table.c.token_id).where(use_table.c.token_id.in_(tokens))))
    locked = _lock(connection, used)
    # Read only now: a use that another process has just written must not lie in the future.
    now = clock() if clock else database_time(connection)
    # Sorted, so that two processes that write the same first uses do not deadlock.
    added = _add(connection, [merge_use(None, by_id[token_id], now) for token_id in sorted(tokens - used)])
    _replace(connection, [merge_use(known, by_id[token_id], now) for token_id, known in locked.items()])
    written = added | locked.keys()
    _count(connection, [by_id[token_id] for token_id in sorted(written)])
    return tokens - written


def _lock(connection: Connection, token_ids: Collection[str]) -> dict[str, Use]:
    query = select(use_table).where(use_table.c.token_id.in_(token_ids)).with_for_update(skip_locked=True)
    uses = [load(Use, row) for row in connection.execute(query)]
    return {use.token_id: use for use in uses}


def _add(connection: Connection, uses: Sequence[Use]) -> set[str]:
    """Add these first uses; returns the ids of those that were added.

    If another process was quicker with a token's first use, what that one did not see is added later.
    """
    statement = _insert(connection, use_table).on_conflict_do_nothing().returning(use_table.c.token_id)
    return set(connection.scalars(statement, [dump(use) for use in uses])) if uses else set()


def _replace(connection: Connection, uses: Sequence[Use]) -> None:
    rows = [dump(use) for use in uses]
    _put(connection, use_table, rows, lambda new: {name: new[name] for name in ("last_used_at", "address", "scopes")})


def _count(connection: Connection, uses: Sequence[NewUse]) -> None:
    # The process that has locked a use's row also has these rows, so nobody waits here.
    rows = [
        {"token_id": use.token_id, "day": day, "requests": requests}
        for use in uses
        for day, requests in sorted(use.requests.items())
    ]
    _put(connection, use_day_table, rows, lambda new: {"requests": use_day_table.c.requests + new.requests})


def _put(connection: Connection, table: Table, rows: list[dict[str, Any]], change: Callable[[Any], Any]) -> None:
    """Insert these rows; update those that already exist with what ``change`` makes of the new ones."""
    if rows:
        statement = _insert(connection, table)
        key = list(table.primary_key)
        statement = statement.on_conflict_do_update(index_elements=key, set_=change(statement.excluded))
        # With RETURNING, SQLAlchemy puts all rows into one statement; without, it sends one for each.
        connection.execute(statement.returning(table.c.token_id), rows)


def _insert(connection: Connection, table: Table) -> Any:
    if connection.dialect.name != "postgresql":
        return sqlite.insert(table)
    # Imported only here: it would take a tenth of the time that any command on SQLite takes.
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
