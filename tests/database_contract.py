"""The contract of every store on a database: the contract of any store, and what the database itself may get wrong.

A store's test file inherits this class, and defines how to create the store, with its tables and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import pytest
from sqlalchemy import create_engine

from tokenguard import SchemaError, Store, StoreError, TemporarilyUnavailable, schema
from tokenguard.prune import prune
from tokenguard.sqlalchemy.engine import checked_database_url
from tokenguard.store import FEED_LIMIT
from tokenguard.tokens import Read

from .conftest import World, works
from .store_contract import CLIENT, TOKEN, StoreContract, change, new_use

Execute: TypeAlias = Callable[[str], None]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def reads(store: Store) -> list[Callable[[], object]]:
    """All the reads of a store."""
    return [
        lambda: store.standing(Read.of(TOKEN)),
        lambda: store.find(TOKEN.id),
        lambda: store.find_foreign(TOKEN.id, CLIENT.id),
        lambda: store.feed(0),
        lambda: store.use_by_day(TOKEN.id),
        lambda: store.client(CLIENT.id),
        store.clients,
        store.records,
        lambda: store.page(1, 0),
        lambda: store.events(1),
        store.check,
    ]


def writes(store: Store) -> list[Callable[[], object]]:
    return [lambda: World(store).client("another"), lambda: store.record_uses([new_use(1)])]


class DatabaseContract(StoreContract):
    #: What an error tells people to run where there are no tables.
    set_up: ClassVar[str]

    @pytest.fixture
    def empty(self, database_url: str) -> Store:
        """A store on a database without tables."""
        raise NotImplementedError

    @pytest.fixture
    def execute(self, database_url: str) -> Execute:
        """Run a statement in the database as somebody else, whom SQLite lets write whatever it is."""

        def run(statement: str) -> None:
            with create_engine(checked_database_url(database_url)).begin() as connection:
                connection.exec_driver_sql(statement)
            connection.engine.dispose()

        return run

    def test_no_tables(self, empty: Store) -> None:
        for attempt in reads(empty) + writes(empty):
            with pytest.raises(SchemaError, match=f'run "{self.set_up}"'):
                attempt()

    @pytest.mark.parametrize(
        ("version", "message"),
        [
            (schema.latest() + 1, "newer than this tokenguard supports"),
            (schema.latest() - 1, "but this tokenguard needs"),
        ],
    )
    def test_a_database_of_another_version_is_read_but_not_written(
        self, store: Store, execute: Execute, version: int, message: str
    ) -> None:
        """While a fleet is upgraded, its older workers go on."""
        issued = World(store).issue()
        execute(f"UPDATE tokenguard_revision SET schema_version = {version}")
        assert works(World(store), issued)
        for attempt in (store.check, lambda: World(store).issuer.revoke(issued.token.id, actor="tests")):
            with pytest.raises(SchemaError, match=f"schema version {version}, {message}"):
                attempt()
        assert store.feed(3) == (2, ())

    def test_indexes_that_were_dropped_are_missing_until_they_are_created_again(
        self, store: Store, execute: Execute
    ) -> None:
        assert store.missing_indexes() == []
        for name in schema.INDEXES:
            execute(f"DROP INDEX {name}")
        assert store.missing_indexes() == sorted(schema.INDEXES)
        for statement in schema.INDEXES.values():
            execute(statement)
        assert store.missing_indexes() == []

    @on_sqlite
    def test_a_version_that_is_no_number_is_damage(self, filled: Store, execute: Execute) -> None:
        execute("UPDATE tokenguard_revision SET schema_version = 'two'")
        for attempt in (filled.check, filled.upgrade, lambda: World(filled).client("another")):
            with pytest.raises(SchemaError, match="the row of tokenguard_revision is damaged"):
                attempt()

    def test_a_counter_that_is_gone_is_an_error_not_a_no(self, filled: Store, execute: Execute) -> None:
        execute("DELETE FROM tokenguard_revision")
        asked = (lambda: filled.find("B" * 16), lambda: filled.find(TOKEN.id), lambda: filled.standing(Read.of(TOKEN)))
        for attempt in (*asked, lambda: filled.feed(0), lambda: World(filled).client("another")):
            with pytest.raises(SchemaError, match="tokenguard_revision is missing"):
                attempt()

    @pytest.mark.parametrize("scopes", ["{}", "x", "users:read"])
    def test_a_damaged_row_is_an_error_not_a_no(self, filled: Store, execute: Execute, scopes: str) -> None:
        execute(f"UPDATE tokenguard_token SET scopes = '{scopes}'")
        with pytest.raises(StoreError, match="a row of tokenguard_token is damaged") as found:
            filled.find(TOKEN.id)
        assert TOKEN.id in str(found.value)
        with pytest.raises(StoreError, match="a row of tokenguard_token is damaged"):
            filled.standing(Read.of(TOKEN))

    @on_sqlite
    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE tokenguard_client SET enabled = 'false'",
            "UPDATE tokenguard_client SET enabled = 2",
            "UPDATE tokenguard_token SET expires_at = 'soon'",
            "UPDATE tokenguard_token SET created_at = x'00'",
            f"UPDATE tokenguard_token SET scopes = '{'[' * 100_000}'",
            "UPDATE tokenguard_revision SET revision = 'x'",
            "DELETE FROM tokenguard_client",
        ],
    )
    def test_what_sqlite_lets_stand_in_a_row_is_not_taken_on_trust(
        self, store: Store, execute: Execute, damage: str
    ) -> None:
        issued = World(store).issue()
        World(store).guard.authenticate(issued.text)  # so that a sound row of these types has been read before
        execute(damage)
        for _ in range(2):  # and not trusted the second time either
            with pytest.raises(TemporarilyUnavailable):
                World(store).guard.authenticate(issued.text)

    @on_sqlite
    @pytest.mark.parametrize(
        "data",
        [
            "x",
            "[]",
            "null",
            '{"name": "ab"}',
            '{"name": ["a"]}',
            '{"name": {"a": 1, "b": 2}}',
            '{"expires_at": [null, "x"]}',
            '{"revoked_at": [null, 1.5]}',
            '{"idle_timeout": ["1d", null]}',
            '{"conditions": [{"allow": 1}, {}]}',
            '{"conditions": [[], {}]}',
        ],
    )
    def test_damaged_details_of_an_event(self, store: Store, execute: Execute, data: str) -> None:
        World(store).client()
        execute(f"UPDATE tokenguard_event SET data = '{data}'")
        for attempt in (lambda: store.events(1), lambda: store.feed(0)):
            with pytest.raises(StoreError, match=r"a row of tokenguard_event is damaged \(1\)"):
                attempt()

    @on_postgresql
    def test_the_feed_begins_where_it_is_asked_to_wherever_the_rows_lie(self, filled: Store, execute: Execute) -> None:
        """An update moves a row, and a restore may leave them in any order."""
        execute(
            "INSERT INTO tokenguard_event (number, id, kind, at, actor, client_id, token_id, data) "
            "SELECT n, CAST(n AS text), kind, at, actor, client_id, token_id, data "
            f"FROM tokenguard_event, generate_series(3, {FEED_LIMIT + 1}) n WHERE number = 2"
        )
        execute("UPDATE tokenguard_event SET actor = 'somebody' WHERE number = 1")
        assert [event.number for event in filled.feed(0).events] == list(range(1, FEED_LIMIT + 1))

    @on_sqlite
    def test_a_time_that_is_no_number_is_not_pruned_by(self, filled: Store, execute: Execute) -> None:
        execute("UPDATE tokenguard_event SET at = 'x' WHERE number = 1")
        with pytest.raises(StoreError, match=r"a row of tokenguard_event is damaged \(1\)"):
            prune(filled, 86_400, actor="tests")

    def test_a_token_of_no_client_is_refused_at_the_commit(self, store: Store) -> None:
        def write() -> None:
            with store.transaction() as tx:
                tx.put_token(TOKEN, change())

        with pytest.raises(StoreError, match=r"(?i)foreign key constraint") as refused:
            write()
        assert "whether it was made" not in str(refused.value)
        assert store.feed(0) == (0, ())
