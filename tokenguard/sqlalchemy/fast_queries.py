"""The queries that requests wait for: built once as a text, and run by a bare cursor on a pooled connection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import URL, Engine, PoolProxiedConnection, Select
from sqlalchemy.exc import SQLAlchemyError

from ..databases import OUTLIVED, TOO_SLOW
from .engine import store_error

#: How many connections are kept at hand at most: fewer than a pool may hold, which is 15.
KEPT = 5
#: In a forked child, the connections of its parent.
_INHERITED: list[list[PoolProxiedConnection]] = []


class Reserve:
    """Connections of an engine's pool that are kept at hand: taking one out of the pool costs as much as the query.

    Only a few are kept; the others stay available to the pool's other users. Threads may share a reserve; a forked
    child has to :meth:`forget` what it finds here.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: list[PoolProxiedConnection] = []

    def take(self) -> PoolProxiedConnection:
        """Return a connection that nobody else uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.raw_connection()

    def give_back(self, connection: PoolProxiedConnection) -> None:
        """Keep a connection for the next caller; it is in the state in which it was taken."""
        if len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def forget(self) -> None:
        """Leave the parent's connections to the parent."""
        # They are still open there: holding references to them keeps this process from closing them.
        _INHERITED.append(self._idle)
        self._idle = []

    def empty(self) -> None:
        """Give all connections back to the pool, which hands out none that it takes to be broken."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:  # not checked first: another thread may take the last one meanwhile
                return
            connection.close()


class FastQuery:
    """A query, compiled for the engine's database. The engine is in autocommit.

    If a connection has broken since it was last used, the query is run once more on a new one: it changes nothing.
    """

    def __init__(self, reserve: Reserve, query: Select[Any]) -> None:
        engine = reserve.engine
        self._text, self._names, self._positional = _compiled(query, engine.url.drivername)
        #: Whether the server answers with the outcome of the time limit before that of the query.
        self._limited = engine.dialect.name == "postgresql"
        if self._limited:
            from .postgresql import limited

            self._text = limited(self._text)
        self._reserve = reserve
        self._dialect = engine.dialect
        self._driver_error = engine.dialect.loaded_dbapi.Error

    def rows(self, *values: object) -> Sequence[Any]:
        """Return all rows for these parameters, given in the order of the query; raises StoreError."""
        parameters = values if self._positional else dict(zip(self._names, values, strict=True))
        try:
            try:
                return self._run(parameters)
            except _LostConnection:
                return self._run(parameters)
        except _LostConnection as lost:
            raise store_error(lost.error) from lost.error
        except (SQLAlchemyError, self._driver_error) as error:
            raise store_error(error) from error

    def _run(self, parameters: Any) -> Sequence[Any]:
        connection = self._reserve.take()
        driver: Any = connection.dbapi_connection
        try:
            cursor = driver.execute(self._text, parameters)  # both drivers have this; it makes a cursor
            if self._limited:
                cursor.nextset()
            rows: Sequence[Any] = cursor.fetchall()
        except BaseException as error:
            lost = self._is_lost(error, driver)
            broken = lost or getattr(driver, "closed", False)  # closed also if no answer came in time
            # After an error, or an exit in the middle, it is unknown what this connection would answer next.
            connection.invalidate(error)
            if broken:
                self._reserve.empty()  # most likely all are
            if lost:
                raise _LostConnection(error) from error
            raise
        self._reserve.give_back(connection)
        return rows

    def _is_lost(self, error: BaseException, driver: Any) -> bool:
        if not isinstance(error, self._driver_error):
            return False
        state = getattr(error, "sqlstate", None)
        # A connection that did not answer in time is closed too, but the time for this query is used up.
        broken = self._dialect.is_disconnect(error, driver, None) and state != TOO_SLOW
        return broken or state in OUTLIVED


@cache
def _compiled(query: Select[Any], drivername: str) -> tuple[str, tuple[str, ...], bool]:
    """The query's text, its parameters in their order, and whether they are passed by position.

    Built once in a process: this takes longer than everything else that a new store does.
    """
    compiled = query.compile(dialect=URL.create(drivername).get_dialect()())
    return compiled.string, tuple(compiled.params), compiled.positional


class _LostConnection(Exception):
    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
