"""Django's store beyond the contract: the project's connections, transactions and routers, and its migrations."""

from __future__ import annotations

import gc
import re
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import InterfaceError, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import CASCADE, ForeignKey, Model
from django.db.models.sql.compiler import SQLCompiler, SQLDeleteCompiler, SQLUpdateCompiler
from django.test.utils import CaptureQueriesContext, override_settings

from tokenguard import Guard, SchemaError, Scopes, StoreBusy, StoreUnavailable, schema
from tokenguard.django import get_store, models
from tokenguard.django.connections import schema_version, tables
from tokenguard.django.store import DjangoStore
from tokenguard.django.upgrade import restore_counter
from tokenguard.hooks import Hooks
from tokenguard.replica import OtherHistory
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import NewUse, Transaction
from tokenguard.tokens import NO_TOKEN, Read

from .child import in_child
from .conftest import KEY, StoppedClock, World, django_alias, run_together, why_not, works
from .database_contract import DatabaseContract, on_postgresql, on_sqlite, reads
from .django_tables import migrate
from .store_contract import CLIENT, TOKEN, change, new_use, put_tokens, write_until_done


class ThreadsStore(DjangoStore):
    """Closes the connections that the threads of a test open, as Django does after each request."""

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._closing(), super().transaction() as tx:
            yield tx

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        with self._closing():
            return super().record_uses(uses)

    def upgrade(self) -> tuple[int, int]:
        with self._closing():
            return super().upgrade()

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            if threading.current_thread() is not threading.main_thread():
                connections[self.using].close()


@pytest.fixture
def store(alias: str) -> DjangoStore:
    migrate(alias)
    return ThreadsStore(alias)


@pytest.fixture
def other_side(store: DjangoStore, database_url: str) -> Iterator[SQLAlchemyStore]:
    """The same database as a Flask service opens it."""
    other = SQLAlchemyStore(database_url)
    yield other
    other.close()


class TestDjangoStore(DatabaseContract):
    set_up = "manage.py migrate tokenguard --database of_this_test"

    @pytest.fixture
    def empty(self, alias: str) -> DjangoStore:
        return DjangoStore(alias)

    @pytest.fixture
    def store(self, alias: str) -> DjangoStore:
        migrate(alias)
        return ThreadsStore(alias)


# The same tables on both sides


def test_the_tables_are_what_the_models_say(store: DjangoStore, alias: str) -> None:
    with connections[alias].cursor() as cursor:
        look = connections[alias].introspection
        for model in (models.Client, models.Token, models.Use, models.UseDay, models.Event, models.Revision):
            table = model._meta.db_table
            columns = {column.name: column for column in look.get_table_description(cursor, table)}
            fields = {field.column: field for field in model._meta.local_fields if field.column}
            assert list(columns) == list(fields), table
            for name, field in fields.items():
                assert columns[name].null_ok == field.null, (table, name)
                made, said = columns[name].type_code, field.db_type(connections[alias])
                if connections[alias].vendor == "postgresql":
                    made = look.get_field_type(made, columns[name])
                    said = getattr(field, "target_field", field).get_internal_type()
                assert str(made).lower() in (str(said).lower(), "boolean"), (table, name)
            keys = look.get_primary_key_columns(cursor, table)
            assert keys == [field.column for field in model._meta.pk_fields], table


def test_each_side_reads_and_writes_what_the_other_does(store: DjangoStore, other_side: SQLAlchemyStore) -> None:
    with store.transaction() as tx:
        tx.put_client(CLIENT, change())
        tx.put_token(TOKEN, change(scopes=[None, ["ü"]]))
    store.record_uses([new_use(500, "192.0.2.1", "users:read", d7=3)])
    assert other_side.records() == store.records()
    assert other_side.events(10) == store.events(10)
    other_side.record_uses([new_use(600, "192.0.2.2", "a.b", d7=2)])
    with other_side.transaction() as tx:
        tx.put_client(CLIENT, change())
    assert other_side.find(TOKEN.id) == store.find(TOKEN.id)
    assert store.find(TOKEN.id)[2] == 3  # type: ignore[index]
    assert other_side.use_by_day(TOKEN.id) == store.use_by_day(TOKEN.id) == {7: 5}


def test_each_side_writes_the_same_text(store: DjangoStore, other_side: SQLAlchemyStore, alias: str) -> None:
    stored = []
    for side in (store, other_side):
        with side.transaction() as tx:
            tx.put_client(CLIENT, change())
            tx.put_token(TOKEN, change(scopes=[None, ["ü"]]))
        side.record_uses([new_use(500, "192.0.2.1", "users:read")])
        with connections[alias].cursor() as cursor:
            rows = {}
            for table in ("client", "token", "use"):
                cursor.execute(f"SELECT * FROM tokenguard_{table}")
                rows[table] = cursor.fetchall()
            cursor.execute("SELECT kind, at, actor, client_id, token_id, data FROM tokenguard_event ORDER BY number")
            rows["event"] = cursor.fetchall()[-2:]
        stored.append(rows)
    assert stored[0] == stored[1]


def test_processes_of_both_sides_queue_up_at_the_counter(store: DjangoStore, other_side: SQLAlchemyStore) -> None:
    def write(side: DjangoStore | SQLAlchemyStore) -> None:
        for _ in range(10):
            with side.transaction() as tx:
                tx.put_client(CLIENT, change())

    run_together([lambda side=side: write(side) for side in (store, other_side) * 3])  # type: ignore[misc]
    assert [event.number for event in store.feed(0).events] == list(range(1, 61))


@pytest.fixture
def _cached_orm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer each query of the ORM once, and then from memory, as a package does that has not heard of a change."""
    kept: dict[object, Any] = {}
    ask = SQLCompiler.execute_sql

    def answer(compiler: SQLCompiler, *args: Any, **options: Any) -> Any:
        if compiler.query.select_for_update or isinstance(compiler, SQLUpdateCompiler | SQLDeleteCompiler):
            return ask(compiler, *args, **options)
        asked = (compiler.using, *compiler.as_sql())
        if asked not in kept:
            found = ask(compiler, *args, **options)
            kept[asked] = [*found] if isinstance(found, Iterator) else found
        return kept[asked]

    monkeypatch.setattr(SQLCompiler, "execute_sql", answer)


@pytest.mark.usefixtures("_cached_orm")
def test_no_change_is_based_on_what_the_orm_has_read_before(store: DjangoStore, other_side: SQLAlchemyStore) -> None:
    """Packages such as django-cachalot cache that, and do not learn of what another service writes."""

    def has_both() -> bool:
        return (store.clients(), store.events(9)) == (other_side.clients(), other_side.events(9))

    ours, theirs = World(store), World(other_side)
    client = ours.client()
    assert store.client(client.name) == client
    assert has_both()
    theirs.issuer.disable(client.id, actor="tests")
    ours.issuer.set_scopes(client.id, "users:read", actor="tests")
    assert other_side.client(client.id) == replace(client, scopes=Scopes(["users:read"]), enabled=False)
    assert store.client(client.name) == other_side.client(client.id)
    assert has_both()


@pytest.mark.usefixtures("_cached_orm")
def test_no_use_is_added_to_a_number_that_the_orm_has_read_before(
    store: DjangoStore, other_side: SQLAlchemyStore
) -> None:
    with store.transaction() as tx:
        tx.put_client(CLIENT, change())
        tx.put_token(TOKEN, change())
    for at, side in enumerate((store, store, other_side, store), start=500):
        side.record_uses([new_use(at, d7=1)])
        assert store.use_by_day(TOKEN.id) == {7: at - 499}


@pytest.mark.usefixtures("_cached_orm")
def test_a_flush_is_noticed_whatever_the_orm_has_read_before(store: DjangoStore, alias: str) -> None:
    restore_counter(None, alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("DELETE FROM tokenguard_revision")
    assert schema_version(connections[alias]) == 0
    restore_counter(None, alias)
    assert schema_version(connections[alias]) == schema.latest()


# Queries


def test_finding_a_token_is_one_query(store: DjangoStore, alias: str) -> None:
    issued = World(store).issue()
    with CaptureQueriesContext(connections[alias]) as queries:
        assert store.find(issued.token.id) is not None
    assert len(queries) == 1


def test_who_watches_or_forbids_the_projects_queries_has_those_of_a_request_too(
    store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    with connections[alias].execute_wrapper(watch):
        store.standing(Read.of(TOKEN))
    assert len(asked) == 1

    def forbidden() -> None:
        raise RuntimeError("no database in this test")

    monkeypatch.setattr(connections[alias], "cursor", forbidden)  # as a SimpleTestCase does
    with pytest.raises(RuntimeError, match="no database in this test"):
        store.standing(Read.of(TOKEN))


@pytest.fixture
def of_the_project(alias: str) -> Iterator[type[Model]]:
    """A model of the project's own with a foreign key to tokens. Only models of an installed app are related."""

    class Report(Model):
        token = ForeignKey(models.Token, CASCADE, related_name="+")

        class Meta:
            app_label = "auth"

    try:
        with connections[alias].schema_editor() as schema_editor:
            schema_editor.create_model(Report)
        yield Report
    finally:
        del apps.all_models["auth"]["report"]
        apps.clear_cache()


def test_rows_that_go_with_a_deleted_token_are_not_counted_as_tokens(
    store: DjangoStore, alias: str, of_the_project: Any
) -> None:
    with store.transaction() as tx:
        tx.put_client(CLIENT, change())
        tx.put_token(TOKEN, change())
    reports = of_the_project._default_manager.using(alias)
    reports.bulk_create([of_the_project(token_id=TOKEN.id) for _ in range(3)])
    with store.transaction() as tx:
        assert tx.delete_tokens([TOKEN.id]) == 1
    assert not reports.exists()


def test_first_uses_are_added_in_one_order_whoever_writes_them(store: DjangoStore, alias: str) -> None:
    """So that two writers of the same uses do not deadlock."""
    tokens = put_tokens(store, 20)
    with CaptureQueriesContext(connections[alias]) as queries:
        store.record_uses([new_use(500)._replace(token_id=token.id) for token in reversed(tokens)])
    added, *_ = [query["sql"] for query in queries if re.match('INSERT .*INTO "tokenguard_use" ', query["sql"])]
    assert re.findall(r"\d{16}", added) == [token.id for token in tokens]


def _rows_not_read_to_the_end(alias: str) -> Iterator[object]:
    rows = models.Event.objects.using(alias).order_by("number").iterator(chunk_size=1)
    next(rows)
    return rows


@on_sqlite
def test_a_cursor_that_is_left_open_does_not_keep_the_feed_from_what_is_new(
    store: DjangoStore, alias: str, other_side: SQLAlchemyStore
) -> None:
    """In SQLite's write-ahead mode the connection sees an old state for as long as the cursor is open."""
    connections[alias].cursor().execute("PRAGMA journal_mode = WAL")
    issued = World(store).issue()
    World(store).client("another")
    rows = _rows_not_read_to_the_end(alias)
    World(other_side).issuer.revoke(issued.token.id, actor="tests")
    assert models.Event.objects.using(alias).count() == 3  # the old state
    feed = store.feed(4)
    assert [(event.kind, event.token_id) for event in feed.events] == [("token.revoked", issued.token.id)]
    assert len([*rows]) == 2


@on_sqlite
def test_the_feed_on_sqlite_is_one_query_of_the_project_that_leaves_nothing_open(
    store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, opened = connections[alias], list[sqlite3.Connection]()
    connect = type(connection).get_new_connection

    def noted(self: Any, parameters: Any) -> Any:
        opened.append(connect(self, parameters))
        return opened[-1]

    monkeypatch.setattr(type(connection), "get_new_connection", noted)
    heard: list[str] = []

    def hear(execute: Any, sql: str, *rest: Any) -> Any:
        heard.append(sql)
        return execute(sql, *rest)

    with CaptureQueriesContext(connection) as queries, connection.execute_wrapper(hear):
        assert store.feed(0).revision == 0
    assert (len(queries), len(heard)) == (1, 1)
    (own,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        own.execute("SELECT 1")


@on_sqlite
def test_in_a_transaction_the_feed_is_read_as_that_has_it(store: DjangoStore, alias: str) -> None:
    with transaction.atomic(using=alias):
        World(store).client()
        assert store.feed(0).revision == 1


def test_a_database_in_memory_has_no_other_connection() -> None:
    with django_alias("sqlite:///:memory:") as alias:
        store = DjangoStore(alias)
        store.upgrade()
        World(store).client()
        assert store.feed(0).revision == 1
        connections[alias].connection.close()  # Django does not close it, as a database in memory would be lost


# The project's transactions


def test_a_write_is_a_part_of_the_transaction_around_it(store: DjangoStore, alias: str) -> None:
    hooks, heard = Hooks(), []
    hooks.issued.append(lambda token, client: heard.append(token.id))
    world = World(store, hooks=hooks)
    with transaction.atomic(using=alias):
        world.issue()
        transaction.set_rollback(True, using=alias)
    assert (store.records(), store.events(10), heard) == ([], [], [])
    with transaction.atomic(using=alias):
        issued = world.issue()
        assert heard == []
    assert heard == [issued.token.id]
    assert store.feed(0).revision == 2


def test_what_is_refused_inside_a_transaction_does_not_break_it(store: DjangoStore, alias: str) -> None:
    world = World(store)
    with transaction.atomic(using=alias):
        client = world.client()
        with pytest.raises(Exception, match="already a client"):
            world.client()
        world.issue(client=client.id)
    assert len(store.records()) == 1


@pytest.mark.parametrize("method", ["authenticate", "introspect"])
def test_in_it_uses_that_wait_keep_a_token_alive_and_are_not_written(alias: str, method: str) -> None:
    clock = StoppedClock()
    store = DjangoStore(alias, clock=clock)
    store.upgrade()
    world = World(store, clock)
    issued = world.issue(idle_timeout=3600)
    world.use(issued)
    clock.move(59)
    world.use(issued)
    clock.move(3602)  # idle by the use on record, but not by the one that waits
    with transaction.atomic(using=alias):
        getattr(world.guard, method)(issued.text)
        transaction.set_rollback(True, using=alias)
    assert sum(store.use_by_day(issued.token.id).values()) == 1
    assert works(world, issued)
    assert sum(store.use_by_day(issued.token.id).values()) == 2


def test_nothing_is_read_in_one_that_is_to_be_undone(store: DjangoStore, alias: str) -> None:
    """As after an error in the transaction: what was written in it can no longer be relied on."""
    with transaction.atomic(using=alias):
        issued = World(store).issue()
        transaction.set_rollback(True, using=alias)
        for ask in (lambda: store.standing(Read.of(issued.token)), store.clients):
            with pytest.raises(StoreUnavailable, match="An error occurred in the current transaction"):
                ask()


def test_in_it_an_idle_token_is_refused_and_its_end_is_recorded_by_a_later_request(alias: str) -> None:
    clock = StoppedClock()
    store = DjangoStore(alias, clock=clock)
    store.upgrade()
    world = World(store, clock)
    issued = world.issue(idle_timeout=3600)
    clock.move(3660)
    with transaction.atomic(using=alias), CaptureQueriesContext(connections[alias]) as queries:
        assert why_not(world, issued) == "idle"
    assert [query["sql"].partition(" ")[0] for query in queries] == ["SELECT"]  # no write, so nobody waits for it
    assert why_not(world, issued) == "idle"
    assert [event.kind for event in store.events(1)] == ["token.idle_ended"]


@on_postgresql
def test_the_callers_lock_timeout_holds_again_after_a_write(store: DjangoStore, alias: str) -> None:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        World(store).client()
        store.record_uses([new_use(1)])
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)


def test_a_writer_that_waits_too_long_says_so_and_changes_nothing(
    store: DjangoStore, alias: str, other_side: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenguard.django.store.LOCK_TIMEOUT", 1)
    if connections[alias].vendor == "sqlite":
        connections[alias].cursor().execute("PRAGMA busy_timeout = 100")
    with ExitStack() as held:
        held.enter_context(other_side.transaction()).put_client(CLIENT, change())
        with pytest.raises(StoreBusy, match="another writer held the database"):
            held.enter_context(store.transaction())
        assert store.find(TOKEN.id) is None  # readers do not wait for writers
        assert (store.clients(), store.records(), store.events(1)) == ([], [], [])
    assert store.client("billing") == CLIENT


@on_sqlite
def test_a_use_waits_less_long_for_sqlites_only_lock_than_a_change(
    store: DjangoStore, alias: str, other_side: SQLAlchemyStore
) -> None:
    """The thread that writes it has answered, but takes no other request meanwhile."""
    issued = World(store).issue()
    uses = [new_use(9000, d7=1)._replace(token_id=issued.token.id)]  # so that the time on record is the clock's

    def patience() -> int:
        found: int = connections[alias].connection.execute("PRAGMA busy_timeout").fetchone()[0]
        return found

    before, store._clock = patience(), patience  # which is asked in the middle of it
    assert store.record_uses(uses) == set()
    assert (before, store.find(issued.token.id).last_used_at) == (5000, 1000)
    with other_side.transaction(), pytest.raises(StoreBusy):
        store.record_uses(uses)
    assert patience() == before


@on_sqlite
def test_on_sqlite_a_write_waits_its_turn_however_transactions_begin(store: DjangoStore, alias: str) -> None:
    """Also where the project has left them DEFERRED, and another writes between the reading and writing of this one."""
    connections[alias].close()
    connections[alias].settings_dict["OPTIONS"] = {}
    issued = World(store).issue()
    uses = [new_use(500, d7=1)._replace(token_id=issued.token.id)]

    def write() -> None:
        for _ in range(8):
            with store.transaction() as tx:
                tx.put_client(replace(CLIENT, name="another"), change())
            write_until_done(store, uses)

    run_together([write] * 3)
    assert store.use_by_day(issued.token.id) == {7: 24}
    assert store.feed(27).revision == 26


def test_what_nobody_would_commit_is_not_written(store: DjangoStore, alias: str) -> None:
    """As where a project has turned Django's autocommit off: a revocation must not be reported and then be lost."""
    issued = World(store).issue()
    transaction.set_autocommit(False, using=alias)
    try:
        with pytest.raises(StoreUnavailable, match="nothing would commit"):
            World(store).issuer.revoke(issued.token.id, actor="tests")
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)
    World(store).issuer.revoke(issued.token.id, actor="tests")


@on_postgresql
def test_writers_under_a_stricter_isolation_are_told_to_try_again(
    store: DjangoStore, alias: str, other_side: SQLAlchemyStore
) -> None:
    @transaction.atomic(using=alias)
    def too_late() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT 1 FROM tokenguard_client")
        World(other_side).client()
        World(store).client("another")

    with pytest.raises(StoreBusy, match="another writer came first"):
        too_late()
    assert [client.name for client in store.clients()] == ["billing"]


@pytest.mark.parametrize("table", ["client", "token", "event", "use", "use_day"])
def test_a_table_that_is_missing_is_not_called_set_up(sqlite_url: str, table: str) -> None:
    with django_alias(sqlite_url) as alias:
        store = DjangoStore(alias)
        store.upgrade()
        connections[alias].cursor().execute(f"DROP TABLE tokenguard_{table}")
        with pytest.raises(SchemaError, match=f"the table tokenguard_{table} is missing: restore the database"):
            store.upgrade()


# Where it is kept


class _TokensElsewhere:
    def db_for_read(self, model: type, **hints: object) -> str:
        return "replica"

    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "of_this_test" if model._meta.app_label == "tokenguard" else None  # type: ignore[attr-defined]

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return db == "of_this_test" if app_label == "tokenguard" else None


@override_settings(DATABASE_ROUTERS=["tests.test_django_store._TokensElsewhere"])
def test_a_router_says_where_and_no_replica_is_asked(alias: str) -> None:
    store = DjangoStore()
    store.upgrade()
    issued = World(store).issue()
    assert store.using == alias
    assert store.find(issued.token.id) is not None
    assert len(store.clients()) == len(store.records()) == 1
    assert len(store.events(5)) == 2


class _ByTenant:
    """A database for each tenant."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant

    def db_for_write(self, model: type, **hints: object) -> str:
        return self.tenant


def test_once_the_routers_name_another_database_everything_is_refused(sqlite_url: str) -> None:
    with django_alias(sqlite_url) as alias, override_settings(DATABASE_ROUTERS=[router := _ByTenant(alias)]):
        store = DjangoStore()
        store.upgrade()
        issued = World(store).issue()
        router.tenant = "default"
        both = f"{alias!r} for the tokens, and then 'default'"
        for ask in (lambda: store.standing(Read.of(issued.token)), lambda: store.feed(0), lambda: store.using):
            with pytest.raises(StoreUnavailable, match=both):
                ask()
        assert not store.in_transaction
        router.tenant = alias
        with pytest.raises(StoreUnavailable, match=both):
            store.feed(0)
        assert DjangoStore().find(issued.token.id) is not None


def test_the_routers_choice_is_that_of_when_the_store_was_made(sqlite_url: str) -> None:
    with django_alias(sqlite_url) as alias, override_settings(DATABASE_ROUTERS=[router := _ByTenant("default")]):
        store = DjangoStore()
        router.tenant = alias
        with pytest.raises(StoreUnavailable, match=r'name it with TOKENGUARD\["USING"\]'):
            store.upgrade()
        named = DjangoStore(alias)
        router.tenant = "default"
        named.upgrade()
        named.check()


@override_settings(DATABASE_ROUTERS=["tests.test_django_store._TokensElsewhere"])
def test_a_database_that_a_router_keeps_from_migrations_is_not_ready(sqlite_url: str, tmp_path: Path) -> None:
    with django_alias(sqlite_url) as alias:
        connections.databases["other"] = connections[alias].settings_dict | {"NAME": str(tmp_path / "other.db")}
        try:
            with pytest.raises(SchemaError, match=r'run "manage.py migrate tokenguard --database of_this_test"$'):
                DjangoStore(alias).check()
            router = "once the database routers let the migrations of tokenguard go there$"
            with pytest.raises(SchemaError, match=rf'run "manage.py migrate tokenguard --database other", {router}'):
                DjangoStore("other").check()
            for _ in range(2):
                with pytest.raises(SchemaError, match=router):
                    DjangoStore("other").upgrade()
            with override_settings(DATABASE_ROUTERS=[]):
                assert DjangoStore("other").upgrade() == (0, schema.latest())
        finally:
            connections["other"].close()
            del connections["other"], connections.databases["other"]


def test_a_forked_child_does_not_use_its_parents_connection(store: DjangoStore, alias: str) -> None:
    """Nor one to a file: SQLite forbids it."""
    assert store.clients() == []
    parents = connections[alias].connection
    assert in_child(lambda: (store.clients(), connections[alias].connection is parents)) == ([], False)
    assert store.clients() == []
    assert connections[alias].connection is parents


@on_sqlite
def test_a_forked_child_does_not_undo_what_its_parent_is_writing(store: DjangoStore, alias: str) -> None:
    """It would by closing the parent's connection: SQLite then puts the old pages back into the file."""
    world = World(store)
    connections[alias].cursor().execute("PRAGMA cache_size = 1")  # pages go to the file before the commit
    with transaction.atomic(using=alias):
        issued = [world.issue().token.id for _ in range(50)]
        in_child(gc.collect)
    connections[alias].close()
    assert sorted(record.token.id for record in store.records()) == sorted(issued)


def test_a_forked_child_keeps_a_database_in_memory() -> None:
    """As the processes of Django's test runner with ``--parallel`` do."""
    with django_alias("sqlite:///:memory:") as alias:
        store = DjangoStore(alias)
        store.upgrade()
        World(store).client()
        assert in_child(lambda: [client.name for client in store.clients()]) == ["billing"]
        connections[alias].connection.close()  # Django never closes such a database


def test_what_a_driver_says_of_its_own_use_is_told(
    store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(self: Any) -> None:
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(type(connections[alias]), "cursor", closed)
    for ask in (store.clients, store.records, store.check, lambda: store.events(1), lambda: World(store).client()):
        with pytest.raises(StoreUnavailable, match="the database cannot be used: connection already closed"):
            ask()


def test_a_router_that_leads_nowhere_is_named() -> None:
    store = DjangoStore("gone")
    for ask in (*reads(store), lambda: store.record_uses([])):
        with pytest.raises(StoreUnavailable, match="the database 'gone' cannot be used"):
            ask()


def test_an_engine_that_is_not_there_is_told(sqlite_url: str) -> None:
    with django_alias(sqlite_url) as alias:
        connections.databases[alias]["ENGINE"] = "tests.no_such_engine"
        with pytest.raises(StoreUnavailable, match=r"'of_this_test' cannot be used: 'tests\.no_such_engine' isn't"):
            DjangoStore(alias).find(TOKEN.id)
        connections.databases[alias]["ENGINE"] = "django.db.backends.sqlite3"


def test_using_names_the_database(alias: str) -> None:
    with override_settings(TOKENGUARD={"USING": alias, "SIGNING_KEY": KEY}):
        assert get_store() == get_store()
        assert get_store().using == alias  # type: ignore[attr-defined]


# A replica

Replica: TypeAlias = tuple[DjangoStore, Callable[[], None]]


@pytest.fixture
def replica(sqlite_url: str, tmp_path: Path) -> Iterator[Replica]:
    """A store with a replica, and a function that makes the replica catch up."""
    with django_alias(sqlite_url) as alias:
        lagging = tmp_path / "replica.db"
        connections.databases["replica"] = connections[alias].settings_dict | {"NAME": str(lagging)}
        store = DjangoStore(alias, read_using="replica")
        store.upgrade()

        def catch_up() -> None:
            connections["replica"].close()
            shutil.copy(connections[alias].settings_dict["NAME"], lagging)

        catch_up()
        yield store, catch_up
        connections["replica"].close()
        del connections["replica"], connections.databases["replica"]


@contextmanager
def _asked(*aliases: str) -> Iterator[list[int]]:
    """Count the queries to each of these databases in the block."""
    counts: list[int] = []
    with ExitStack() as stack:
        captured = [stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in aliases]
        yield counts
        counts += [len(queries) for queries in captured]


def test_a_replica_is_asked_for_tokens_and_for_nothing_else(replica: Replica) -> None:
    store, catch_up = replica
    issued = World(store).issue()
    catch_up()
    assert store.standing(Read.of(issued.token)) is not None  # and it was checked that it is one
    with _asked("replica", store.using) as counts:
        assert store.standing(Read.of(issued.token)) is not None
    assert counts == [1, 0]
    with _asked("replica", store.using) as counts:
        assert store.standing(Read.of(issued.token), primary=True) is not None
        store.feed(0)
        store.clients()
        store.records()
    assert counts == [0, 4]


def test_in_a_transaction_of_the_caller_the_primary_is_asked(replica: Replica) -> None:
    store, _ = replica
    world = World(store)
    with transaction.atomic(using=store.using):
        issued = world.issue()
        assert store.standing(Read.of(issued.token)) is not None
        assert works(world, issued)


def test_what_a_replica_has_not_heard_of_yet_holds_all_the_same(replica: Replica) -> None:
    store, catch_up = replica
    world, elsewhere = World(store), World(DjangoStore(store.using))
    issued = world.issue()
    assert works(world, issued)  # the replica does not have it yet
    catch_up()
    elsewhere.issuer.revoke(issued.token.id, actor="tests")
    assert store.standing(Read.of(issued.token)).revoked_at is None  # type: ignore[union-attr]
    assert why_not(world, issued, _forgetful(world)) == "revoked"


def _forgetful(world: World) -> Guard:
    """A guard that has just started."""
    return Guard(world.store, world.tokens, catalog=world.catalog, clock=world.clock)


def test_a_replica_that_cannot_be_reached_is_left_alone_for_a_while(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    store, catch_up = replica
    world = World(store)
    issued = world.issue()
    catch_up()
    connections["replica"].close()
    where = connections["replica"].settings_dict["NAME"]
    connections["replica"].settings_dict["NAME"] = "/nowhere/replica.db"
    for _ in range(3):
        assert why_not(world, issued, _forgetful(world)) == ""
    assert caplog.text.count("the read replica is not used for 10 s: ") == 1
    connections["replica"].settings_dict["NAME"] = where
    store._replica.forget()
    assert store.standing(Read.of(issued.token)) is not None
    with _asked(store.using) as counts:
        assert store.standing(Read.of(issued.token)) is not None
    assert counts == [0]


def test_a_replica_that_is_not_there_is_no_obstacle_either(alias: str) -> None:
    store = DjangoStore(alias, read_using="gone")
    store.upgrade()
    world = World(store)
    assert works(world, world.issue())
    with pytest.raises(StoreUnavailable, match="the database 'gone' cannot be used"):
        store.check_replica()


def test_a_replica_of_another_database_is_not_believed(replica: Replica) -> None:
    """Where it has seen more changes, it may still let in what was revoked here."""
    store, catch_up = replica
    store.check_replica()  # neither has seen a change
    World(store).issue()
    store.check_replica()
    catch_up()
    store.check_replica()
    other = World(DjangoStore("replica"))  # as a copy that was restored elsewhere
    other.client("another")
    with pytest.raises(OtherHistory, match=r"^it follows another database: its event 3 is not the primary's$"):
        store.check_replica()
    assert store.standing(NO_TOKEN) is None
    World(store).client("mine")
    with pytest.raises(OtherHistory):
        store.check_replica()


# Migrations


def test_tables_that_the_command_line_made_are_recognised(alias: str, database_url: str) -> None:
    other_side = SQLAlchemyStore(database_url)
    other_side.upgrade()
    issued = World(other_side).issue()
    call_command("migrate", database=alias, verbosity=0)
    store = DjangoStore(alias)
    store.check()
    assert store.upgrade() == (schema.latest(), schema.latest())
    assert store.records() == other_side.records()
    assert World(store).guard.authenticate(issued.text).client_name == "billing"
    assert MigrationRecorder(connections[alias]).migration_qs.filter(app="tokenguard").count() == schema.latest()
    other_side.close()


def test_tables_that_migrate_made_are_recognised(store: DjangoStore, other_side: SQLAlchemyStore) -> None:
    issued = World(store).issue()
    assert other_side.upgrade() == (schema.latest(), schema.latest())
    other_side.check()
    assert other_side.records() == store.records()
    assert World(other_side).guard.authenticate(issued.text).client_name == "billing"


@pytest.mark.parametrize("first", ["migrate", "init"])
def test_what_one_side_began_the_other_brings_up_to_date(alias: str, database_url: str, first: str) -> None:
    """A service of an older version set the database up; every row is kept."""
    other_side = SQLAlchemyStore(database_url)
    if first == "migrate":
        call_command("migrate", "tokenguard", "0001", database=alias, verbosity=0)
    else:
        Path(other_side.url.database or "").touch() if connections[alias].vendor == "sqlite" else None
        with other_side._writing.begin() as connection:
            for statement in schema.statements(1):
                connection.exec_driver_sql(statement)
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO tokenguard_client VALUES ('c', 'billing', '[\"a\"]', true, 5)")
    later: DjangoStore | SQLAlchemyStore = other_side if first == "migrate" else DjangoStore(alias)
    with pytest.raises(SchemaError, match=f"has schema version 1, but this tokenguard needs {schema.latest()}"):
        later.check()
    assert later.upgrade() == (1, schema.latest())
    call_command("migrate", database=alias, verbosity=0)
    assert other_side.upgrade() == (schema.latest(), schema.latest())
    assert DjangoStore(alias).clients() == other_side.clients()
    assert [client.name for client in other_side.clients()] == ["billing"]
    other_side.close()


@pytest.mark.parametrize("begin", ["as they are told", "as Django does by itself"])
def test_both_sides_at_once_set_the_tables_up_once(alias: str, database_url: str, begin: str) -> None:
    if begin == "as Django does by itself":
        connections[alias].settings_dict["OPTIONS"] = {}
    sides = [ThreadsStore(alias), *[SQLAlchemyStore(database_url) for _ in range(3)]]
    sides[1].upgrade() if connections[alias].vendor == "sqlite" else None  # creates the file, which Django needs
    run_together([side.upgrade for side in sides])
    for side in sides:
        side.check()
        if isinstance(side, SQLAlchemyStore):
            side.close()


# There is no database with a history to check, and none is needed.
@pytest.mark.filterwarnings("ignore:Got an error checking a consistent migration history")
def test_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("migrated", [False, True])
def test_the_statements_of_a_migration_are_told(alias: str, migrated: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if migrated:
        DjangoStore(alias).upgrade()
    for number, name in enumerate(("0001", "0002", "0003"), 1):
        call_command("sqlmigrate", "tokenguard", name, database=alias)
        told = capsys.readouterr().out
        assert [statement for statement in schema.statements(number) if statement not in told] == []
    assert bool(schema_version(connections[alias])) == migrated


def test_migrations_do_not_go_back(store: DjangoStore, alias: str) -> None:
    World(store).issue()
    with pytest.raises(CommandError, match="cannot be migrated back"):
        call_command("migrate", "tokenguard", "zero", database=alias, verbosity=0)
    store.check()
    assert len(store.records()) == 1


def drop_tables(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        for name in sorted(tables(connections[alias]), key=lambda name: name == "tokenguard_client"):
            cursor.execute(f"DROP TABLE {name}")


def test_where_the_tables_are_dropped_they_go_back_and_come_again(store: DjangoStore, alias: str) -> None:
    drop_tables(alias)
    call_command("migrate", "tokenguard", "zero", database=alias, verbosity=0)
    call_command("migrate", "tokenguard", database=alias, verbosity=0)
    store.check()
    assert works(World(store), World(store).issue())


def test_where_some_tables_are_left_they_do_not_go_back(store: DjangoStore, alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("DROP TABLE tokenguard_revision")
    with pytest.raises(CommandError, match="Drop them by hand if nobody does, and run this again"):
        call_command("migrate", "tokenguard", "zero", database=alias, verbosity=0)


def test_tables_that_are_only_on_record_are_made(
    store: DjangoStore, alias: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_tables(alias)
    call_command("migrate", "tokenguard", database=alias, verbosity=0)  # it has nothing left to apply
    with pytest.raises(SchemaError, match=r'schema version 0, .*: run "manage.py tokenguard init"$'):
        store.check()
    with override_settings(TOKENGUARD={"USING": alias, "SIGNING_KEY": KEY}):
        monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
        call_command("migrate", "tokenguard", database=alias, verbosity=0, skip_checks=False)
        assert 'run "manage.py tokenguard init"' in capsys.readouterr().err
        call_command("tokenguard", "init")
        assert capsys.readouterr().err == f"Schema version {schema.latest()} is set up.\n"
        call_command("migrate", "tokenguard", database=alias, verbosity=0, skip_checks=False)
        assert "tokenguard init" not in capsys.readouterr().err
    store.check()
    assert works(World(store), World(store).issue())


@pytest.mark.parametrize("target", ["0001", "0002"])
def test_and_so_are_later_steps_that_are_only_on_record(alias: str, target: str) -> None:
    call_command("migrate", "tokenguard", target, database=alias, verbosity=0)
    call_command("migrate", "tokenguard", database=alias, verbosity=0, fake=True)
    store = DjangoStore(alias)
    with pytest.raises(SchemaError, match=rf'schema version {int(target)}, .*: run "manage.py tokenguard init"$'):
        store.check()
    with override_settings(TOKENGUARD={"USING": alias, "SIGNING_KEY": KEY}):
        call_command("tokenguard", "init")
    store.check()
    assert works(World(store), World(store).issue())


def test_what_other_applications_have_on_record_is_not_taken_for_ours(alias: str) -> None:
    for name in ("0001_initial", "0002_more", "0003_yet_more"):
        MigrationRecorder(connections[alias]).record_applied("another", name)
    with pytest.raises(SchemaError, match=f'run "manage.py migrate tokenguard --database {alias}"$'):
        DjangoStore(alias).check()


def test_a_first_step_that_is_only_on_record_is_made_with_the_second(alias: str) -> None:
    call_command("migrate", "tokenguard", "0001", database=alias, verbosity=0, fake=True)
    with pytest.raises(SchemaError, match=f'run "manage.py migrate tokenguard --database {alias}"$'):
        DjangoStore(alias).check()
    call_command("migrate", "tokenguard", database=alias, verbosity=0)
    DjangoStore(alias).check()


def test_a_row_of_the_counter_that_is_gone_comes_back_as_the_events_have_it(store: DjangoStore, alias: str) -> None:
    World(store).issue()
    with connections[alias].cursor() as cursor:
        cursor.execute("DELETE FROM tokenguard_revision")
    call_command("migrate", "tokenguard", database=alias, verbosity=0)
    assert store.feed(0).revision == 2
    World(store).client("another")
    assert store.feed(3).revision == 3


def test_and_is_of_the_version_that_the_tables_are_of(alias: str) -> None:
    for target in ("0001", "0001", "0002", "0003"):
        call_command("migrate", "tokenguard", target, database=alias, verbosity=0)
        assert schema_version(connections[alias]) == int(target)
        with connections[alias].cursor() as cursor:
            cursor.execute("DELETE FROM tokenguard_revision")
    DjangoStore(alias).upgrade()
    DjangoStore(alias).check()


def test_after_a_flush_it_begins_again(store: DjangoStore, alias: str) -> None:
    """As between the tests of a TransactionTestCase."""
    call_command("migrate", database=alias, verbosity=0)
    World(store).issue()
    call_command("flush", database=alias, interactive=False, verbosity=0)
    assert (store.records(), store.feed(0)) == ([], (0, ()))
    store.check()
    World(store).issue()
    assert store.feed(3).revision == 2


# What goes wrong


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    with django_alias(f"sqlite:///{tmp_path}/nowhere/tokens.db") as alias:
        store = DjangoStore(alias)
        changes = (lambda: World(store).client(), lambda: store.record_uses([new_use(1)]), store.upgrade)
        for attempt in (*reads(store), store.now, *changes):
            with pytest.raises(StoreUnavailable, match="unable to open database file"):
                attempt()


def test_another_kind_of_database_is_refused(store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connections[alias]), "vendor", "mysql")
    monkeypatch.setattr(type(connections[alias]), "display_name", "MySQL")
    with pytest.raises(SchemaError, match="SQLite and PostgreSQL, not MySQL"):
        store.find("A" * 16)


def test_the_models_do_not_save_or_delete(store: DjangoStore, alias: str) -> None:
    """Other processes would not learn of it."""
    issued = World(store).issue()
    tokens = models.Token.objects.using(alias)
    row = tokens.get()
    for attempt in (row.save, row.delete, tokens.delete, lambda: tokens.update(name="x"), tokens.create):
        with pytest.raises(models.ReadOnlyError, match="get_issuer"):
            attempt()
    assert store.find(issued.token.id) is not None
    assert (str(row), str(row.client)) == (issued.token.id, "billing")


def test_old_days_of_many_tokens_are_deleted_in_one_go(store: DjangoStore) -> None:
    """Every writer waits meanwhile."""
    token = World(store).issue().token
    with store.transaction() as tx:
        tx.put_token(replace(token, id="B" * 16), change())
    store.record_uses([new_use(500, d1=1)._replace(token_id=token_id) for token_id in (token.id, "B" * 16)])
    with store.transaction() as tx, CaptureQueriesContext(connections[store.using]) as queries:
        assert tx.delete_days(4, 10) == 2
    assert len([each for each in queries if "tokenguard_use_day" in each["sql"]]) == 2
