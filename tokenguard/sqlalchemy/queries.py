"""The queries for all that is read, and what their rows mean."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
)

from ..databases import CLOCKS, askable
from ..events import FEED_LIMIT, Event, EventFilter
from ..records import USE_INTERVAL, Place, Record
from ..rows import STANDING, first, load, load_record
from ..tokens import Client, Token, Use
from .tables import client_table, event_table, revision_table, token_table, use_table

# A literal, so that a query has no parameters but what it asks about.
_ONE: ColumnElement[int] = literal_column("1")
_RECORDS = (
    select(revision_table.c.revision, *token_table.c, *client_table.c, *use_table.c)
    .select_from(revision_table)
    .where(revision_table.c.id == _ONE)
)
_TABLES = {Token: token_table, Client: client_table, Use: use_table}


_BY_ID = token_table.c.id == bindparam("wanted_id")


def _of_token(query: Select[Any], which: ColumnElement[bool]) -> Select[Any]:
    # Joined to the counter: a row is returned for an unknown token too, so no row means damage, not an unknown token.
    return query.select_from(
        revision_table.outerjoin(token_table, which)
        .outerjoin(client_table, client_table.c.id == token_table.c.client_id)
        .outerjoin(use_table, use_table.c.token_id == token_table.c.id)
    ).where(revision_table.c.id == _ONE)


FIND = _of_token(select(revision_table.c.revision, *token_table.c, *client_table.c, *use_table.c), _BY_ID)
STAND = _of_token(
    select(revision_table.c.revision, *[_TABLES[kind].c[name] for kind, name in STANDING]),
    and_(_BY_ID, token_table.c.digest == bindparam("wanted_digest")),
)
# A server that is no replica any more has a history of its own, in which a token may not be revoked.
STAND_BY = STAND.where(func.pg_is_in_recovery())
# The same for another issuer's token, which is stored only once it is revoked, and for its client.
FIND_FOREIGN = (
    select(revision_table.c.revision, token_table.c.id, *client_table.c, *use_table.c)
    .select_from(revision_table)
    .where(revision_table.c.id == _ONE)
    .outerjoin(token_table, token_table.c.id == bindparam("wanted_id"))
    .outerjoin(client_table, client_table.c.id == bindparam("wanted_client_id"))
    .outerjoin(use_table, use_table.c.token_id == client_table.c.id)
)
# Limited before the join: otherwise PostgreSQL would read all events with higher numbers to return a few.
_EVENTS = (
    select(event_table)
    .where(event_table.c.number >= bindparam("since"))
    .order_by(event_table.c.number)
    .limit(literal_column(str(FEED_LIMIT)))
    .offset(literal_column("0"))
    .subquery("event")
)
FEED = (
    select(revision_table.c.revision, *_EVENTS.c)
    .select_from(revision_table.outerjoin(_EVENTS, true()))
    .where(revision_table.c.id == _ONE)
    .order_by(_EVENTS.c.number)
)


def find_record(connection: Connection, token_id: str) -> Record | None:
    wanted = token_id if askable(token_id) else ""
    row = first(connection.execute(FIND, {"wanted_id": wanted}).all())
    return None if row[1] is None else load_record(row)


def find_records(connection: Connection, client_id: str | None) -> list[Record]:
    return [load_record(row) for row in connection.execute(_records_query(client_id))]


def find_page(
    connection: Connection, limit: int, now: int | None, client_id: str | None, after: Place | None
) -> list[Record]:
    token = token_table.c
    query = _records_query(client_id).limit(limit)
    if now is not None:
        query = query.where(_is_alive(now))
    if after is not None:
        query = query.where(tuple_(token.created_at, token.id) > tuple_(after.created_at, after.token_id))
    return [load_record(row) for row in connection.execute(query)]


def find_alive_or_rotated(connection: Connection, client_id: str, now: int) -> list[Record]:
    query = _records_query(client_id).where(or_(_is_alive(now), token_table.c.successor_id.is_not(None)))
    return [load_record(row) for row in connection.execute(query)]


def _is_alive(now: int) -> ColumnElement[bool]:
    """Whether a token has not ended by ``now``."""
    token, use = token_table.c, use_table.c
    unused_since = now - token.idle_timeout - USE_INTERVAL  # as in Record.idle_end
    return and_(
        token.revoked_at.is_(None),
        token.idle_ended_at.is_(None),
        *[or_(end.is_(None), end > now) for end in (token.expires_at, token.overlap_ends_at)],
        or_(token.idle_timeout.is_(None), token.created_at > unused_since, use.last_used_at > unused_since),
    )


def _records_query(client_id: str | None) -> Select[Any]:
    return (
        _RECORDS.join(token_table, true() if client_id is None else token_table.c.client_id == client_id)
        .join(client_table, client_table.c.id == token_table.c.client_id)
        .outerjoin(use_table, use_table.c.token_id == token_table.c.id)
        .order_by(token_table.c.created_at, token_table.c.id)
    )


def find_client(connection: Connection, ref: str) -> Client | None:
    if not askable(ref):
        return None
    for column in (client_table.c.id, client_table.c.name):
        row = connection.execute(select(client_table).where(column == ref)).one_or_none()
        if row:
            return load(Client, row)
    return None


def _events_query(which: EventFilter) -> Select[Any]:
    events, which = event_table.c, which.in_bounds()
    query = select(event_table).where(events.number > which.after)
    for column, value in (
        (events.client_id, which.client_id),
        (events.token_id, which.token_id),
        (events.kind, which.kind),
    ):
        if value is not None:
            query = query.where(column == value)
    return query if which.since is None else query.where(events.at >= which.since)


def find_events(connection: Connection, limit: int, which: EventFilter) -> list[Event]:
    query = _events_query(which).order_by(event_table.c.number.desc()).limit(limit)
    return [load(Event, row) for row in connection.execute(query)][::-1]


def database_time(connection: Connection) -> int:
    return int(connection.execute(text(CLOCKS[connection.dialect.name])).scalar_one())
