"""The queries that requests wait for: one statement each, with as little as possible between it and the driver."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from ..databases import READ_TIMEOUT
from .connections import in_transaction, store_error, translated

Rows = list[tuple[Any, ...]]


class FastQuery:
    """A read-only statement, whose text for each driver is made once."""

    def __init__(self, text: str, *, for_sqlite: str | None = None) -> None:
        self.text = text
        self._for_sqlite = (for_sqlite or text).replace("%s", "?")
        # One message is one transaction, and the setting ends with it, even where a pooler gives the next transaction
        # to another connection.
        self._within_time = f"SET LOCAL statement_timeout = {round(READ_TIMEOUT * 1000)}; {text}"

    def rows(self, connection: BaseDatabaseWrapper, *parameters: str | int) -> Rows:
        """Return the rows; raises StoreError. If the connection has died, it is replaced, and the query sent again."""
        try:
            return self._run(connection, parameters)
        except Error as error:
            if in_transaction(connection) or not _is_dead(connection):
                raise store_error(error, connection.alias) from error
        with translated(connection.alias):
            connection.close()
            return self._run(connection, parameters)

    def _run(self, connection: BaseDatabaseWrapper, parameters: tuple[str | int, ...]) -> Rows:
        if connection.vendor == "sqlite" and not _is_watched(connection):
            return self._run_on_sqlite(connection, parameters)
        with connection.cursor() as cursor:
            cursor.execute(self._within_time if _can_limit_time(connection) else self.text, parameters)
            # psycopg 3 returns the result of SET as well.
            while cursor.description is None and cursor.nextset():
                pass
            return list(cursor.fetchall())

    def _run_on_sqlite(self, connection: BaseDatabaseWrapper, parameters: tuple[str | int, ...]) -> Rows:
        # Django's own cursor would rewrite the text every time; with the layers around it, that costs more than the
        # query. What remains of them: connecting, and refusing to run on an event loop or in a broken transaction.
        connection.ensure_connection()
        connection.validate_no_broken_transaction()
        try:
            found: Rows = connection.connection.execute(self._for_sqlite, parameters).fetchall()
        except sqlite3.Error as error:
            connection.errors_occurred = True
            raise store_error(error, connection.alias) from error
        return found


def _is_watched(connection: BaseDatabaseWrapper) -> bool:
    """Whether the queries are watched, or prevented, by one of Django's means for that."""
    return bool(connection.execute_wrappers) or connection.queries_logged or "cursor" in vars(connection)


def _can_limit_time(connection: BaseDatabaseWrapper) -> bool:
    # The caller's transaction would keep the setting, so it is not ours to make there. And one message can only hold
    # several statements if the driver puts the values into the text.
    bound_there = connection.settings_dict["OPTIONS"].get("server_side_binding")
    return connection.vendor == "postgresql" and not in_transaction(connection) and not bound_there


def _is_dead(connection: BaseDatabaseWrapper) -> bool:
    """Whether the driver knows that the connection is dead."""
    return bool(getattr(connection.connection, "closed", False))
