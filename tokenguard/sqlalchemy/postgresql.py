"""PostgreSQL through psycopg 3: connections that wait no longer than they may, and set nothing for a whole session.

A server's own timeouts do not help when the server hangs, or when the network loses what is sent. And behind a pool
such as PgBouncer, a session is shared by many callers: nothing may be set in it beyond one transaction.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DisconnectionError

from ..databases import CONNECT_TIMEOUT, GRACE, OUTLIVED, READ_TIMEOUT

# So that a server that silently vanishes from the network is noticed while nobody waits for it.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}


class PatientConnection(psycopg.Connection[Any]):
    """A connection that gives up and closes itself once the server has not answered for ``patience`` seconds."""

    #: None means to wait for ever.
    patience: float | None = READ_TIMEOUT + GRACE
    #: How often its pool had been found broken when this connection was made.
    generation = 0

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait as the driver does, for the outcome of one request to the server, but only until the deadline."""
        deadline = None if self.patience is None else monotonic() + self.patience
        try:
            return super().wait(_until(gen, deadline), *args, **kwargs)
        except BaseException:
            # Whatever ended the wait: an answer that is still to come must not be taken for the next request's.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


class _Pool:
    """Makes a pool's connections, and hands out none that was made before the pool was last found broken."""

    def __init__(self, engine: Engine) -> None:
        self._generation = 0
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "checkout", self._check)
        event.listen(engine, "checkin", _calm)
        event.listen(engine, "invalidate", self._forsake)
        event.listen(engine, "handle_error", _give_up)

    def _connect(self, dialect: Any, record: Any, args: Any, kwargs: Any) -> PatientConnection:
        generation = self._generation
        connection = PatientConnection.connect(*args, **kwargs)
        connection.generation = generation
        return connection

    def _check(self, connection: PatientConnection, record: Any, proxy: Any) -> None:
        if connection.generation != self._generation:
            raise DisconnectionError("the server was lost in the meantime")

    def _forsake(self, connection: PatientConnection, record: Any, error: BaseException | None) -> None:
        # What broke one connection, such as a restart or a failover, has most often broken all.
        if connection.generation == self._generation and isinstance(error, psycopg.Error):
            self._generation += connection.closed or error.sqlstate in OUTLIVED


def set_up(engine: Engine) -> None:
    """Make each of the engine's connections a PatientConnection."""
    _Pool(engine)


def connect_args(url: URL, *, reading: bool) -> dict[str, Any]:
    """Return the arguments that each connection is made with; what the URL itself sets takes precedence."""
    # Where the server's default is SQL_ASCII, as in a database made with LANG=C, the driver returns bytes for text.
    ours = {"connect_timeout": CONNECT_TIMEOUT, "client_encoding": "utf8", **_KEEPALIVES}
    given: dict[str, Any] = {name: value for name, value in ours.items() if name not in url.query}
    # Only a cursor that puts the parameters into the text can send a time limit and a query as one message.
    cursors = {"cursor_factory": psycopg.ClientCursor} if reading else {}
    return {**given, **cursors, "prepare_threshold": None}


def set_limits(connection: Connection, statements: float, locks: str) -> None:
    """Limit statements (in seconds, 0: no limit) and the wait for locks, for the rest of this transaction."""
    query = "SELECT set_config('statement_timeout', :statements, true), set_config('lock_timeout', :locks, true)"
    connection.execute(text(query), {"statements": _milliseconds(statements), "locks": locks})
    driver = cast(PatientConnection, connection.connection.dbapi_connection)
    driver.patience = statements + GRACE if statements else None


def limited(query: str) -> str:
    """Return the query with its time limit, to be sent as one message, which the server runs as one transaction."""
    return f"SET LOCAL statement_timeout = '{_milliseconds(READ_TIMEOUT)}'; {query}"


def _milliseconds(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"


def _calm(connection: PatientConnection | None, record: Any) -> None:
    if connection is not None:
        connection.patience = PatientConnection.patience


def _give_up(context: ExceptionContext) -> None:
    # Such a connection has not broken, but is of no more use, and SQLAlchemy discards only those that have.
    if getattr(context.original_exception, "sqlstate", None) in OUTLIVED:
        context.is_disconnect = True
    # Something else, such as a job's time limit, has ended the wait, and PatientConnection has closed itself: rolling
    # back would fail, and hide that error.
    elif not isinstance(context.original_exception, psycopg.Error):
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False


def _until(gen: Any, deadline: float | None) -> Any:
    """The driver's generator of waits, but only until the deadline. It is resumed at least ten times a second."""
    try:
        wanted = next(gen)
        while True:
            wanted = gen.send((yield wanted))
            if deadline is not None and monotonic() >= deadline:
                raise psycopg.errors.QueryCanceled("no answer from the server")
    except StopIteration as end:
        return end.value
