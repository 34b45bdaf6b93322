"""How a request's own queries are asked: one statement each, with as little as can be between it and the driver."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from ..databases import READ_TIMEOUT, complaint
from .connections import in_transaction, set_up, translated

Rows = list[tuple[Any, ...]]


class Query:
    """A statement that only reads, in the words of each driver, made once."""

    def __init__(self, text: str, *, for_sqlite: str | None = None) -> None:
        self.text = text
        self._for_sqlite = (for_sqlite or text).replace("%s", "?")
        # One message, and so one transaction, which takes the setting with it when it ends: also where a pooler gives
        # the next one to another connection.
        self._within_time = f"SET LOCAL statement_timeout = {round(READ_TIMEOUT * 1000)}; {text}"

    def rows(self, connection: BaseDatabaseWrapper, *parameters: str | int) -> Rows:
        """What it finds; raises StoreError. A connection that has died is replaced, and asked once more."""
        try:
            return self._ask(connection, parameters)
        except Error as error:
            if in_transaction(connection) or not _is_dead(connection):
                raise complaint(error.__cause__ or error, set_up(connection.alias)) from error
        with translated(connection.alias):
            connection.close()
            return self._ask(connection, parameters)

    def _ask(self, connection: BaseDatabaseWrapper, parameters: tuple[str | int, ...]) -> Rows:
        if connection.vendor == "sqlite" and not _is_watched(connection):
            return self._ask_sqlite(connection, parameters)
        with connection.cursor() as cursor:
            cursor.execute(self._within_time if _can_limit_time(connection) else self.text, parameters)
            # psycopg 3 shows what SET has answered, too.
            while cursor.description is None and cursor.nextset():
                pass
            return list(cursor.fetchall())

    def _ask_sqlite(self, connection: BaseDatabaseWrapper, parameters: tuple[str | int, ...]) -> Rows:
        # Django's own cursor would rewrite the text every time; with the layers around it, that costs more than the
        # query. What is left of them: a connection, none on an event loop, none in a transaction that is broken.
        connection.ensure_connection()
        connection.validate_no_broken_transaction()
        try:
            found: Rows = connection.connection.execute(self._for_sqlite, parameters).fetchall()
        except sqlite3.Error as error:
            connection.errors_occurred = True
            raise complaint(error, set_up(connection.alias)) from error
        return found


def _is_watched(connection: BaseDatabaseWrapper) -> bool:
    """Whether somebody wants to see what is asked, or keeps it from being asked, by what Django has for that."""
    return bool(connection.execute_wrappers) or connection.queries_logged or "cursor" in vars(connection)


def _can_limit_time(connection: BaseDatabaseWrapper) -> bool:
    # A setting that the caller's transaction would keep is none of ours to make; and several statements in one message
    # are only possible where the driver puts the values into the text.
    bound_there = connection.settings_dict["OPTIONS"].get("server_side_binding")
    return connection.vendor == "postgresql" and not in_transaction(connection) and not bound_there


def _is_dead(connection: BaseDatabaseWrapper) -> bool:
    """Whether the driver knows that nobody is at the other end any more."""
    return bool(getattr(connection.connection, "closed", False))
