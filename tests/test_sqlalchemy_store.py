"""The SQLAlchemy store on SQLite and PostgreSQL: the contract, and what only a database can get wrong."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy import event as listening
from sqlalchemy.exc import IntegrityError

from tokenguard import (
    ConfigurationError,
    EventKind,
    Issuer,
    SchemaError,
    Scopes,
    SigningKeys,
    Store,
    StoreBusy,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
    Token,
    TokenFormat,
    schema,
)
from tokenguard.cli.output import event_line
from tokenguard.sqlalchemy import SQLAlchemyStore, engine, include_name, metadata, upgrade
from tokenguard.sqlalchemy.fast_queries import KEPT
from tokenguard.store import NewUse, Place
from tokenguard.tokens import Read

from .child import Child, in_child
from .conftest import KEY, World, run_together
from .database_contract import DatabaseContract, on_postgresql
from .sqlalchemy_tables import store_at
from .store_contract import CLIENT, TOKEN, change, new_use, put_tokens


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[SQLAlchemyStore]:
    with store_at(sqlite_url) as store:
        yield store


class TestSQLAlchemyStore(DatabaseContract):
    set_up = "tokenguard init"

    @pytest.fixture
    def store(self, database_store: SQLAlchemyStore) -> Store:
        return database_store

    @pytest.fixture
    def empty(self, database_url: str) -> Iterator[Store]:
        with closing(SQLAlchemyStore(database_url)) as store:
            engine.create_file(store.url)
            yield store

    @pytest.fixture
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.1)
        monkeypatch.setattr("tokenguard.sqlalchemy.store.STATEMENT_TIMEOUT", 0.5)


def run_at_once(program: str, count: int, *arguments: str) -> None:
    """Run the program in that many processes, each with its number behind the arguments, and wait for their end.

    Each says that it is ready, and reads a line before it goes on: all are started before one of them does anything.
    """
    command = [sys.executable, "-c", program, *arguments]
    running = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    for process in running:
        process.communicate()
        assert process.returncode == 0


WRITER = """
import sys
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard import Issuer, SigningKeys, TokenFormat
issuer = Issuer(SQLAlchemyStore(sys.argv[1]), TokenFormat(SigningKeys(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    token = issuer.issue("billing", "users:manage", actor="writer " + sys.argv[3]).token
    issuer.revoke(token.id, actor="writer " + sys.argv[3])
"""


@pytest.mark.usefixtures("children_not_measured")
def test_processes_that_write_at_once_keep_revisions_gap_free_in_commit_order(
    database_store: SQLAlchemyStore, database_url: str
) -> None:
    World(database_store).client()
    run_at_once(WRITER, 4, database_url, KEY)
    feed = database_store.feed(0)
    assert feed.revision == 1 + 4 * 50
    assert [event.number for event in feed.events] == list(range(1, 202))
    assert len({event.actor for event in feed.events}) == 5
    # Each token's end comes after its beginning: the numbers follow the order of the commits.
    born: set[str] = set()
    for event in feed.events[1:]:
        assert event.token_id is not None
        assert (event.kind == "token.issued") is (event.token_id not in born)
        born.add(event.token_id)


class Impatient(SQLAlchemyStore):
    """On PostgreSQL, does not wait for another writer for long."""

    def _begin(self, statements: float, locks: str = "100ms") -> Any:
        return super()._begin(statements, locks)


def test_a_writer_that_waits_too_long_says_so_and_changes_nothing(
    database_store: SQLAlchemyStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.1)  # on SQLite
    with closing(Impatient(database_url)) as impatient, ExitStack() as held:
        held.enter_context(database_store.transaction()).put_client(CLIENT, change())
        with pytest.raises(StoreBusy, match="another writer held the database for too long"):
            held.enter_context(impatient.transaction())
        assert database_store.find(TOKEN.id) is None  # readers do not wait for writers
        assert (database_store.clients(), database_store.records(), database_store.events(1)) == ([], [], [])
    assert database_store.client("billing") == CLIENT


def test_the_tables_are_what_the_columns_say(database_store: SQLAlchemyStore, database_url: str) -> None:
    url = engine.checked_database_url(database_url)
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": metadata, "compare_type": True})
        differences = [
            found for found in compare_metadata(context, metadata) if found[1].name != "tokenguard_alembic_version"
        ]
        if url.get_backend_name() == "sqlite":  # for which SQLAlchemy does not read when a reference is checked
            differences = [found for found in differences if not found[0].endswith("_fk")]
        assert differences == []
        for table in metadata.sorted_tables:
            columns = {column["name"]: column for column in inspect(connection).get_columns(table.name)}
            assert list(columns) == [column.name for column in table.c]
            assert {name: column["nullable"] for name, column in columns.items()} == {
                c.name: c.nullable for c in table.c
            }
    connection.engine.dispose()


def test_there_is_no_second_counter(database_store: SQLAlchemyStore) -> None:
    with pytest.raises(IntegrityError), database_store._writing.begin() as connection:
        connection.execute(text("INSERT INTO tokenguard_revision VALUES (2, 0, 2)"))


def test_on_sqlite_who_is_just_reading_keeps_nobody_from_writing(
    sqlite_store: SQLAlchemyStore, sqlite_url: str
) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM tokenguard_client").fetchall()
        World(sqlite_store).client()


def test_on_sqlite_a_read_waits_two_seconds_for_the_lock_and_a_change_five(sqlite_store: SQLAlchemyStore) -> None:
    for opened, seconds in ((sqlite_store._reading, 2), (sqlite_store._writing, 5)):
        with opened.connect() as connection:
            assert connection.execute(text("PRAGMA busy_timeout")).scalar() == seconds * 1000


def test_a_hosts_autogenerate_does_not_see_the_tables(database_store: SQLAlchemyStore, database_url: str) -> None:
    from sqlalchemy import MetaData

    with create_engine(engine.checked_database_url(database_url)).connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": include_name})
        assert compare_metadata(context, MetaData()) == []
    connection.engine.dispose()


def test_each_side_writes_the_same_text(database_store: SQLAlchemyStore, database_url: str) -> None:
    """The text in the rows, for others who read the same tables."""
    with database_store.transaction() as tx:
        tx.put_client(CLIENT, change(EventKind.CLIENT_REGISTERED, b=[None, "ü"], a=[1, 2]))
        tx.put_token(replace(TOKEN, idle_ended_at=3, successor_id="B" * 16, overlap_ends_at=4), change())
    database_store.record_uses([new_use(500, "2001:db8::1", "users:read", "a.b", d7=3)])
    with create_engine(engine.checked_database_url(database_url)).connect() as connection:
        use = connection.execute(text("SELECT * FROM tokenguard_use")).one()
        day = connection.execute(text("SELECT * FROM tokenguard_use_day")).one()
        client = connection.execute(text("SELECT * FROM tokenguard_client")).one()
        token = connection.execute(text("SELECT * FROM tokenguard_token")).one()
        event = connection.execute(text("SELECT * FROM tokenguard_event WHERE number = 1")).one()
        counter = connection.execute(text("SELECT * FROM tokenguard_revision")).one()
    connection.engine.dispose()
    assert tuple(client) == ("client-1", "billing", '["a.b","users:*"]', True, 1_900_000_000_123_456, "{}")
    assert tuple(use) == (TOKEN.id, 500, "2001:db8::1", '["a.b","users:read"]')
    assert tuple(day) == (TOKEN.id, 7, 3)
    assert tuple(token)[3:] == (
        '["users:read"]',
        "0" * 64,
        "f" * 16,
        1_900_000_000_123_457,
        4_000_000_000_000_001,
        None,
        '{"allow":["10.0.0.0/8","2001:db8::/32"],"deny":["10.1.0.0/16"],"rate":"100/minute"}',
        2_592_000_000_000,
        3,
        "B" * 16,
        4,
    )
    assert (event.kind, event.at, event.data) == (
        "client.registered",
        1_900_000_000_000_001,
        '{"a":[1,2],"b":[null,"\\u00fc"]}',
    )
    assert tuple(counter) == (1, 2, schema.latest())


def test_finding_a_token_is_one_statement(database_store: SQLAlchemyStore) -> None:
    """Or a single message to the server, with the time limit in it, after which nothing has to be sent."""
    from psycopg import ClientCursor

    issued = World(database_store).issue()
    statements: list[str] = []

    class Cursor(ClientCursor):  # type: ignore[type-arg]
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            statements.append(query)
            return super().execute(query, *args, **kwargs)

    def watch(connection: Any, record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(statements.append)
        else:
            connection.cursor_factory = Cursor

    database_store.close()
    listening.listen(database_store._reading, "connect", watch)
    for _ in range(2):
        assert database_store.standing(Read.of(issued.token)) is not None
        statements.clear()
    assert database_store.standing(Read.of(issued.token)) is not None
    assert len(statements) == 1
    assert database_store.feed(1).revision == 2
    assert len(statements) == 2


# The schema's life


def test_two_at_once_set_up_the_tables_once(database_url: str) -> None:
    results = []
    stores = [SQLAlchemyStore(database_url) for _ in range(6)]
    run_together([lambda store=store: results.append(store.upgrade()) for store in stores])  # type: ignore[misc]
    latest = schema.latest()
    assert sorted(results) == [(0, latest)] + [(latest, latest)] * 5
    for store in stores:
        store.check()
        store.close()


def test_nobody_waits_for_the_lock_while_the_migrations_are_loaded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six containers that start at once on little CPU would otherwise wait for longer than a writer may.
    done = []
    walk = ScriptDirectory.walk_revisions
    monkeypatch.setattr(ScriptDirectory, "walk_revisions", lambda script: done.append("loaded") or walk(script))
    store = SQLAlchemyStore(database_url)
    listening.listen(store._writing, "begin", lambda connection: done.append("begun"))
    store.upgrade()
    assert done == ["loaded", "begun"]
    store.close()


@pytest.fixture
def newer_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """As if the next version of tokenguard were installed: one more step, with its Alembic revision."""
    import shutil

    step = schema.latest() + 1
    folder = tmp_path / "migrations"
    shutil.copytree(upgrade.MIGRATIONS, folder)
    (folder / "versions" / "9999_next.py").write_text(
        "from tokenguard.sqlalchemy.upgrade import apply_step\n"
        f'revision = "9999"\ndown_revision = "tokenguard_{step - 1:04d}"\n'
        f"def upgrade(connection) -> None:\n    apply_step(connection, {step})\n"
    )
    monkeypatch.setattr(upgrade, "MIGRATIONS", folder)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("ALTER TABLE tokenguard_client ADD COLUMN note TEXT",)))
    return step


def test_an_older_database_is_upgraded_and_keeps_every_row(
    database_store: SQLAlchemyStore, database_url: str, request: pytest.FixtureRequest
) -> None:
    issued = World(database_store).issue()
    step = request.getfixturevalue("newer_code")
    newer = SQLAlchemyStore(database_url)
    with pytest.raises(
        SchemaError, match=f'schema version {step - 1}, but this tokenguard needs {step}: run "tokenguard init"'
    ):
        newer.check()
    with pytest.raises(SchemaError, match="tokenguard init"):
        World(newer).client("other")
    assert newer.upgrade() == (step - 1, step)
    assert newer.upgrade() == (step, step)
    newer.check()
    assert World(newer).guard.authenticate(issued.text).client_name == "billing"
    assert [event.number for event in newer.events(10)] == [1, 2]
    newer.close()


def test_a_database_newer_than_the_code_is_read_but_not_written(
    database_url: str, newer_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLAlchemyStore(database_url)
    store.upgrade()
    issued = World(store).issue()
    monkeypatch.undo()
    World(store).guard.authenticate(issued.text)  # while a fleet is upgraded, its older workers must go on
    for attempt in (store.check, store.upgrade, lambda: World(store).client("other")):
        with pytest.raises(SchemaError, match=f"schema version {newer_code}, newer than this tokenguard supports"):
            attempt()
    assert len(store.clients()) == 1
    store.close()


def test_tables_that_somebody_else_made_are_recognised(database_url: str) -> None:
    """As a Django migration does: the steps are applied without Alembic, which must then find nothing to do."""
    store = SQLAlchemyStore(database_url)
    engine.create_file(store.url)
    with store._writing.begin() as connection:
        for step in range(1, schema.latest() + 1):
            upgrade.apply_step(connection, step)
    issued = World(store).issue()
    assert store.upgrade() == (schema.latest(), schema.latest())
    World(store).guard.authenticate(issued.text)
    store.close()


def test_a_database_of_the_first_version_keeps_every_row(database_url: str) -> None:
    """Rows from before conditions, idle timeouts and rotations keep their meaning."""
    store = SQLAlchemyStore(database_url)
    engine.create_file(store.url)
    with store._writing.begin() as connection:
        upgrade.apply_step(connection, 1)
        connection.execute(
            text("INSERT INTO tokenguard_client VALUES ('client-1', 'billing', :scopes, true, :at)"),
            {"scopes": '["a.b","users:*"]', "at": CLIENT.created_at},
        )
        connection.execute(
            text("INSERT INTO tokenguard_token VALUES (:id, 'client-1', '', '[]', 'd', 'f', 1, NULL, NULL)"),
            {"id": TOKEN.id},
        )
    assert store.upgrade() == (1, schema.latest())
    assert store.find(TOKEN.id) == (Token(TOKEN.id, "client-1", "", Scopes(), "d", "f", 1), CLIENT, 0, None)
    store.close()


@pytest.mark.parametrize("version", range(schema.latest() + 1))
def test_every_version_becomes_what_a_new_database_is(database_url: str, version: int) -> None:
    store = SQLAlchemyStore(database_url)
    engine.create_file(store.url)
    with store._writing.begin() as connection:
        for step in range(1, version + 1):
            upgrade.apply_step(connection, step)
    assert store.upgrade() == (version, schema.latest())
    store.check()
    with store._reading.connect() as connection:
        for table in metadata.sorted_tables:
            inspected = inspect(connection)
            assert {column["name"] for column in inspected.get_columns(table.name)} == set(table.c.keys())
            assert {found["name"] for found in inspected.get_indexes(table.name)} >= {i.name for i in table.indexes}
    World(store).issue()
    store.close()


def test_tables_that_were_dropped_are_made_again(database_store: SQLAlchemyStore) -> None:
    """Alembic's table says that there is nothing to do; the schema itself says otherwise."""
    with database_store._writing.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(text(f"DROP TABLE {table.name}"))
    assert database_store.upgrade() == (0, schema.latest())
    database_store.check()


def test_databases_are_set_up_at_once_each_by_a_thread(tmp_path: Path) -> None:
    stores = [SQLAlchemyStore(f"sqlite:///{tmp_path / str(number)}.db") for number in range(8)]
    results: list[object] = []
    run_together([lambda store=store: results.append(store.upgrade()) for store in stores])  # type: ignore[misc]
    assert results == [(0, schema.latest())] * 8
    for store in stores:
        store.check()
        store.close()


def test_a_hosts_migration_may_set_the_tables_up(tmp_path: Path) -> None:
    """Within an Alembic run of the host's own, whose environment is one for the whole process."""
    from alembic import command
    from alembic.config import Config

    (tmp_path / "versions").mkdir()
    (tmp_path / "script.py.mako").touch()
    (tmp_path / "env.py").write_text(
        "from alembic import context\nfrom sqlalchemy import create_engine\n"
        f"engine = create_engine('sqlite:///{tmp_path}/host.db')\n"
        "with engine.connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
        "engine.dispose()\n"
    )
    (tmp_path / "versions" / "1_host.py").write_text(
        "from alembic import op\nfrom tokenguard.sqlalchemy import SQLAlchemyStore\n"
        "revision, down_revision = '1', None\n"
        "def upgrade():\n"
        f"    store = SQLAlchemyStore('sqlite:///{tmp_path}/tokens.db')\n"
        "    store.upgrade()\n    store.close()\n"
        "    op.execute('CREATE TABLE host (id INTEGER)')\n"
    )
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/tokens.db")
    store.check()
    store.close()


def test_an_upgrade_that_fails_leaves_nothing_half_done(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "STEPS", ((*schema.STEPS[0], "CREATE NONSENSE"),))
    store = SQLAlchemyStore(database_url)
    with pytest.raises(StoreError):
        store.upgrade()
    with store._reading.connect() as connection:
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    assert store.upgrade() == (0, schema.latest())
    store.close()


# What can be wrong with a database, each in one line


def test_a_column_that_is_missing(database_store: SQLAlchemyStore) -> None:
    with database_store._writing.begin() as connection:
        connection.execute(text("ALTER TABLE tokenguard_token DROP COLUMN successor_id"))
    with pytest.raises(SchemaError, match=r"tables are missing or outdated \(.*successor_id.*\): run"):
        database_store.find(TOKEN.id)


def test_no_file_is_made_of_a_mistyped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLAlchemyStore("sqlite:///typo.db")
    message = f'no database {tmp_path}/typo.db: run "tokenguard init".* or set TOKENGUARD_DAT'
    with pytest.raises(SchemaError, match=message):  # and from where the name was read
        store.check()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, reason in (("nowhere", "No such file or directory"), ("file", "Not a directory")):
        with pytest.raises(StoreUnavailable, match=f"cannot be created: {reason}"):
            SQLAlchemyStore(f"sqlite:///{tmp_path / folder / 'x.db'}").upgrade()


def test_a_file_in_a_folder_that_this_user_may_not_search(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if path.name == "tokens.db":
            raise PermissionError(13, "Permission denied", str(path))  # root, who may run this, may search any
        return stat(path, **options)

    store = SQLAlchemyStore(sqlite_url)
    monkeypatch.setattr(Path, "stat", refuse)
    for attempt in (store.upgrade, store.check, lambda: store.find(TOKEN.id)):
        with pytest.raises(StoreUnavailable, match=r"tokens\.db cannot be read by this user$"):
            attempt()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}")
    for attempt in (store.upgrade, store.check):
        with pytest.raises(
            StoreUnavailable, match="in a directory that this user may write to, like the files -wal and"
        ):
            attempt()
    store.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Sir or Madam, " * 100)
    store = SQLAlchemyStore(f"sqlite:///{path}")
    for attempt in (store.check, store.upgrade):
        with pytest.raises(StoreUnavailable, match="file is not a database"):
            attempt()
    assert path.read_text().startswith("Dear Sir")


def test_a_read_only_database_is_read_and_not_written(
    database_store: SQLAlchemyStore, database_url: str, tmp_path: Path
) -> None:
    issued = World(database_store).issue()
    if database_url.startswith("sqlite"):
        read_only = f"sqlite:///file:{tmp_path / 'tokens.db'}?mode=ro&uri=true"
        which = ", its directory, or the file -wal or -shm beside it,"
    else:
        read_only = database_url + "&options=-c%20default_transaction_read_only%3Don"
        which = ""
    store = SQLAlchemyStore(read_only)
    World(store).guard.authenticate(issued.text)
    with pytest.raises(StoreUnavailable, match=f"^the database{which} is not writable"):
        World(store).client("other")
    assert len(database_store.clients()) == 1
    store.close()


def test_a_version_that_is_gone_is_no_database_to_be_set_up(sqlite_store: SQLAlchemyStore) -> None:
    with sqlite_store._writing.begin() as connection:
        connection.execute(text("DELETE FROM tokenguard_revision"))
    for attempt in (sqlite_store.check, sqlite_store.upgrade):
        with pytest.raises(SchemaError, match=r"tokenguard_revision is missing: restore the database from a backup"):
            attempt()


def test_details_that_a_later_version_records_are_told(sqlite_store: SQLAlchemyStore) -> None:
    World(sqlite_store).client()
    data = '{"audience": [null, {"a": 1}], "levels": [[1, 2], [3]], "seen_at": [null, 0]}'
    with sqlite_store._writing.begin() as connection:
        connection.execute(text("UPDATE tokenguard_event SET data = :data"), {"data": data})
    (event,) = sqlite_store.events(1)
    assert event_line(event).endswith('audience {"a": 1}; levels 1 2 → 3; seen at 1970-01-01T00:00:00Z')


def test_a_page_of_all_tokens_is_read_in_the_order_of_an_index(sqlite_store: SQLAlchemyStore) -> None:
    """However many tokens there are, the next page costs as much as the first one."""
    store, statements = sqlite_store, []
    listening.listen(store._reading, "before_cursor_execute", lambda *asked: statements.append(asked[2:4]))
    store.page(3, 5, after=Place(1, "A" * 16))
    ((query, parameters),) = statements
    plan = plan_of(store, query, parameters)
    assert "tokenguard_token_created" in plan
    assert "TEMP B-TREE" not in plan


def test_old_days_are_found_and_deleted_without_reading_all_others(sqlite_store: SQLAlchemyStore) -> None:
    """Every writer waits meanwhile."""
    store, statements = sqlite_store, []
    issued = World(store).issue()
    store.record_uses([NewUse(issued.token.id, 5, "127.0.0.1", frozenset(), {1: 1, 2: 1})])
    listening.listen(store._writing, "before_cursor_execute", lambda *asked: statements.append(asked[2:4]))
    with store.transaction() as tx:
        assert tx.delete_days(5, 100) == 2
    finding, deleting = [each for each in statements if "tokenguard_use_day" in each[0]]
    assert "tokenguard_use_day_day (day<?)" in plan_of(store, *finding)
    assert "(token_id=? AND day=?)" in plan_of(store, deleting[0], deleting[1][0])


def plan_of(store: SQLAlchemyStore, query: str, parameters: Any) -> str:
    with store._reading.connect() as connection:
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters).all())


def test_a_server_that_is_not_there() -> None:
    store = SQLAlchemyStore("postgresql://someone:hunter2secret@127.0.0.1:1/nowhere")
    with pytest.raises(StoreUnavailable, match="Connection refused") as refused:
        store.find("x")
    assert "hunter2secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense hunter2secret", "the database URL is invalid"),
        ("", "the database URL is invalid"),
        ("oracel://u:hunter2secret@h/x", "SQLite and PostgreSQL, not oracel"),
        ("mysql://u:hunter2secret@h/x", "SQLite and PostgreSQL, not mysql"),
        ("mysql+pymysql://u:hunter2secret@h/x", "SQLite and PostgreSQL, not mysql"),
        ("sqlite://", "use a file, or memory:// in tests"),
        ("sqlite:///:memory:", "use a file"),
        ("sqlite:///hunter2secret\0.db", "the database URL is invalid"),
        pytest.param(
            *("sqlite:///hunter2secret%00.db", "the database URL is invalid"),
            marks=pytest.mark.skipif(make_url("sqlite:///%41").database != "A", reason="not decoded by SQLAlchemy 2.0"),
        ),
        ("sqlite:///hunter2secret\ud800.db", "the database URL is invalid"),
        ("postgresql://u:hunter2secret\udce4@h/x", "the database URL is invalid"),
        ("sqlite+aiosqlite:///x", "with Python's own sqlite3"),
        ("postgresql://u:a@hunter2secret@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:a@hunter2/secret@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:a@hunter2secret:b@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:a@hunter2secret?b@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:a@hunter2secret?b=c@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:a@hunter2secret/b?c=d@h/x", "with % and @ in the password or an option as %25 and %40"),
        ("postgresql://u:hunter2secret@h/x\n", "white space around it, such as the end of a line: remove it"),
        (" sqlite:///hunter2secret.db", "white space around it"),
        ("postgresql+asyncpg://u:hunter2secret@h/x", "with psycopg 3"),
        ("postgresql+psycopg2://u:hunter2secret@h/x", "with psycopg 3"),
    ],
)
def test_a_url_that_is_none_is_refused_and_never_quoted(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)) as refused:
        SQLAlchemyStore(url)
    assert "hunter2secret" not in str(refused.value)


@pytest.mark.parametrize("options", ["", "?sslmode=require", "?application_name=a%40b"])
@pytest.mark.parametrize("password", ["a?b", "a?b=c", "a/b", "a#b", "a b"])
def test_a_password_may_have_what_separates_the_other_parts(password: str, options: str) -> None:
    url = SQLAlchemyStore(f"postgresql://u:{password}@h/x{options}").url
    assert (url.password, url.host, url.database) == (password, "h", "x")


@pytest.mark.parametrize("name", ["a\u3000b", "a\u00a0b", "\U0001f469\u200d\U0001f4bb", "a\tb", os.fsdecode(b"a\xe4b")])
def test_a_file_may_have_any_name_that_the_system_takes(name: str, tmp_path: Path) -> None:
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / name}.db")
    store.upgrade()
    store.check()
    store.close()
    assert (tmp_path / f"{name}.db").exists()


def test_a_python_without_sqlite(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(ConfigurationError, match="built without SQLite: it has no module 'sqlite3'"):
        SQLAlchemyStore(sqlite_url)


def test_tables_are_not_set_up_from_an_archive(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenguard.sqlalchemy.upgrade.MIGRATIONS", Path("tokenguard.zip", "migrations"))
    store = SQLAlchemyStore(sqlite_url)
    with pytest.raises(ConfigurationError, match="from an unpacked installation"):
        store.upgrade()
    store.close()


def test_digests_stay_out_of_database_errors(database_store: SQLAlchemyStore) -> None:
    world = World(database_store)
    world.issue()
    with database_store._writing.begin() as connection:
        connection.execute(text("DROP TABLE tokenguard_event"))
    try:
        world.issue()
    except SchemaError:
        shown = traceback.format_exc()
    assert "tokenguard_event" in shown
    assert not re.search(r"[0-9a-f]{64}", shown)


def test_nor_are_they_in_the_traceback_of_an_insert_that_is_refused(sqlite_store: SQLAlchemyStore) -> None:
    digest = "".join(f"{number:02x}" for number in range(32))  # computed, as the source of this test is quoted too
    with sqlite_store._writing.begin() as connection:
        refuse = "CREATE TRIGGER refuse BEFORE INSERT ON tokenguard_token BEGIN SELECT RAISE(ABORT, 'refused'); END"
        connection.execute(text(refuse))
    with sqlite_store.transaction() as tx:
        tx.put_client(CLIENT, change(EventKind.CLIENT_REGISTERED))
    with pytest.raises(StoreError) as refused, sqlite_store.transaction() as tx:
        tx.put_token(replace(TOKEN, digest=digest), change())
    shown = "".join(traceback.format_exception(refused.value))
    assert "INSERT INTO tokenguard_token" in shown
    assert digest not in shown


def test_a_forked_worker_opens_connections_of_its_own(database_store: SQLAlchemyStore) -> None:
    """gunicorn --preload forks after the application was loaded, perhaps after it has used the database."""
    world = World(database_store)
    issued = world.issue()

    def ask() -> None:
        for _ in range(20):
            world.guard.authenticate(issued.text)

    ask()
    (reserve,) = database_store._reserves
    parents = reserve.take()
    reserve.give_back(parents)
    with database_store._reading.connect():  # checked out while forking
        child = Child(lambda: (ask(), reserve.take().dbapi_connection is parents.dbapi_connection))
        ask()
        assert child.result() == (None, False)


def _sessions(store: SQLAlchemyStore) -> list[int]:
    """Return the server's process ids for the connections that the reserves and the pools would give out next."""
    query, found = "SELECT pg_backend_pid()", []
    for question in (store._find, store._stand_by):
        reserve = question._reserve  # type: ignore[union-attr]
        kept = reserve.take()
        found.append(kept.dbapi_connection.execute(query).fetchone()[0])  # type: ignore[union-attr]
        with reserve.engine.connect() as connection:
            found.append(connection.exec_driver_sql(query).scalar_one())
        reserve.give_back(kept)
    with store._writing.connect() as connection:
        return [*found, connection.exec_driver_sql(query).scalar_one()]


def test_a_forked_worker_leaves_the_sessions_of_its_parent_alone(postgresql_url: str) -> None:
    """That is, all of them: two processes in one session would get each other's answers."""
    store = SQLAlchemyStore(postgresql_url, read_url=postgresql_url)
    store.upgrade()
    before = _sessions(store)
    assert _sessions(store) == before
    assert set(before).isdisjoint(in_child(lambda: _sessions(store)))
    assert _sessions(store) == before
    store.close()


def test_no_more_connections_are_kept_at_hand_than_others_can_spare(sqlite_store: SQLAlchemyStore) -> None:
    (reserve,) = sqlite_store._reserves
    taken = [reserve.take() for _ in range(KEPT + 3)]
    for connection in taken:
        reserve.give_back(connection)
    assert sqlite_store._reading.pool.checkedout() == KEPT  # type: ignore[attr-defined]


class _Contested(list[Any]):
    def __len__(self) -> int:
        """Let another thread take the connections right after this one has looked."""
        found = super().__len__()
        self.clear()
        return found


def test_two_may_take_or_give_back_at_once_what_is_kept_at_hand(database_store: SQLAlchemyStore) -> None:
    """As when the database restarts, and several threads notice it."""
    (reserve,) = database_store._reserves
    connection = reserve.take()
    for use in (reserve.take, reserve.empty):
        reserve._idle = _Contested([connection])
        use()
    connection.close()


def test_who_finds_all_connections_in_use_is_told_soon(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "READ_TIMEOUT", 0.1)
    with store_at(sqlite_url) as store:
        with ExitStack() as held:
            for _ in range(15):
                held.callback(store._reading.raw_connection().close)
            begun = time.monotonic()
            for ask in (lambda: store.find(TOKEN.id), store.clients):
                with pytest.raises(StoreUnavailable, match="all connections to the database are in use"):
                    ask()
            assert time.monotonic() - begun < 20
        assert store.clients() == []


def test_a_key_is_told_by_its_fingerprint(database_store: SQLAlchemyStore) -> None:
    tokens = TokenFormat(SigningKeys(KEY))
    World(database_store).client()
    issued = Issuer(database_store, tokens).issue("billing", "users:manage", actor="tests")
    found = database_store.find(issued.token.id)
    assert found is not None
    assert found.token.key_fingerprint == tokens.key_fingerprint


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x.db?timeout=abc",
        "sqlite:///x?mode=memory&uri=true",
        "sqlite:///file::memory:?uri=true",
        "postgresql:///x?host=a,b&port=1,2,3",
    ],
)
def test_options_of_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"option after its|use a file"):
        SQLAlchemyStore(url)


def test_a_database_that_hangs_is_given_up(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenguard.sqlalchemy.postgresql.READ_TIMEOUT", 0.1)
    with store_at(postgresql_url) as store:
        issued = World(store).issue()
        with store._writing.begin() as connection:
            connection.execute(text("LOCK TABLE tokenguard_token IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(TemporarilyUnavailable):
                World(store).guard.authenticate(issued.text)
        World(store).guard.authenticate(issued.text)


def test_writers_do_not_depend_on_the_servers_isolation_level(postgresql_url: str) -> None:
    failed: list[Exception] = []

    def issue() -> None:
        for _ in range(5):
            try:
                World(store).issue()
            except StoreError as error:
                failed.append(error)

    with store_at(postgresql_url + "&options=-c%20default_transaction_isolation%3Dserializable") as store:
        World(store).client()
        run_together([issue] * 6)
        assert failed == []
        assert store.feed(31).revision == 31


# Writing down uses


@on_postgresql
def test_a_use_that_another_is_writing_is_not_waited_for_and_not_lost(database_store: SQLAlchemyStore) -> None:
    store = database_store
    held, other = put_tokens(store, 2)
    uses = [new_use(500, d7=1)._replace(token_id=token.id) for token in (held, other)]
    assert store.record_uses(uses) == set()
    with store._writing.begin() as connection:
        connection.execute(text("SELECT * FROM tokenguard_use WHERE token_id = :id FOR UPDATE"), {"id": held.id})
        connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
        assert store.record_uses(uses) == {held.id}
        assert (store.use_by_day(held.id), store.use_by_day(other.id)) == ({7: 1}, {7: 2})
    assert store.record_uses(uses[:1]) == set()
    assert store.use_by_day(held.id) == {7: 2}


def test_a_use_waits_less_long_for_sqlites_only_lock_than_a_change(sqlite_url: str) -> None:
    """The thread that writes it has answered, but takes no other request meanwhile."""
    waits: list[int] = []
    with store_at(sqlite_url) as store:
        listen = partial(listening.listen, store._writing, "commit")
        listen(lambda connection: waits.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()))
        (token,) = put_tokens(store, 1)
        assert store.record_uses([new_use(500, d7=1)._replace(token_id=token.id)]) == set()
        World(store).client("other")
    assert waits == [5000, 1000, 5000]


def test_uses_of_many_tokens_take_as_many_statements_as_those_of_one(database_store: SQLAlchemyStore) -> None:
    tokens = put_tokens(database_store, 100)
    asked: list[str] = []
    listening.listen(
        database_store._writing,
        "before_cursor_execute",
        lambda connection, cursor, statement, parameters, context, many: asked.append(context.execute_style.name),
    )
    counts = []
    for some in (tokens[:1], tokens, tokens[:1], tokens):  # the first uses of one token and of all, then further ones
        asked.clear()
        assert database_store.record_uses([new_use(500, d7=1)._replace(token_id=token.id) for token in some]) == set()
        counts.append(len(asked))
        assert "EXECUTEMANY" not in asked  # EXECUTEMANY would send a statement for each row
    assert max(counts) <= min(counts) + 1


def test_first_uses_are_added_in_one_order_whoever_writes_them(database_store: SQLAlchemyStore) -> None:
    """So that two processes that write the same tokens cannot deadlock."""
    tokens = put_tokens(database_store, 20)
    added: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if statement.startswith("INSERT INTO tokenguard_use "):
            values = parameters.values() if isinstance(parameters, dict) else parameters
            added.extend(value for value in values if re.fullmatch(r"\d{16}", str(value)))

    listening.listen(database_store._writing, "before_cursor_execute", note)
    database_store.record_uses([new_use(500)._replace(token_id=token.id) for token in reversed(tokens)])
    assert added == [token.id for token in tokens]


USER = """
import sys
from tokenguard.errors import StoreUnavailable
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import NewUse
store = SQLAlchemyStore(sys.argv[1])
ids = sorted(record.token.id for record in store.records())
print("ready", flush=True)
sys.stdin.readline()
for turn in range(20):
    scopes = frozenset(["s" + sys.argv[2]])
    waiting = {token_id: NewUse(token_id, turn, sys.argv[2], scopes, {7: 1}) for token_id in ids}
    while waiting:
        try:
            again = store.record_uses(list(waiting.values()))
        except StoreUnavailable:
            continue  # nothing is written then, and the usage log tries again too
        waiting = {token_id: waiting[token_id] for token_id in again}
store.close()
"""


@pytest.mark.usefixtures("children_not_measured")
def test_processes_that_write_the_same_uses_lose_none(database_store: SQLAlchemyStore, database_url: str) -> None:
    """From the very first use on, with many tokens in one batch: the processes must not deadlock."""
    tokens = put_tokens(database_store, 20)
    run_at_once(USER, 3, database_url)
    assert [database_store.use_by_day(token.id) for token in tokens] == [{7: 60}] * 20
    for record in database_store.records():
        assert record.use is not None
        assert list(record.use.scopes) == ["s0", "s1", "s2"]


# What ends in the middle

INTERRUPTED = """
import sys
from tests.store_contract import CLIENT, TOKEN, change
from tokenguard.sqlalchemy import SQLAlchemyStore
store = SQLAlchemyStore(sys.argv[1])
with store.transaction() as tx:
    tx.put_client(CLIENT, change())
    tx.put_token(TOKEN, change())
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("children_not_measured")
def test_a_process_killed_in_the_middle_of_a_write_leaves_nothing_of_it(
    database_store: SQLAlchemyStore, database_url: str
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    writer.kill()
    writer.communicate()
    assert database_store.feed(0) == (0, ())
    assert database_store.clients() == []
    assert database_store.find(TOKEN.id) is None
    with database_store.transaction() as tx:
        assert tx.put_client(CLIENT, change()).number == 1
    assert database_store.feed(0).revision == len(database_store.feed(0).events) == 1


def test_a_full_disk_is_told_and_what_is_there_is_still_read(sqlite_store: SQLAlchemyStore) -> None:
    store = sqlite_store
    issued = World(store).issue()
    before = store.feed(0)
    store.close()

    def no_room(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # so the file keeps its present size

    def write() -> None:
        with store.transaction() as tx:
            for number in range(100):
                tx.put_client(replace(CLIENT, id=f"c{number}", name=f"c{number}"), change())

    listening.listen(store._writing, "connect", no_room)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"there is no space left for the database .*nothing was done"):
            write()
        assert store.feed(0) == before
        assert store.find(issued.token.id) is not None
        assert len(store.clients()) == 1
    listening.remove(store._writing, "connect", no_room)
    store.close()
    write()
    assert store.feed(1).revision == 102
