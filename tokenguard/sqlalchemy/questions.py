"""What a request waits for: a query whose text is built once, asked by a bare cursor on a pooled connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from sqlalchemy import Engine, Select
from sqlalchemy.exc import SQLAlchemyError

from ..databases import REPLICA_PAUSE, SERVER_STOPS, TOO_SLOW
from ..errors import StoreError
from .engine import store_error

log = logging.getLogger("tokenguard")


class Question:
    """A query with one parameter, in words of the engine's database. The engine is in autocommit.

    On a connection that has broken since it was last used, it is asked once more on a new one: it changes nothing.
    """

    def __init__(self, engine: Engine, query: Select[Any]) -> None:
        compiled = query.compile(dialect=engine.dialect)
        (self._name,) = compiled.params
        self._positional = compiled.positional
        self._text = compiled.string
        #: Whether something else is answered before the query is.
        self._limited = engine.dialect.name == "postgresql"
        if self._limited:
            from .postgresql import limited

            self._text = limited(self._text)
        self._engine = engine
        self._driver_error = engine.dialect.loaded_dbapi.Error

    def ask(self, value: object) -> Sequence[Any]:
        """All rows; raises StoreError."""
        parameters = (value,) if self._positional else {self._name: value}
        try:
            try:
                return self._rows(parameters)
            except _LostConnection:
                return self._rows(parameters)
        except _LostConnection as lost:
            raise store_error(lost.error) from lost.error
        except (SQLAlchemyError, self._driver_error) as error:
            raise store_error(error) from error

    def _rows(self, parameters: Any) -> Sequence[Any]:
        connection = self._engine.raw_connection()
        cursor = None
        try:
            cursor = connection.cursor()
            cursor.execute(self._text, parameters)
            if self._limited:
                cursor.nextset()
            rows = cursor.fetchall()
            cursor.close()
        except BaseException as error:
            lost = self._is_lost(error, connection.dbapi_connection, cursor)
            # After an error, or an exit in the middle, nobody knows what this connection would answer next.
            connection.invalidate(error)
            if lost:
                raise _LostConnection(error) from error
            raise
        connection.close()
        return rows

    def _is_lost(self, error: BaseException, connection: Any, cursor: Any) -> bool:
        if not isinstance(error, self._driver_error):
            return False
        state = getattr(error, "sqlstate", None)
        # One that did not answer in time is closed too, but has taken its time already.
        broken = self._engine.dialect.is_disconnect(error, connection, cursor) and state != TOO_SLOW
        return broken or state in SERVER_STOPS


class Replica:
    """A question put to a read replica, as long as that can be asked."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._left_alone_until = 0.0

    def ask(self, value: object) -> Sequence[Any] | None:
        """All rows; None if the replica cannot be asked, could not be asked lately, or has nothing yet."""
        if monotonic() < self._left_alone_until:
            return None
        try:
            return self._question.ask(value) or None
        except StoreError as error:
            self._left_alone_until = monotonic() + REPLICA_PAUSE
            log.warning("the read replica is left alone for %s s: %s", REPLICA_PAUSE, error)
            return None


class _LostConnection(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
