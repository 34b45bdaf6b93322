"""What a request waits for: a query whose text is built once, asked by a bare cursor on a pooled connection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import URL, Engine, PoolProxiedConnection, Select
from sqlalchemy.exc import SQLAlchemyError

from ..databases import OUTLIVED, TOO_SLOW
from .engine import store_error

#: How many connections are kept at hand at most: fewer than there are in a pool, which may hold 15.
KEPT = 5
#: What a forked child has of its parent's connections.
_INHERITED: list[list[PoolProxiedConnection]] = []


class Reserve:
    """Connections of an engine's pool that are kept at hand: to take one out of the pool costs as much as the query.

    A few of them: the others are for whoever asks the pool. Threads may share it; a forked child has to
    :meth:`forget` what it finds here.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: list[PoolProxiedConnection] = []

    def take(self) -> PoolProxiedConnection:
        """One that nobody else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.raw_connection()

    def give_back(self, connection: PoolProxiedConnection) -> None:
        """For the next one; it is as it was when it was taken."""
        if len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self) -> None:
        """Leave to the parent what is its own."""
        # They are still open: as long as somebody holds them, nobody closes them.
        _INHERITED.append(self._idle)
        self._idle = []

    def empty(self, *, broken: bool = False) -> None:
        """Keep none; ``broken`` ones not in the pool either."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:  # not asked before: another thread may take the last one meanwhile
                return
            if broken:
                connection.invalidate()
            connection.close()


class Question:
    """A query, in words of the engine's database. The engine is in autocommit.

    On a connection that has broken since it was last used, it is asked once more on a new one: it changes nothing.
    """

    def __init__(self, reserve: Reserve, query: Select[Any]) -> None:
        engine = reserve.engine
        self._text, self._names, self._positional = _compiled(query, engine.url.drivername)
        #: Whether something else is answered before the query is.
        self._limited = engine.dialect.name == "postgresql"
        if self._limited:
            from .postgresql import limited

            self._text = limited(self._text)
        self._reserve = reserve
        self._dialect = engine.dialect
        self._driver_error = engine.dialect.loaded_dbapi.Error

    def ask(self, *values: object) -> Sequence[Any]:
        """All rows for these parameters, in the order of the query; raises StoreError."""
        parameters = values if self._positional else dict(zip(self._names, values, strict=True))
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
        connection = self._reserve.take()
        driver: Any = connection.dbapi_connection
        try:
            cursor = driver.execute(self._text, parameters)  # which both drivers have, and which makes a cursor
            if self._limited:
                cursor.nextset()
            rows: Sequence[Any] = cursor.fetchall()
        except BaseException as error:
            lost = self._is_lost(error, driver)
            broken = lost or getattr(driver, "closed", False)  # also for want of an answer in time
            # After an error, or an exit in the middle, nobody knows what this connection would answer next.
            connection.invalidate(error)
            if broken:
                self._reserve.empty(broken=True)  # most likely all are
            if lost:
                raise _LostConnection(error) from error
            raise
        self._reserve.give_back(connection)
        return rows

    def _is_lost(self, error: BaseException, driver: Any) -> bool:
        if not isinstance(error, self._driver_error):
            return False
        state = getattr(error, "sqlstate", None)
        # One that did not answer in time is closed too, but has taken its time already.
        broken = self._dialect.is_disconnect(error, driver, None) and state != TOO_SLOW
        return broken or state in OUTLIVED


@cache
def _compiled(query: Select[Any], drivername: str) -> tuple[str, tuple[str, ...], bool]:
    """Its text, its parameters in the order in which it has them, and whether they are given by that order.

    Built once in a process: it takes longer than all else that a new store does.
    """
    compiled = query.compile(dialect=URL.create(drivername).get_dialect()())
    return compiled.string, tuple(compiled.params), compiled.positional


class _LostConnection(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
