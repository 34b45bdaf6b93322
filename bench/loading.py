"""A database as after years of use: clients, tokens, their uses and their events, loaded in bulk."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import psycopg

from tokenguard.clock import DAY, now
from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import SCOPE, token_format

#: How many tokens a client has.
TOKENS_OF_CLIENT = 20
_CHUNK = 5000
#: The tables that grow with the number of tokens, and that no foreign key points to.
_GROWING = ("tokenguard_token", "tokenguard_use", "tokenguard_event")


def load_database(url: str, size: int, known: int) -> list[str]:
    """Create the tables and load ``size`` tokens; returns the texts of ``known`` of them, from all over the table."""
    store = SQLAlchemyStore(url)
    store.upgrade()
    store.close()
    minted = [token_format().mint() for _ in range(known)]
    ids = _Ids(size, {size * number // known: (token.id, token.digest) for number, token in enumerate(minted)})
    with psycopg.connect(url, autocommit=True) as connection:
        _copy(connection, "tokenguard_client", _clients(size // TOKENS_OF_CLIENT or 1))
        with _without_indexes(connection):
            _copy(connection, "tokenguard_token", _tokens(ids))
            _copy(connection, "tokenguard_use", _uses(ids))
            _copy(connection, "tokenguard_event", _events(ids))
        # The counter must be the number of events, or readers of the feed would take this for a damaged history.
        connection.execute(f"UPDATE tokenguard_revision SET revision = {size}")
        connection.execute("VACUUM (ANALYZE, FREEZE)")
        connection.execute("CHECKPOINT")
    return [token.text.reveal() for token in minted]


def client_id(number: int) -> str:
    """Return the id of the client with this number, counting from 0."""
    return f"client{number:010d}"


class _Ids:
    """Ids and digests by number: random except for those given, and the same in every iteration."""

    def __init__(self, size: int, given: dict[int, tuple[str, str]]) -> None:
        self.size = size
        self._given = given

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        source = random.Random(self.size)
        for number in range(self.size):
            text = source.randbytes(40).hex()
            token_id, digest = self._given.get(number) or (text[:16], text[16:])
            yield number, token_id, digest


def _clients(count: int) -> Iterator[str]:
    at = now() - 400 * DAY
    for number in range(count):
        yield f'{client_id(number)}\tapplication {number}\t["groups:read","users:manage"]\tt\t{at}\t{{}}\n'


def _tokens(ids: _Ids) -> Iterator[str]:
    """Rows of tokens. One in ten is revoked, and one in two expires, but never those that were given."""
    at = now()
    clients = ids.size // TOKENS_OF_CLIENT or 1
    for number, token_id, digest in ids:
        created = at - number % 400 * DAY
        given = number in ids._given
        expires = at + (number % 90 + 1) * DAY if number % 2 and not given else "\\N"
        revoked = created + DAY // 2 if number % 10 == 3 and not given else "\\N"
        yield (
            f'{token_id}\t{client_id(number % clients)}\tnightly export {number % 7}\t["{SCOPE}"]\t{digest}\t'
            f"0123456789abcdef\t{created}\t{expires}\t{revoked}\t{{}}\t\\N\t\\N\t\\N\t\\N\n"
        )


def _uses(ids: _Ids) -> Iterator[str]:
    at = now()
    for number, token_id, _ in ids:
        yield f'{token_id}\t{at - number % 30 * DAY}\t192.0.2.{number % 256}\t["{SCOPE}"]\n'


def _events(ids: _Ids) -> Iterator[str]:
    """Rows of events, one for each token: that it was issued."""
    at = now() - 400 * DAY
    clients = ids.size // TOKENS_OF_CLIENT or 1
    data = f'{{"name":[null,"nightly export"],"scopes":[null,["{SCOPE}"]]}}'
    for number, token_id, _ in ids:
        event_id = f"{number:016d}"
        client = client_id(number % clients)
        yield f"{number + 1}\t{event_id}\ttoken.issued\t{at + number}\tbench\t{client}\t{token_id}\t{data}\n"


def _copy(connection: psycopg.Connection, table: str, lines: Iterable[str]) -> None:
    lines = iter(lines)
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        while chunk := "".join(islice(lines, _CHUNK)):
            copy.write(chunk)


@contextmanager
def _without_indexes(connection: psycopg.Connection) -> Iterator[None]:
    """Drop constraints and indexes of the growing tables, and recreate them afterwards, which is faster in one go."""
    tables = "(" + ", ".join(f"'{table}'::regclass" for table in _GROWING) + ")"
    constraints = connection.execute(
        "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE contype IN ('p', 'u', 'f') AND conrelid IN {tables} ORDER BY contype DESC"
    ).fetchall()
    for table, name, _ in constraints:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    indexes = connection.execute(
        f"SELECT indexrelid::regclass, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN {tables}"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield
    connection.execute("SET maintenance_work_mem = '1GB'")
    for table, name, definition in constraints:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    for _, definition in indexes:
        connection.execute(definition)
