"""Django's store on PostgreSQL: nothing is kept by the session, no read takes for ever, and a server comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from tokenguard import EventKind, Issued, SchemaError, Store, StoreBusy, StoreUnavailable
from tokenguard.django import fast_queries, queries
from tokenguard.django.store import DjangoStore
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import FEED_LIMIT, Change
from tokenguard.tokens import Read

from .child import Child, in_child
from .conftest import World, django_alias, run_together
from .django_tables import migrate
from .postgresql import PostgreSQL, most_rows, pgbouncer, read_only, wait_until
from .store_contract import new_use


@pytest.fixture
def alias(postgresql_url: str) -> Iterator[str]:
    with django_alias(postgresql_url) as alias:
        yield alias


@pytest.fixture
def store(alias: str) -> DjangoStore:
    migrate(alias)
    return DjangoStore(alias)


@pytest.fixture
def issued(store: DjangoStore) -> Issued:
    return World(store).issue()


@pytest.fixture(params=["django", "sqlalchemy"])
def writer(request: pytest.FixtureRequest, store: DjangoStore, postgresql_url: str) -> Iterator[Store]:
    """A store of each kind."""
    if request.param == "django":
        yield store
        return
    other = SQLAlchemyStore(postgresql_url)
    yield other
    other.close()


def test_tables_are_found_in_a_shared_schema(store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the schema of a tenant, the introspection of django-tenants lists the tables of that schema alone."""
    with connections[alias].cursor() as cursor:
        cursor.execute("CREATE SCHEMA acme")
        cursor.execute("SET search_path = acme, public")
        monkeypatch.setattr(connections[alias].introspection, "get_table_list", lambda cursor: [])
        store.check()

        cursor.execute("SET search_path = acme")
        with pytest.raises(SchemaError, match="has schema version 0"):
            store.check()
        cursor.execute("DROP SCHEMA acme")


@contextmanager
def another(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's transaction, which the server ends if a test waits for it."""
    with psycopg.connect(url) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = '20s'")
        yield connection


# Uses


def test_what_another_is_just_writing_is_passed_over(store: DjangoStore, postgresql_url: str, writer: Store) -> None:
    world = World(store)
    held, free = (world.issue().token.id for _ in range(2))
    uses = [new_use(500, d7=1)._replace(token_id=token_id) for token_id in (held, free)]
    assert writer.record_uses([use._replace(requests={6: 1, 7: 1}) for use in uses]) == set()
    with another(postgresql_url) as other:
        other.execute("UPDATE tokenguard_use SET last_used_at = last_used_at + 1 WHERE token_id = %s", [held])
        # Its days too, and an old one that is just being pruned.
        other.execute("SELECT 1 FROM tokenguard_use_day WHERE token_id = %s OR day = 6 FOR UPDATE", [held])
        assert writer.record_uses(uses) == {held}
    assert (writer.use_by_day(held), writer.use_by_day(free)) == ({6: 1, 7: 1}, {6: 1, 7: 2})


@pytest.mark.parametrize("table", ["tokenguard_use", "tokenguard_use_day"])
def test_who_may_not_write_uses_gets_the_error_even_for_a_token_that_is_unknown(store: DjangoStore, table: str) -> None:
    """That is how the doctor asks."""
    assert store.record_uses([new_use(1)]) == set()
    with connections[store.using].cursor() as cursor:
        cursor.execute("CREATE ROLE lacking; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO lacking")
        cursor.execute(f"REVOKE INSERT ON {table} FROM lacking; SET ROLE lacking")
        try:
            with pytest.raises(StoreUnavailable, match=f"permission denied for table {table}"):
                store.record_uses([new_use(1)])
        finally:
            cursor.execute("RESET ROLE; DROP OWNED BY lacking; DROP ROLE lacking")


def test_what_another_is_just_counting_is_not_waited_for_to_be_deleted(writer: Store, postgresql_url: str) -> None:
    token_id = World(writer).issue().token.id
    writer.record_uses([new_use(500, d7=1, d8=1)._replace(token_id=token_id)])
    with another(postgresql_url) as other:
        other.execute("UPDATE tokenguard_use_day SET requests = 5 WHERE day = 8")
        with writer.transaction() as tx:
            assert tx.delete_days(9, 10) == 1
    assert writer.use_by_day(token_id) == {8: 5}


def test_tokens_are_deleted_in_the_order_in_which_uses_are_written(writer: Store, postgresql_url: str) -> None:
    """The holder of a use's row may count its days: a deletion that waits for the row has locked none of them."""
    token_id = World(writer).issue().token.id
    writer.record_uses([new_use(500, d7=1)._replace(token_id=token_id)])

    def delete() -> None:
        with writer.transaction() as tx:
            tx.delete_tokens([token_id])
        if isinstance(writer, DjangoStore):
            connections[writer.using].close()

    with another(postgresql_url) as other:
        other.execute("SELECT 1 FROM tokenguard_use FOR UPDATE")
        deleting = threading.Thread(target=delete)
        deleting.start()
        wait_until(lambda: other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        other.execute("SELECT 1 FROM tokenguard_use_day FOR UPDATE NOWAIT")
    deleting.join()
    assert writer.use_by_day(token_id) == {}


def test_a_table_of_uses_that_is_locked_is_not_waited_for(writer: Store, postgresql_url: str) -> None:
    use = new_use(500, d7=1)._replace(token_id=World(writer).issue().token.id)
    with another(postgresql_url) as other:
        # A second writer of a token's very first use waits for the first one in this way.
        other.execute("INSERT INTO tokenguard_use VALUES (%s, 1, '', '[]')", [use.token_id])
        with pytest.raises(StoreBusy, match="another writer held the database"):
            writer.record_uses([use])
        other.rollback()
    assert writer.record_uses([use]) == set()


def test_a_row_that_somebody_else_holds_is_not_waited_for_without_end(
    store: DjangoStore, postgresql_url: str, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a transaction that was left open or prepared: meanwhile this one keeps all other writers waiting."""
    monkeypatch.setattr("tokenguard.django.store.LOCK_TIMEOUT", 1)
    world = World(store)
    token_id = world.issue().token.id
    with another(postgresql_url) as other, transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '5s'")  # nobody waits for ever, whatever happens
        cursor.execute("SET LOCAL lock_timeout = '19s'")
        other.execute("SELECT 1 FROM tokenguard_token FOR UPDATE")
        with pytest.raises(StoreBusy, match="nothing was done"):
            world.issuer.revoke(token_id, actor="tests")
        assert _setting(alias, "lock_timeout") == "19s"
        other.execute("SELECT 1 FROM tokenguard_revision FOR UPDATE NOWAIT")  # others need not wait any more
    assert [event.kind for event in store.events(1)] == ["token.issued"]


# Order


def test_what_is_in_order_is_so_wherever_the_rows_lie(writer: Store, postgresql_url: str) -> None:
    with writer.transaction() as tx:
        for at in (300, 200, 100):  # as hosts with different clocks write them
            tx.note(Change(EventKind.PRUNED, at, "tests"))
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        other.execute("UPDATE tokenguard_event SET actor = 'moved' WHERE number = 1")
    assert [event.number for event in writer.feed(0).events] == [1, 2, 3]
    assert [event.number for event in writer.events(10)] == [1, 2, 3]
    with writer.transaction() as tx:
        assert tx.delete_events(400, 1) == 1
    assert [event.number for event in writer.events(10)] == [2, 3]


def test_a_connection_made_while_nothing_could_be_written_is_not_kept(
    store: DjangoStore, alias: str, postgresql_url: str
) -> None:
    world, connection = World(store), connections[alias]
    connection.close()
    connection.settings_dict["CONN_MAX_AGE"] = None
    with read_only(postgresql_url), pytest.raises(StoreUnavailable, match="is not writable"):
        world.client()
    connection.close_if_unusable_or_obsolete()  # as Django does when a request is over
    world.client()


# Time


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads may take a tenth of a second."""
    monkeypatch.setattr(fast_queries, "READ_TIMEOUT", 0.1)
    for name in ("_FIND", "_FEED"):
        monkeypatch.setattr(queries, name, fast_queries.FastQuery(getattr(queries, name).text))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("timeout_of_the_project", ["0", "30s", "50ms"])
def test_a_read_that_takes_too_long_is_given_up(
    store: DjangoStore, issued: Issued, alias: str, postgresql_url: str, timeout_of_the_project: str
) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{timeout_of_the_project}'")
    with psycopg.connect(postgresql_url) as holder:
        holder.execute("SET idle_in_transaction_session_timeout = '20s'")  # nobody waits for ever, whatever happens
        holder.execute("LOCK TABLE tokenguard_token, tokenguard_event")
        for read in (lambda: store.find(issued.token.id), lambda: store.feed(0)):
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable, match="did not answer in time"):
                read()
            assert time.monotonic() - begun < 20
            assert _setting(alias, "statement_timeout") == timeout_of_the_project
    assert store.find(issued.token.id) is not None
    assert store.feed(0).revision == 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begin", ["atomic", "autocommit"])
def test_the_callers_transaction_keeps_its_own_limit(
    store: DjangoStore, issued: Issued, alias: str, begin: str
) -> None:
    if begin == "atomic":
        with transaction.atomic(using=alias):
            assert store.find(issued.token.id) is not None
            assert _setting(alias, "statement_timeout") == "0"
        return
    transaction.set_autocommit(False, using=alias)
    try:
        assert store.find(issued.token.id) is not None
        assert _setting(alias, "statement_timeout") == "0"
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)


@pytest.mark.parametrize("binding", [False, True])
def test_values_may_be_bound_by_the_server(postgresql_url: str, binding: bool) -> None:
    with django_alias(postgresql_url) as alias:
        connections[alias].settings_dict["OPTIONS"] = {"server_side_binding": binding}
        store = DjangoStore(alias)
        store.upgrade()
        issued = World(store).issue()
        assert store.find(issued.token.id) == store.records()[0]
        assert store.find("'; DROP TABLE tokenguard_token; --") is None
        assert store.feed(2).revision == 2


# Sessions


def test_nothing_of_it_is_kept_by_the_session(store: DjangoStore, alias: str) -> None:
    """So that a pooler may give each transaction another connection."""
    before = _session(alias)
    world = World(store)
    issued = world.issue()
    for _ in range(10):  # the driver would prepare a query that runs more than five times
        store.find(issued.token.id)
        store.feed(0)
        store.records()
    store.record_uses([new_use(500, d7=1)._replace(token_id=issued.token.id)])
    world.issuer.revoke(issued.token.id, actor="tests")
    assert _session(alias) == before


def test_a_pooler_may_give_each_transaction_another_connection(postgresql_url: str) -> None:
    SQLAlchemyStore(postgresql_url).upgrade()
    with pgbouncer(postgresql_url, 2) as url, django_alias(url) as alias:
        store = DjangoStore(alias)
        issued = World(store).issue()

        def work() -> None:
            try:
                for _ in range(20):
                    assert store.find(issued.token.id) is not None
                    assert store.feed(0).revision >= 2
                with transaction.atomic(using=alias):
                    World(store).issuer.set_scopes("billing", "users:manage", actor="tests")
                store.record_uses([new_use(500, d7=1)._replace(token_id=issued.token.id)])
            finally:
                connections[alias].close()

        run_together([work] * 6)
        with psycopg.connect(url, autocommit=True) as through:
            assert through.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_what_is_read_for_a_request_is_one_query_each(store: DjangoStore, issued: Issued, alias: str) -> None:
    with CaptureQueriesContext(connections[alias]) as queries:
        store.find(issued.token.id)
        store.feed(0)
    assert len(queries) == 2


def test_a_server_that_is_no_replica_is_not_asked_in_place_of_the_primary(
    alias: str, issued: Issued, caplog: pytest.LogCaptureFixture
) -> None:
    store = DjangoStore(alias, read_using=alias)
    assert store.standing(Read.of(issued.token)) is None
    assert caplog.messages == ["the read replica is not used for 10 s: it is not a replica, or is still empty"]
    assert store.standing(Read.of(issued.token), primary=True) is not None
    with pytest.raises(StoreUnavailable, match="it is not a replica"):
        store.check_replica()


def test_the_feed_reads_no_more_than_it_gives_out(store: DjangoStore, postgresql_url: str) -> None:
    assert most_rows(postgresql_url, queries._FEED.text, [1]) == FEED_LIMIT


# A server that goes away


def test_a_dead_connection_is_replaced_and_asked_once_more(
    store: DjangoStore, issued: Issued, alias: str, postgresql_server: str
) -> None:
    for read in (lambda: store.find(issued.token.id), lambda: store.feed(0)):
        _terminate(alias, postgresql_server)
        assert read()


@pytest.mark.parametrize("tested", [True, False])
def test_a_change_needs_a_connection_that_django_has_tested(
    store: DjangoStore, alias: str, postgresql_server: str, tested: bool
) -> None:
    world, connection = World(store), connections[alias]
    connection.close()
    connection.settings_dict |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": tested}
    _terminate(alias, postgresql_server)
    connection.close_if_unusable_or_obsolete()  # as Django does when a request begins
    with nullcontext() if tested else pytest.raises(StoreUnavailable):
        world.client()


def test_a_transaction_does_not_go_on_with_another_connection(
    store: DjangoStore, issued: Issued, alias: str, postgresql_server: str
) -> None:
    """What the transaction has written is lost with its first connection."""

    @transaction.atomic(using=alias)
    def half() -> None:
        World(store).client("another")
        _terminate(alias, postgresql_server)
        store.find(issued.token.id)

    with pytest.raises(StoreUnavailable):
        half()
    connections[alias].close()
    assert [client.name for client in store.clients()] == ["billing"]


def test_nor_does_one_that_a_project_has_begun_by_turning_autocommit_off(
    store: DjangoStore, issued: Issued, alias: str, postgresql_server: str
) -> None:
    transaction.set_autocommit(False, using=alias)
    _terminate(alias, postgresql_server)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.find(issued.token.id)
    connections[alias].close()


def test_a_refusal_of_the_database_is_not_asked_again(
    store: DjangoStore, issued: Issued, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = fast_queries.FastQuery._run
    monkeypatch.setattr(fast_queries.FastQuery, "_run", lambda *args: asked.append(args[0].text) or ask(*args))
    with connections[alias].cursor() as cursor:
        cursor.execute("ALTER TABLE tokenguard_token RENAME TO elsewhere")
    with pytest.raises(SchemaError, match="missing or outdated"):
        store.find(issued.token.id)
    assert len(asked) == 1


def test_a_server_that_was_killed_and_comes_back(mortal_server: PostgreSQL) -> None:
    other_side = SQLAlchemyStore(mortal_server.url)
    other_side.upgrade()
    other_side.close()
    with django_alias(mortal_server.url) as alias:
        store = DjangoStore(alias)
        issued = World(store).issue()
        mortal_server.kill()
        for read in (lambda: store.find(issued.token.id), lambda: store.feed(0)):
            with pytest.raises(StoreUnavailable):
                read()
        mortal_server.start()
        assert store.find(issued.token.id) is not None
        mortal_server.kill()
        mortal_server.start()
        assert store.feed(0).revision == 2
        World(store).client("another")


def _setting(alias: str, name: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        (value,) = cursor.fetchone()
    return str(value)


def _session(alias: str) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name")
        settings = cursor.fetchall()
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = cursor.fetchall()
        cursor.execute("SELECT locktype FROM pg_locks WHERE locktype = 'advisory'")
        return [settings, prepared, cursor.fetchall()]


def _terminate(alias: str, server: str) -> None:
    """Have the server end the session that Django has there."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with psycopg.connect(server, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


# Forks


def test_a_forked_worker_opens_a_connection_of_its_own(store: DjangoStore, alias: str, issued: Issued) -> None:
    """gunicorn --preload forks after the project was loaded, perhaps after it has asked the database."""

    def process() -> object:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    def found() -> set[str]:
        records = [store.find(issued.token.id) for _ in range(20)]
        return {"nothing" if record is None else record.token.id for record in records}

    parents = process()
    child = Child(lambda: (found(), process()))
    assert found() == {issued.token.id}
    in_child, childs = child.result()
    assert (in_child, process()) == ({issued.token.id}, parents)
    assert childs != parents


def test_what_is_forked_in_a_block_has_transactions_of_its_own(store: DjangoStore, alias: str) -> None:
    told: list[str] = []

    def write() -> list[str]:
        World(store).client("of the child")
        with suppress(ValueError), transaction.atomic(using=alias):
            connections[alias].cursor().execute("UPDATE tokenguard_client SET name = 'undone'")
            raise ValueError
        return told

    with transaction.atomic(using=alias):
        transaction.on_commit(lambda: told.append("the parent's end"), using=alias)
        store.clients()
        assert in_child(write) == []
    assert told == ["the parent's end"]
    assert [client.name for client in store.clients()] == ["of the child"]


def test_nor_does_it_call_what_waits_for_its_parents_commit_when_it_leaves_the_block(
    store: DjangoStore, alias: str
) -> None:
    told: list[str] = []
    with ExitStack() as block:
        block.enter_context(transaction.atomic(using=alias))
        transaction.on_commit(lambda: told.append("the parent's end"), using=alias)
        assert in_child(lambda: (block.close(), told)) == (None, [])
    assert told == ["the parent's end"]


def test_a_forked_worker_makes_a_pool_of_its_own(
    store: DjangoStore, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django keeps the pools of its option of that name in this dictionary."""
    pools = connections[alias]._connection_pools
    monkeypatch.setitem(pools, alias, "the parent's")
    assert in_child(lambda: alias in pools) is False
    assert pools[alias] == "the parent's"
