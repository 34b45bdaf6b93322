"""The tables of a store on SQLAlchemy, for tests that need them: made by repeating what one upgrade did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import event

from tokenguard.clock import Clock
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.sqlalchemy.engine import create_file, use_wal

#: The statements that were run, for each kind of database.
_NOTED: dict[str, list[tuple[str, Any]]] = {}
_WRITES = ("ALTER", "CREATE", "INSERT", "UPDATE")


@contextmanager
def store_at(url: str, clock: Clock | None = None) -> Iterator[SQLAlchemyStore]:
    """A store that is set up in the empty database at ``url``, and closed after the block."""
    with closing(SQLAlchemyStore(url, clock=clock)) as store:
        _set_up(store)
        yield store


def _set_up(store: SQLAlchemyStore) -> None:
    """Create the tables in an empty database, as ``store.upgrade()`` does.

    Most of its time goes into working out what to run, so that is done once, and later the same statements are run.
    """
    kind = store.url.get_backend_name()
    noted = _NOTED.get(kind)
    if noted is None:
        _NOTED[kind] = _noting(store)
        return
    create_file(store.url)
    if kind == "sqlite":
        use_wal(store._reading, store._writing)
    with store._writing.begin() as connection:
        for statement, parameters in noted:
            connection.exec_driver_sql(statement, parameters)


def _noting(store: SQLAlchemyStore) -> list[tuple[str, Any]]:
    noted = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().startswith(_WRITES):
            noted.append((statement, parameters))

    event.listen(store._writing, "before_cursor_execute", note)
    store.upgrade()
    event.remove(store._writing, "before_cursor_execute", note)
    return noted
