"""PostgreSQL as a fleet's store: what hangs, what restarts, what lags, and what stands in between."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tokenguard import ConfigurationError, Store, StoreBusy, StoreUnavailable, schema
from tokenguard.doctor import Level
from tokenguard.service import open_store
from tokenguard.sqlalchemy import SQLAlchemyStore, postgresql
from tokenguard.sqlalchemy.queries import FEED
from tokenguard.store import FEED_LIMIT
from tokenguard.tokens import NO_TOKEN, Read

from .conftest import World, run_together, why_not, works
from .postgresql import PostgreSQL, most_rows, pgbouncer, read_only, server_folder, wait_until
from .sqlalchemy_tables import store_at
from .store_contract import CLIENT, TOKEN, StoreContract, change, new_use
from .test_doctor import findings

#: Makes an insert into the table take two seconds.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT ON tokenguard_use FOR EACH ROW EXECUTE FUNCTION slow();
"""
UNREACHABLE = "postgresql://someone:hunter2secret@127.0.0.1:1/nowhere"


@pytest.fixture
def server(mortal_server: PostgreSQL) -> PostgreSQL:
    return mortal_server


@pytest.fixture
def store(postgresql_url: str) -> Iterator[SQLAlchemyStore]:
    store = SQLAlchemyStore(postgresql_url)
    store.upgrade()
    yield store
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a hanging server for less time than a person would."""
    monkeypatch.setattr(postgresql.PatientConnection, "patience", 0.3)
    monkeypatch.setattr("tokenguard.sqlalchemy.store.STATEMENT_TIMEOUT", 0.1)
    monkeypatch.setattr(postgresql, "GRACE", 0.2)


def used(store: SQLAlchemyStore, connections: int = 3, *, kept: int = 0) -> None:
    """Leave so many connections for reading, and one for writing, in the pools, and some kept at hand."""
    (reserve,) = store._reserves
    with ExitStack() as held:
        for _ in range(connections):
            connection = store._reading.raw_connection()
            held.callback(connection.close)
            connection.cursor().execute("SELECT 1")
        for _ in range(kept):
            connection = reserve.take()
            held.callback(reserve.give_back, connection)
            connection.cursor().execute("SELECT 1")
    store.clients()


def sessions(store: SQLAlchemyStore, url: str) -> set[int]:
    """Return the server's numbers for the connections in the store's pools, at least three in each."""
    used(store)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(store._writing.connect())
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute(query)}


# What takes too long


def test_a_read_has_a_time_limit_of_its_own_and_leaves_none_behind(store: SQLAlchemyStore, postgresql_url: str) -> None:
    issued = World(store).issue()
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 30000', current_database()); END $$"
        )
    store.close()
    with store._writing.begin() as connection:
        connection.execute(text("LOCK TABLE tokenguard_token IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailable, match=r"in time .*canceling statement due to statement timeout"):
            store.find(issued.token.id)
    assert store.find(issued.token.id) is not None
    with store._reading.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"


def test_the_feed_reads_no_more_than_it_gives_out(store: SQLAlchemyStore, postgresql_url: str) -> None:
    query = str(FEED.compile(dialect=store._reading.dialect))
    assert most_rows(postgresql_url, query, {"since": 1}) == FEED_LIMIT


@pytest.mark.usefixtures("impatient")
def test_a_change_of_the_tables_takes_the_time_that_it_takes(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is also the only operation for which a server is waited for without a limit."""
    first, *others = schema.STEPS
    monkeypatch.setattr(schema, "STEPS", ((*first, "SELECT pg_sleep(1)"), *others))
    store = SQLAlchemyStore(postgresql_url)
    assert store.upgrade() == (0, schema.latest())
    with store._writing.connect() as connection:
        assert connection.connection.dbapi_connection.patience == 0.3  # type: ignore[union-attr]
    store.close()


def test_writing_down_uses_waits_for_nobody(store: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    use = new_use(500, d7=1)._replace(token_id=World(store).issue().token.id)
    with store._writing.begin() as connection:
        connection.execute(text("LOCK TABLE tokenguard_use IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreBusy, match="another writer held the database"):
            store.record_uses([use])
    monkeypatch.setattr("tokenguard.sqlalchemy.store.READ_TIMEOUT", 0.2)
    with store._writing.begin() as connection:
        connection.execute(text(SLOW))
    with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
        store.record_uses([use])
    assert store.use_by_day(use.token_id) == {}


@pytest.mark.usefixtures("impatient")
def test_a_change_that_takes_too_long_is_given_up(store: SQLAlchemyStore) -> None:
    with store._writing.begin() as connection:
        connection.execute(text(SLOW.replace("tokenguard_use", "tokenguard_client")))
    with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
        World(store).client()
    assert store.feed(0) == (0, ())


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_is_given_up(server: PostgreSQL) -> None:
    """The server's own time limits do not help: it holds its connections, and sends nothing."""
    store = SQLAlchemyStore(server.url)
    store.upgrade()
    issued = World(store).issue()
    other = World(store).issue(client=issued.token.client_id)
    used(store, kept=3)
    with ExitStack() as after:
        held = after.enter_context(ExitStack())
        held.enter_context(store.transaction())
        with server.stopped():
            with pytest.raises(StoreUnavailable, match="no answer from the server"):
                store.find(issued.token.id)
            # The other pooled connections are not tried one by one, and a new connection cannot be made.
            for ask in (lambda: store.feed(1), store.clients, lambda: World(store).client("other")):
                with pytest.raises(StoreUnavailable, match="timeout expired"):
                    ask()
            with pytest.raises(StoreUnavailable, match="check whether it was made"):
                held.close()
    for _ in range(10):
        found = store.find(other.token.id)
        assert found is not None
        assert found.token.id == other.token.id
    assert [client.name for client in store.clients()] == ["billing"]
    store.close()


def test_a_question_that_takes_too_long_breaks_no_other_connection(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is alive and reports the timeout itself; it may be overloaded already."""
    monkeypatch.setattr(postgresql, "READ_TIMEOUT", 0.1)
    store = SQLAlchemyStore(postgresql_url)
    store.upgrade()
    issued = World(store).issue()
    used(store, kept=3)
    before = sessions(store, postgresql_url)
    (reserve,) = store._reserves
    kept = reserve._idle[:-1]
    with store._writing.begin() as connection:
        connection.execute(text("LOCK TABLE tokenguard_token IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
            store.find(issued.token.id)
    assert reserve._idle == kept
    assert len(before - sessions(store, postgresql_url)) == 1
    store.close()


class _Interrupted(BaseException):
    """Like a server's own time limit for a worker, or gevent's: not an error that anybody would handle."""


class _TimeIsUp(Exception):
    """Like Celery's limit for a task, which the task may handle."""


@pytest.mark.parametrize("kind", [_Interrupted, _TimeIsUp])
def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one(
    store: SQLAlchemyStore, postgresql_url: str, kind: type[BaseException]
) -> None:
    issued = World(store).issue()
    other = World(store).issue(client=issued.token.client_id)
    store.find(issued.token.id)
    held = sessions(store, postgresql_url)

    def interrupt(*_: Any) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for ask in (lambda: store.find(issued.token.id), lambda: store.records()):
            with store._writing.begin() as connection:
                connection.execute(text("LOCK TABLE tokenguard_token IN ACCESS EXCLUSIVE MODE"))
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with pytest.raises(kind):
                    ask()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert store._reading.pool.checkedout() == store._writing.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert len(held - sessions(store, postgresql_url)) == 2  # those that were waited for
    for token in (other.token, issued.token):
        found = store.find(token.id)
        assert found is not None
        assert found.token.id == token.id


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_text_is_read_whatever_encoding_the_server_would_use(postgresql_url: str, encoding: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET client_encoding = '{encoding}'".encode())
    store = SQLAlchemyStore(postgresql_url)
    store.upgrade()
    world = World(store)
    assert works(world, world.issue())
    assert world.issuer.register("Straße – ☂", "users:read", actor="tests") in store.clients()
    store.close()


@pytest.mark.parametrize("kind", [_Interrupted, _TimeIsUp])
def test_what_ends_a_question_after_its_answer_has_come_stays_the_error_that_it_is(
    store: SQLAlchemyStore, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = World(store).issue()

    def interrupt(*_: Any) -> None:
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "fetchall", interrupt)
        with pytest.raises(kind):
            store.find(issued.token.id)
    assert store.find(issued.token.id) is not None


def test_how_long_a_connection_may_take_the_url_may_say_itself() -> None:
    ours = postgresql.connect_args(make_url(UNREACHABLE), reading=False)
    assert ours.items() >= {"connect_timeout": 2, "keepalives_idle": 30}.items()
    theirs = postgresql.connect_args(make_url(f"{UNREACHABLE}?connect_timeout=9&keepalives_idle=9"), reading=False)
    assert not theirs.keys() & {"connect_timeout", "keepalives_idle"}


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [("53100", StoreUnavailable, "there is no space left"), ("40P01", StoreBusy, "another writer came first")],
)
def test_what_a_server_complains_of_is_told_in_words_of_what_to_do(
    store: SQLAlchemyStore, state: str, kind: type[StoreUnavailable], message: str
) -> None:
    with store._writing.begin() as connection:
        connection.execute(text(SLOW.replace("PERFORM pg_sleep(2)", f"RAISE SQLSTATE ''{state}''")))
    use = new_use(500)._replace(token_id=World(store).issue().token.id)
    with pytest.raises(StoreUnavailable, match=message) as refused:
        store.record_uses([use])
    assert type(refused.value) is kind


# What restarts


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_a_restart_of_the_server_costs_nobody_an_answer(server: PostgreSQL, how: str) -> None:
    store = SQLAlchemyStore(server.url)
    store.upgrade()
    issued = World(store).issue()
    (reserve,) = store._reserves
    with ExitStack() as held:  # some are kept at hand, the others are in the pools
        for _ in range(3):
            held.callback(reserve.give_back, reserve.take())
        used(store, 5)
    if how == "cut off":
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    else:
        server.kill() if how == "killed" else server.clean_up()
        with pytest.raises(StoreUnavailable):
            store.find(issued.token.id)
        server.start()
    for _ in range(10):
        assert store.find(issued.token.id) is not None
        assert store.feed(1).revision == 2
    assert len(store.clients()) == 1
    World(store).issue(client=issued.token.client_id)
    assert store.record_uses([new_use(500, d7=1)._replace(token_id=issued.token.id)]) == set()
    assert store.feed(1).revision == 3
    store.close()


def test_connections_made_while_nothing_could_be_written_are_not_kept(
    store: SQLAlchemyStore, postgresql_url: str
) -> None:
    world = World(store)
    store._writing.dispose()
    with read_only(postgresql_url):
        with ExitStack() as held:  # opens so many while nothing can be written
            for _ in range(3):
                held.enter_context(store._writing.connect())
        with pytest.raises(StoreUnavailable, match="is not writable"):
            world.client()
    issued = world.issue()
    assert store.record_uses([new_use(500, d7=1)._replace(token_id=issued.token.id)]) == set()


def test_a_restart_costs_none_of_many_threads_an_answer(server: PostgreSQL) -> None:
    store = SQLAlchemyStore(server.url)
    store.upgrade()
    issued = World(store).issue()
    used(store, 15)
    server.kill()
    server.start()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert store.find(issued.token.id) is not None
        except BaseException as error:
            failed.append(error)

    run_together([ask] * 12)
    assert failed == []
    store.close()


def test_a_connection_that_was_being_made_when_the_server_was_lost_is_not_handed_out(
    store: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, made = postgresql.PatientConnection.connect, list[postgresql.PatientConnection]()
    old = store._reading.raw_connection()

    def lose(*arguments: Any, **more: Any) -> postgresql.PatientConnection:
        made.append(connect(*arguments, **more))
        if len(made) == 1:  # another thread is told just then
            old.driver_connection.close()  # type: ignore[union-attr]
            old.invalidate(psycopg.OperationalError("server closed the connection unexpectedly"))
        return made[-1]

    monkeypatch.setattr(postgresql.PatientConnection, "connect", lose)
    with closing(store._reading.raw_connection()) as found:
        assert made[1:] == [found.driver_connection]


def test_a_commit_whose_outcome_is_unknown_is_told_and_not_repeated(
    store: SQLAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    commit = postgresql.PatientConnection.commit

    def breaks(connection: postgresql.PatientConnection) -> None:
        commit(connection)
        connection.pgconn.finish()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def write() -> None:
        with store.transaction() as tx:
            tx.put_client(CLIENT, change())
            tx.on_commit(lambda: done.append("called"))
            monkeypatch.setattr(postgresql.PatientConnection, "commit", breaks)

    with pytest.raises(StoreUnavailable, match="check whether it was made"):
        write()
    monkeypatch.undo()
    assert done == []
    assert store.feed(0).revision == len(store.feed(0).events) == 1


def test_a_write_that_breaks_before_its_commit_is_undone(store: SQLAlchemyStore, postgresql_url: str) -> None:

    def write() -> None:
        with store.transaction() as tx:
            tx.put_client(CLIENT, change())
            with psycopg.connect(postgresql_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            tx.put_token(TOKEN, change())

    with pytest.raises(StoreUnavailable, match="terminating connection"):
        write()
    assert store.feed(0) == (0, ())
    assert store.clients() == []


# A read replica


@pytest.fixture
def replica(server: PostgreSQL) -> Iterator[PostgreSQL]:
    """A replica that follows the server, whose tables are set up, and that has caught up."""
    primary = SQLAlchemyStore(server.url)
    primary.upgrade()
    primary.close()
    with server_folder() as folder:
        replica = server.replica(folder / "data")
        yield replica
        replica.clean_up()


def test_tokens_are_found_on_the_replica_and_all_else_on_the_primary(server: PostgreSQL, replica: PostgreSQL) -> None:
    store = SQLAlchemyStore(server.url, read_url=replica.url)
    world = World(store)
    issued = world.issue()
    arrived = server.query("SELECT pg_current_wal_lsn()::text")[0][0]
    wait_until(lambda: replica.query(f"SELECT pg_last_wal_replay_lsn() >= '{arrived}'")[0][0])
    replica.query("SELECT pg_wal_replay_pause()")
    wait_until(lambda: replica.query("SELECT pg_get_wal_replay_pause_state()")[0][0] == "paused")
    world.issuer.revoke(issued.token.id, actor="tests")

    store.check_replica()
    lagging, present = store.standing(Read.of(issued.token)), store.standing(Read.of(issued.token), primary=True)
    assert lagging is not None
    assert present is not None
    assert (lagging.revision, lagging.revoked_at) == (2, None)
    assert (present.revision, present.revoked_at) == (3, world.clock())
    assert store.feed(3).revision == 3
    assert store.records()[0].token.revoked_at is not None
    # A guard that knows nothing yet is not misled by old data: neither for the revoked token nor for a new one.
    elsewhere = World(SQLAlchemyStore(server.url, read_url=replica.url))
    assert why_not(elsewhere, issued) == "revoked"
    assert works(elsewhere, world.issue(client=issued.token.client_id))

    # While the replica is away, the primary is asked, and the replica is left alone for a while.
    replica.kill()
    for _ in range(3):
        assert store.standing(Read.of(issued.token)) is None
        assert why_not(world, issued) == "revoked"
        assert works(world, world.issue(client=issued.token.client_id))
    replica.start()
    replica.query("SELECT pg_wal_replay_pause()")
    wait_until(lambda: replica.query("SELECT pg_get_wal_replay_pause_state()")[0][0] == "paused")
    store._replica.forget()
    assert store.standing(Read.of(issued.token)) is not None
    store._writing.dispose()
    server.kill()
    assert store.standing(Read.of(issued.token)) is not None
    with pytest.raises(StoreUnavailable):
        store.standing(Read.of(issued.token), primary=True)
    with pytest.raises(StoreUnavailable):
        store.feed(3)
    server.start()
    store.close()


def test_a_server_that_is_no_replica_any_more_is_not_believed(
    server: PostgreSQL, replica: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    """It has been promoted, and its own history has gone on for longer than the primary's."""
    world = World(SQLAlchemyStore(server.url, read_url=replica.url))
    issued = world.issue()
    arrived = server.query("SELECT pg_current_wal_lsn()::text")[0][0]
    wait_until(lambda: replica.query(f"SELECT pg_last_wal_replay_lsn() >= '{arrived}'")[0][0])
    replica.query("SELECT pg_promote()")
    other = World(SQLAlchemyStore(replica.url))
    for number in range(3):
        other.issuer.register(f"client {number}", "users:read", actor="tests")
    world.issuer.revoke(issued.token.id, actor="tests")
    caplog.clear()
    for _ in range(2):
        assert why_not(world, issued) == "revoked"
    assert [line for line in caplog.messages if "replica" in line] == [
        "the read replica is not used for 10 s: it is not a replica, or is still empty"
    ]
    other.store.close()  # type: ignore[attr-defined]
    world.store.close()  # type: ignore[attr-defined]


def test_a_replica_of_another_database_is_not_believed(
    server: PostgreSQL, replica: PostgreSQL, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it has seen more changes, it may still let in what was revoked here."""
    elsewhere = SQLAlchemyStore(server.url)
    with store_at(postgresql_url), closing(SQLAlchemyStore(postgresql_url, read_url=replica.url)) as store:
        assert "replica" not in findings(World(store))  # neither has seen a change
        World(elsewhere).client()
        wait_until(lambda: replica.query("SELECT * FROM tokenguard_event"))
        for name in ("ours", "another"):
            finding = findings(World(store))["replica"]
            why = "it follows another database: its event 1 is not the primary's"
            assert finding.message == f"the read replica is not used: {why}"
            assert (finding.level, finding.needs_action) == (Level.ERROR, True)
            assert store.standing(NO_TOKEN) is None
            assert caplog.messages.pop() == f"the read replica is not used for 10 s: {why}"
            store._replica.forget()
            World(store).client(name)
    elsewhere.close()


def test_while_a_replica_hangs_nobody_is_refused(server: PostgreSQL, replica: PostgreSQL) -> None:
    store = SQLAlchemyStore(server.url, read_url=replica.url)
    world = World(store)
    client = world.client().id
    waiting, known, other = (world.issue(client=client) for _ in range(3))
    assert works(world, known)
    outcomes: list[bool] = []
    with replica.stopped():
        first = threading.Thread(target=lambda: outcomes.append(works(world, waiting)))
        first.start()
        wait_until(lambda: store._replica.breaker._calls)
        while first.is_alive():  # until it stops waiting for the replica, and asks the primary
            assert works(world, known)
            assert works(world, other)
            world.guard.cache.evict(other.token.id, other.token.client_id)
        first.join()
    assert outcomes == [True]
    store.close()


def test_a_replica_that_was_never_there_is_told_once_and_the_primary_asked(
    store: SQLAlchemyStore, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_replica = SQLAlchemyStore(postgresql_url, read_url=UNREACHABLE)
    world = World(with_replica)
    client = world.client().id
    for _ in range(3):
        assert works(world, world.issue(client=client))
    assert len(caplog.records) == 1
    assert "Connection refused" in caplog.text
    assert "hunter2secret" not in caplog.text
    with_replica.close()


@pytest.mark.parametrize(
    ("url", "read_url", "message"),
    [
        ("sqlite:///x.db", UNREACHABLE, "READ_URL: a read replica requires PostgreSQL"),
        (UNREACHABLE, "sqlite:///x.db", "READ_URL: a read replica requires PostgreSQL"),
        ("memory://", UNREACHABLE, "READ_URL: a store in memory has no read replica"),
        (UNREACHABLE, "nonsense hunter2secret", "READ_URL: the database URL is invalid"),
        ("nonsense hunter2secret", UNREACHABLE, "DATABASE_URL: the database URL is invalid"),
    ],
)
def test_a_replica_that_cannot_be_one_is_refused(url: str, read_url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        open_store(url, read_url)
    assert "hunter2secret" not in str(refused.value)


# Through PgBouncer


@pytest.fixture
def bounced_url(postgresql_url: str) -> Iterator[str]:
    with pgbouncer(postgresql_url, size=1) as url:
        yield url


class TestThroughPgBouncer(StoreContract):
    """All callers share one session, each for one transaction at a time."""

    @pytest.fixture
    def hurried(self, impatient: None) -> None:
        """Keep the wait for the shared session short, too."""

    @pytest.fixture
    def store(self, bounced_url: str) -> Iterator[Store]:
        store = SQLAlchemyStore(bounced_url)
        store.upgrade()
        yield store
        store.close()


def test_nothing_is_left_in_a_session_that_others_share(postgresql_url: str) -> None:
    with pgbouncer(postgresql_url, size=2) as url:
        stores = [SQLAlchemyStore(url) for _ in range(3)]
        stores[0].upgrade()
        client = World(stores[0]).client()
        defaults = _settings(postgresql_url)
        issued: list[str] = []

        def work(store: SQLAlchemyStore) -> None:
            for _ in range(10):
                token = World(store).issue(client=client.id).token
                found = store.find(token.id)
                if found is not None and found.token.id == token.id:
                    issued.append(token.id)
                store.record_uses([new_use(500, d7=1)._replace(token_id=token.id)])
                store.records()
                store.feed(0)

        run_together([lambda store=store: work(store) for store in stores * 2])  # type: ignore[misc]
        assert len(set(issued)) == 60
        assert stores[0].feed(61).revision == 61
        assert _settings(url) == defaults
        with stores[0]._writing.begin() as connection:
            connection.execute(text("LOCK TABLE tokenguard_token IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(StoreUnavailable, match="canceling statement due to statement timeout"):
                stores[1].find(issued[0])
        assert _settings(url) == defaults
        for store in stores:
            store.close()


def test_a_restart_behind_pgbouncer_costs_nobody_an_answer(server: PostgreSQL) -> None:
    with pgbouncer(server.url, size=2) as url:
        store = SQLAlchemyStore(url)
        store.upgrade()
        issued = World(store).issue()
        used(store)
        server.kill()
        server.start()
        for _ in range(10):
            assert store.find(issued.token.id) is not None
            assert store.feed(1).revision == 2
        World(store).issue(client=issued.token.client_id)
        assert store.feed(1).revision == 3
        store.close()


def test_an_index_that_does_not_serve_the_tables_is_missing(postgresql_url: str) -> None:
    url, dropped, broken = f"{postgresql_url}&options=-csearch_path%3Dacme,public", *sorted(schema.INDEXES)[:2]
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA acme")
        with store_at(postgresql_url), store_at(url) as store:
            assert store.missing_indexes() == []
            connection.execute(f"DROP INDEX acme.{dropped}".encode())
            connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [f"acme.{broken}"]
            )
            assert store.missing_indexes() == [dropped, broken]
        connection.execute("DROP SCHEMA acme CASCADE")


def _settings(url: str) -> list[Any]:
    """Return the settings in force in the sessions, read from both if there are two behind the URL."""
    names = ("statement_timeout", "lock_timeout", "default_transaction_isolation", "search_path", "application_name")
    with ExitStack() as held:
        values = set()
        for _ in range(2):
            connection = held.enter_context(psycopg.connect(url, prepare_threshold=None))
            values.add(tuple(connection.execute(f"SHOW {name}".encode()).fetchone() for name in names))
    return sorted(values)
