"""What the store reads: the queries, and what their rows mean.

None goes through the ORM, whose results some packages cache: a change would be based on what another process has
changed since.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from ..databases import CLOCKS, INDEX_NAMES, askable
from ..events import FEED_LIMIT, Event, EventFilter, Feed
from ..records import USE_INTERVAL, ForeignRecord, Place, Record, Standing
from ..replica import replicated
from ..rows import STANDING, columns, first, load, load_foreign, load_record, load_standing
from ..schema import INDEXES
from ..tokens import Client, Read, Token, Use
from .connections import translated
from .fast_queries import FastQuery


def _names(table: str, kind: type[Client | Token | Use | Event]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns(kind))


_RECORD = f"r.revision, {_names('t', Token)}, {_names('c', Client)}, {_names('u', Use)}"
_TABLES: dict[type[Client | Token | Use], str] = {Token: "t", Client: "c", Use: "u"}
# Joined from the counter outwards: an unknown token gives a row too, so no row means damage, not an unknown token.
_FROM = """
    FROM tokenguard_revision r
    LEFT JOIN tokenguard_token t ON {}
    LEFT JOIN tokenguard_client c ON c.id = t.client_id
    LEFT JOIN tokenguard_use u ON u.token_id = t.id
    WHERE r.id = 1
"""
_FIND = FastQuery(f"SELECT {_RECORD} {_FROM.format('t.id = %s')}")
_READ = _FROM.format("t.id = %s AND t.digest = %s")
_STANDING = ["r.revision", *(f"{_TABLES[kind]}.{name}" for kind, name in STANDING)]
# Django's connections to SQLite look up a converter by the declared type of each column, every time. An expression
# such as ``+column`` has none.
_STAND = FastQuery(
    f"SELECT {', '.join(_STANDING)} {_READ}",
    for_sqlite=f"SELECT {', '.join(f'+{name}' for name in _STANDING)} {_READ}",
)
# A server that is no replica any more has a history of its own, in which a token may not be revoked.
_STAND_BY = FastQuery(f"{_STAND.text} AND pg_is_in_recovery()")
_FIND_FOREIGN = FastQuery(f"""
    SELECT r.revision, t.id, {_names("c", Client)}, {_names("u", Use)} FROM tokenguard_revision r
    LEFT JOIN tokenguard_token t ON t.id = %s
    LEFT JOIN tokenguard_client c ON c.id = %s
    LEFT JOIN tokenguard_use u ON u.token_id = c.id
    WHERE r.id = 1
""")  # noqa: S608 - the names are our own
_RECORDS = f"""
    SELECT {_RECORD} FROM tokenguard_revision r
    JOIN tokenguard_token t ON 1 = 1
    JOIN tokenguard_client c ON c.id = t.client_id
    LEFT JOIN tokenguard_use u ON u.token_id = t.id
    WHERE r.id = 1
"""  # noqa: S608
_CLIENTS = f"SELECT {_names('c', Client)} FROM tokenguard_client c"  # noqa: S608
_IS_ALIVE = f"""
    t.revoked_at IS NULL AND t.idle_ended_at IS NULL
    AND (t.expires_at IS NULL OR t.expires_at > %s) AND (t.overlap_ends_at IS NULL OR t.overlap_ends_at > %s)
    AND (t.idle_timeout IS NULL OR t.created_at > %s - t.idle_timeout - {USE_INTERVAL}
         OR u.last_used_at > %s - t.idle_timeout - {USE_INTERVAL})
"""  # as Record.state has it
_OLDEST_FIRST = "ORDER BY t.created_at, t.id"
# Limited before the join: otherwise PostgreSQL would read all events with higher numbers to return a few.
_FEED = FastQuery(f"""
    SELECT r.revision, {_names("e", Event)} FROM tokenguard_revision r
    LEFT JOIN (
        SELECT * FROM tokenguard_event WHERE number >= %s ORDER BY number LIMIT {FEED_LIMIT}
    ) e ON 1 = 1
    WHERE r.id = 1 ORDER BY e.number
""")  # noqa: S608


def find_standing(connection: BaseDatabaseWrapper, read: Read) -> Standing | None:
    return load_standing(_STAND.rows(connection, *read))


def find_standing_by(connection: BaseDatabaseWrapper, read: Read) -> Standing | None:
    """Like :func:`find_standing`, of a replica. Raises StoreUnavailable if it is none."""
    # SQLite has no replicas, but tests may take a copy of a file for one.
    query = _STAND_BY if connection.vendor == "postgresql" else _STAND
    return load_standing(replicated(query.rows(connection, *read)))


def find_record(connection: BaseDatabaseWrapper, token_id: str) -> Record | None:
    row = first(_FIND.rows(connection, token_id if askable(token_id) else ""))
    return None if row[1] is None else load_record(row)


def find_foreign(connection: BaseDatabaseWrapper, token_id: str, client_id: str) -> ForeignRecord:
    wanted = [ref if askable(ref) else "" for ref in (token_id, client_id)]
    return load_foreign(first(_FIND_FOREIGN.rows(connection, *wanted)))


def read_feed(connection: BaseDatabaseWrapper, since: int) -> Feed:
    rows = _FEED.rows(connection, since)
    return Feed(first(rows)[0], tuple(load(Event, row[1:]) for row in rows if row[1] is not None))


def find_records(connection: BaseDatabaseWrapper, client_id: str | None) -> list[Record]:
    of_client, asked = ("", ()) if client_id is None else ("AND c.id = %s", (client_id,))
    return [load_record(row) for row in _rows(connection, f"{_RECORDS} {of_client} {_OLDEST_FIRST}", *asked)]


def find_page(
    connection: BaseDatabaseWrapper, limit: int, now: int | None, client_id: str | None, after: Place | None
) -> list[Record]:
    query = _RECORDS
    asked: tuple[str | int, ...] = ()
    if now is not None:
        query, asked = f"{query} AND {_IS_ALIVE}", (now,) * 4
    if client_id is not None:
        query, asked = f"{query} AND c.id = %s", (*asked, client_id)
    if after is not None:
        query, asked = f"{query} AND (t.created_at, t.id) > (%s, %s)", (*asked, *after)
    return [load_record(row) for row in _rows(connection, f"{query} {_OLDEST_FIRST} LIMIT %s", *asked, limit)]


def find_alive_or_rotated(connection: BaseDatabaseWrapper, client_id: str, now: int) -> list[Record]:
    query = f"{_RECORDS} AND c.id = %s AND ({_IS_ALIVE} OR t.successor_id IS NOT NULL) {_OLDEST_FIRST}"
    return [load_record(row) for row in _rows(connection, query, client_id, *(now,) * 4)]


def find_client(connection: BaseDatabaseWrapper, ref: str) -> Client | None:
    if not askable(ref):
        return None
    for column in ("id", "name"):
        for row in _rows(connection, f"{_CLIENTS} WHERE c.{column} = %s", ref):
            return load(Client, row)
    return None


def find_clients(connection: BaseDatabaseWrapper) -> list[Client]:
    return [load(Client, row) for row in _rows(connection, f"{_CLIENTS} ORDER BY c.name")]


def find_predecessor(connection: BaseDatabaseWrapper, token: Token) -> str | None:
    query = "SELECT id FROM tokenguard_token WHERE client_id = %s AND successor_id = %s LIMIT 1"
    rows = _rows(connection, query, token.client_id, token.id)
    return rows[0][0] if rows else None


def find_events(connection: BaseDatabaseWrapper, limit: int, which: EventFilter) -> list[Event]:
    which = which.in_bounds()
    query = f"SELECT {_names('e', Event)} FROM tokenguard_event e WHERE e.number > %s"  # noqa: S608
    asked: tuple[str | int, ...] = (which.after,)
    conditions = {
        "e.client_id = %s": which.client_id,
        "e.token_id = %s": which.token_id,
        "e.kind = %s": which.kind,
        "e.at >= %s": which.since,
    }
    for condition, value in conditions.items():
        if value is not None:
            query, asked = f"{query} AND {condition}", (*asked, value)
    rows = _rows(connection, f"{query} ORDER BY e.number DESC LIMIT %s", *asked, limit)
    return [load(Event, row) for row in rows][::-1]


def find_days(connection: BaseDatabaseWrapper, token_id: str) -> dict[int, int]:
    query = "SELECT day, requests FROM tokenguard_use_day WHERE token_id = %s ORDER BY day"
    return {row[0]: row[1] for row in _rows(connection, query, token_id)}


def find_missing_indexes(connection: BaseDatabaseWrapper) -> list[str]:
    return sorted(INDEXES.keys() - {name for (name,) in _rows(connection, INDEX_NAMES[connection.vendor])})


def database_time(connection: BaseDatabaseWrapper) -> int:
    ((now,),) = _rows(connection, CLOCKS[connection.vendor])
    return int(now)


def _rows(connection: BaseDatabaseWrapper, query: str, *parameters: str | int) -> list[tuple[Any, ...]]:
    with translated(connection.alias), connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())
