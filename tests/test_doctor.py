"""The doctor: it finds each thing that is wrong, and nothing where nothing is wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from django.db import connections
from sqlalchemy.engine import make_url

from tokenguard import MemoryStore, Policy, ScopeCatalog, Scopes, SigningKeys, StoreUnavailable, TokenFormat
from tokenguard.cli import command_tree
from tokenguard.clock import SECOND
from tokenguard.config import Options
from tokenguard.django.store import DjangoStore
from tokenguard.doctor import Finding, Level, examine
from tokenguard.errors import StoreBusy
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import Store
from tokenguard.usage import end_if_idle

from .conftest import KEY, OTHER_KEY, StoppedClock, World, django_alias
from .redis_server import RedisServer
from .sqlalchemy_tables import store_at

DAY_SECONDS = 86_400
OLD_ENOUGH = 30 * DAY_SECONDS


@pytest.fixture
def world(world: World) -> World:
    world.client()
    return world


def findings(
    world: World,
    *,
    tokens: TokenFormat | None = None,
    policy: Policy | None = None,
    catalog: ScopeCatalog | None = None,
    clock: Callable[[], int] | None = None,
) -> dict[str, Finding]:
    found = examine(
        world.store,
        tokens=tokens or world.tokens,
        catalog=world.catalog if catalog is None else catalog,
        policy=policy or Policy(),
        clock=clock or world.clock,
    )
    assert all(finding.message and finding.advice for finding in found)
    return {finding.code: finding for finding in found}


def test_nothing_is_found_where_nothing_is_wrong(world: World) -> None:
    issued = world.issue(expires_in=400 * DAY_SECONDS)
    world.use(issued, "users:read")
    world.clock.move(OLD_ENOUGH)
    assert findings(world) == {}


def test_a_key_that_is_dropped_while_tokens_of_it_are_in_use(world: World) -> None:
    tokens = [world.issue(expires_in=DAY_SECONDS).token.id for _ in range(5)]
    world.issuer.revoke(tokens.pop(), actor="tests")
    found = findings(world, tokens=TokenFormat(SigningKeys(OTHER_KEY)))
    assert found.keys() == {"key_dropped"}
    finding = found["key_dropped"]
    assert (finding.level, finding.needs_action, set(finding.ids)) == (Level.ERROR, True, set(tokens))
    assert finding.message.startswith("4 tokens are signed by a key that is not configured here")
    assert finding.message.endswith(": " + ", ".join(sorted(tokens)[:3]) + ", …")
    assert "TOKENGUARD_OLD_SIGNING_KEYS" in finding.advice
    assert findings(world, tokens=TokenFormat(SigningKeys(OTHER_KEY, old=[KEY]))) == {}


def test_without_a_key_it_says_that_keys_cannot_be_checked(world: World) -> None:
    (finding,) = examine(world.store, tokens=None, catalog=world.catalog, policy=Policy(), clock=world.clock)
    assert (finding.level, finding.code, finding.needs_action) == (Level.WARNING, "keys_not_checked", False)
    assert "TOKENGUARD_SIGNING_KEY" in finding.advice


@pytest.mark.parametrize(
    ("policy", "urgent"),
    [(Policy(), False), (Policy(require_expiry=True), True), (Policy(max_lifetime=60), True)],
)
def test_tokens_without_expiry_need_a_hand_only_if_the_policy_forbids_them(
    world: World, policy: Policy, urgent: bool
) -> None:
    token_id = world.issue().token.id
    finding = findings(world, policy=policy)["no_expiry"]
    assert (finding.level, finding.needs_action, finding.ids) == (Level.WARNING, urgent, (token_id,))
    assert f"1 token is without expiry{', against the policy' * urgent}: {token_id}" == finding.message


def test_a_token_in_overlap_has_an_end(world: World) -> None:
    token_id = world.issue().token.id
    successor = world.issuer.rotate(token_id, actor="tests").token.id
    assert findings(world)["no_expiry"].ids == (successor,)


def test_idle_tokens_until_that_is_recorded(world: World) -> None:
    token_id = world.issue(expires_in=DAY_SECONDS, idle_timeout=3600).token.id
    world.clock.move(3659)
    assert findings(world) == {}
    world.clock.move(1)
    finding = findings(world)["idle"]
    assert (finding.needs_action, finding.ids) == (False, (token_id,))
    end_if_idle(world.store, token_id)
    assert findings(world) == {}


def test_scopes_that_nobody_uses_are_told_after_thirty_days(world: World) -> None:
    issued = world.issue("users:manage groups:read", expires_in=400 * DAY_SECONDS)
    world.use(issued, "users:manage")
    world.clock.move(OLD_ENOUGH - 1)
    assert findings(world) == {}
    world.clock.move(1)
    finding = findings(world)["unused_scopes"]
    assert (finding.needs_action, finding.ids) == (False, (issued.token.id,))
    world.use(issued, "groups:read")
    assert findings(world) == {}


@pytest.mark.parametrize(
    ("granted", "asked", "unused"),
    [
        ("users:manage", [], ["users:read", "users:manage"]),
        ("users:manage", ["users:read"], ["users:manage"]),
        ("users:manage", ["users:manage"], []),  # the scope that this one implies cannot be taken away without it
        ("users:*", ["users:read"], ["users:manage"]),
        ("groups:*", ["groups:read"], []),
    ],
)
def test_unused_scopes_by_the_catalogue(world: World, granted: str, asked: list[str], unused: list[str]) -> None:
    world.issuer.set_scopes("billing", "users:* groups:*", actor="tests")
    issued = world.issue(granted)
    if asked:
        world.use(issued, *asked)
    record = world.store.find(issued.token.id)
    assert record is not None
    assert record.unused_scopes(world.catalog) == unused
    narrowed = record._replace(client=replace(record.client, scopes=Scopes()))
    assert narrowed.unused_scopes(world.catalog) == []


def test_unused_scopes_as_written_without_a_catalogue() -> None:
    world = World(MemoryStore(), catalog=ScopeCatalog())
    world.client(scopes="*")
    issued = world.issue("a.* b c.*")
    world.use(issued, "a.read", "b")
    record = world.store.find(issued.token.id)
    assert record is not None
    assert record.unused_scopes(world.catalog) == ["c.*"]


def test_a_client_whose_tokens_exceed_what_it_may_have_now(world: World) -> None:
    world.issue("users:read", expires_in=DAY_SECONDS)
    gone = world.issue("groups:read", expires_in=DAY_SECONDS)
    world.issuer.set_scopes("billing", "users:manage", actor="tests")
    finding = findings(world)["beyond_client"]
    client = world.store.clients()[0]
    assert (finding.level, finding.needs_action, finding.ids) == (Level.WARNING, True, (client.id,))
    assert finding.message.startswith("1 client has active tokens with scopes beyond")
    world.issuer.revoke(gone.token.id, actor="tests")
    assert findings(world) == {}


def test_without_a_catalogue_nobody_knows_what_a_scope_implies(world: World) -> None:
    world.issue("users:read", expires_in=DAY_SECONDS)
    world.issuer.set_scopes("billing", "users:manage", actor="tests")
    assert findings(world) == {}
    finding = findings(world, catalog=ScopeCatalog())["beyond_client"]
    assert (finding.level, finding.needs_action) == (Level.WARNING, False)
    assert "also those that another scope implies" in finding.message


def test_scopes_that_have_left_the_catalogue(world: World) -> None:
    world.client("all", scopes="users:* groups:read")
    kept, gone = (world.issue(scopes, client="all").token.id for scopes in ("users:*", "users:read groups:read"))
    ended = world.issue("groups:read")
    world.issuer.revoke(ended.token.id, actor="tests")
    found = findings(world, catalog=ScopeCatalog({"users:read": "", "users:manage": ""}))
    finding = found["undeclared_scopes"]
    assert (finding.level, finding.needs_action, finding.ids) == (Level.WARNING, False, (gone,))
    assert finding.message == f"1 token is granted scopes that are not in the catalogue: {gone}"
    assert kept in found["no_expiry"].ids


@pytest.mark.parametrize(("apart", "words"), [(6, "6 seconds ahead of"), (-60, "60 seconds behind")])
def test_clocks_that_disagree(world: World, apart: int, words: str) -> None:
    for seconds in (-5, 5):
        assert findings(world, clock=lambda at=seconds: world.clock() + at * 1_000_000) == {}  # type: ignore[misc]
    finding = findings(world, clock=lambda: world.clock() + apart * 1_000_000)["clocks"]
    assert (finding.level, finding.needs_action) == (Level.ERROR, True)
    assert words in finding.message


def test_no_catalogue(world: World) -> None:
    found = findings(world, catalog=ScopeCatalog())
    assert [(code, finding.needs_action) for code, finding in found.items()] == [("no_catalog", False)]


def test_the_worst_comes_first(world: World) -> None:
    world.issue("groups:read")
    world.issuer.set_scopes("billing", "", actor="tests")
    found = findings(world, tokens=TokenFormat(SigningKeys(OTHER_KEY)))
    assert list(found) == ["key_dropped", "beyond_client", "no_expiry"]


def test_where_nothing_can_be_changed_all_else_is_looked_at() -> None:
    class ReadOnly(MemoryStore):
        error = StoreUnavailable("the database cannot be written")

        def transaction(self) -> Any:
            if self.clients():
                raise self.error
            return super().transaction()

    world = World(store := ReadOnly())
    world.client()
    found = findings(world)
    assert found["not_writable"].level == Level.WARNING
    assert "clients and tokens cannot be changed from here: the database cannot be" in found["not_writable"].message
    assert not found["not_writable"].needs_action
    assert "clocks" in findings(world, clock=lambda: world.clock() + 6 * SECOND)
    store.error = StoreBusy("another writer held the database for too long")
    assert "not_writable" not in findings(world)


@pytest.mark.parametrize(("error", "told"), [(StoreUnavailable("no such table"), True), (StoreBusy("not now"), False)])
def test_that_uses_cannot_be_written_is_told_unless_somebody_else_is_writing(
    world: World, monkeypatch: pytest.MonkeyPatch, error: StoreUnavailable, told: bool
) -> None:
    def fail(uses: Any) -> Any:
        raise error

    monkeypatch.setattr(world.store, "record_uses", fail)
    assert ("uses_not_written" in findings(world)) == told


def test_tokens_of_a_disabled_client_are_not_active(world: World) -> None:
    world.issue()
    world.issuer.disable("billing", actor="tests")
    assert findings(world) == {}


def test_what_needs_a_hand_comes_first(world: World) -> None:
    world.issue()
    policy = Policy(require_expiry=True)
    found = examine(world.store, tokens=None, catalog=world.catalog, policy=policy, clock=world.clock)
    assert [finding.code for finding in found] == ["no_expiry", "keys_not_checked"]


def test_rights_that_are_missing_are_found(postgresql_url: str, world: World) -> None:
    all_tables = "tokenguard_client, tokenguard_token, tokenguard_use, tokenguard_use_day, tokenguard_event"
    with store_at(postgresql_url), psycopg.connect(postgresql_url, autocommit=True) as admin:

        def found(*, but: str) -> dict[str, str]:
            admin.execute("DROP ROLE IF EXISTS lacking; CREATE ROLE lacking LOGIN")
            admin.execute(f"GRANT SELECT, INSERT, UPDATE ON {all_tables}, tokenguard_revision TO lacking".encode())
            admin.execute(f"REVOKE INSERT, UPDATE ON {but} FROM lacking".encode())
            with closing(SQLAlchemyStore(make_url(postgresql_url).set(username="lacking"))) as mine:
                all_found = examine(mine, tokens=world.tokens, catalog=world.catalog, policy=Policy())
            admin.execute("DROP OWNED BY lacking; DROP ROLE lacking")
            return {finding.code: finding.message for finding in all_found}

        assert found(but="tokenguard_alembic_version") == {}
        for table in ("tokenguard_client", "tokenguard_token", "tokenguard_event", "tokenguard_revision"):
            messages = found(but=table)
            assert messages.keys() == {"not_writable"}
            assert f"permission denied for table {table}" in messages["not_writable"]
        for table in ("tokenguard_use", "tokenguard_use_day"):
            messages = found(but=table)
            assert messages.keys() == {"uses_not_written"}
            assert f"permission denied for table {table}" in messages["uses_not_written"]


def test_it_changes_nothing(any_store: Store, clock: StoppedClock) -> None:
    """Although it tries whether it can."""
    world = World(any_store, clock)
    world.issue(idle_timeout=3600)
    clock.move(OLD_ENOUGH)
    before = any_store.feed(0), any_store.records()
    assert "idle" in findings(world)
    assert (any_store.feed(0), any_store.records()) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_file_whose_readers_wait_for_writers_in_django(sqlite_url: str, mode: str) -> None:
    with django_alias(sqlite_url) as alias:
        store = DjangoStore(alias)
        store.upgrade()
        connections[alias].cursor().execute(f"PRAGMA journal_mode = {mode}")
        assert ("not_write_ahead" in findings(World(store))) == (mode == "DELETE")


def test_a_database_that_somebody_holds_is_not_called_damaged() -> None:
    """As somebody does who has locked a table and gone home."""

    class Held(MemoryStore):
        def page(self, *asked: Any, **more: Any) -> Any:
            raise StoreBusy("another writer held the database for too long")

    finding = findings(World(Held()))["store"]
    assert (finding.level, finding.needs_action) == (Level.ERROR, True)
    assert finding.advice.startswith("find out who holds it")


def test_a_replica_that_cannot_be_asked_is_found(postgresql_url: str) -> None:
    elsewhere = make_url(postgresql_url).set(drivername="postgresql", host="127.0.0.1", port=1, query={})
    with store_at(postgresql_url):
        for url, problem in [(postgresql_url, "it is not a replica"), (elsewhere, "Connection refused")]:
            with closing(SQLAlchemyStore(postgresql_url, read_url=url)) as store:
                finding = findings(World(store))["replica"]
            assert problem in finding.message
            assert (finding.level, finding.needs_action) == (Level.WARNING, True)


# From the command line


Run = Callable[..., Result]


def run(store: Store, *arguments: str, **options: str) -> Result:
    """Run a command, by default the doctor, on this store."""
    read = Options.read({"SIGNING_KEY": KEY, "SCOPES": '{"users:read": "Read users"}'} | options)
    # An exception would exit with 1 too, as a finding does that needs action.
    return CliRunner().invoke(command_tree(lambda: (read, store)), arguments or ["doctor"], catch_exceptions=False)


@pytest.fixture
def empty(sqlite_url: str) -> Iterator[Run]:
    """The command line on a database without tables."""
    with closing(SQLAlchemyStore(sqlite_url)) as store:
        yield partial(run, store)


@pytest.fixture
def doctor(empty: Run) -> Run:
    """The same with tables."""
    empty("init")
    return empty


def by_hand(sqlite_url: str, statement: str) -> None:
    """Change the database by somebody else's hand."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute(statement)


def test_all_is_well(doctor: Run) -> None:
    doctor("init")
    assert (doctor().exit_code, doctor().stdout, doctor().stderr) == (0, "", "All is well.\n")
    done = doctor("doctor", "--json")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "[]\n", "")


def test_what_needs_no_hand_is_listed_and_exits_with_0(doctor: Run) -> None:
    doctor("client", "add", "billing", "--scopes", "users:read")
    token_id = doctor("issue", "billing", "--scopes", "users:read").stdout.split("_")[1]
    done = doctor()
    assert (done.exit_code, done.stderr) == (0, "All is well; nothing listed needs action.\n")
    assert f"1 token is without expiry: {token_id}" in done.stdout
    (finding,) = json.loads(doctor("doctor", "--json").stdout)
    assert (finding["level"], finding["code"], finding["ids"]) == ("warning", "no_expiry", [token_id])


def test_what_needs_a_hand_exits_with_1(doctor: Run) -> None:
    doctor("client", "add", "billing", "--scopes", "users:read")
    doctor("issue", "billing", "--scopes", "users:read")
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = doctor(*arguments, SIGNING_KEY=OTHER_KEY)
        assert (done.exit_code, done.stderr) == (1, "Error: 1 of 2 findings needs action\n")
        assert "not configured here" in done.stdout
        # More often it is the key that is wrong than the tokens.
        assert "check that TOKENGUARD_SIGNING_KEY is the service's" in " ".join(done.stdout.split())


def test_a_database_that_lets_nobody_write_is_found_by_writing(doctor: Run, sqlite_url: str) -> None:
    """SQLite lets a transaction begin even on a file that was opened read-only."""
    with closing(SQLAlchemyStore(f"{sqlite_url.replace('///', '///file:')}?mode=ro&uri=true")) as store:
        done = run(store, "doctor", "--json")
    found = [(finding["code"], finding["level"]) for finding in json.loads(done.stdout)]
    assert (found, done.exit_code) == ([("not_writable", "warning"), ("uses_not_written", "warning")], 0)


@pytest.mark.parametrize("by", [-1, 1])
def test_tables_that_are_not_from_the_same_moment(doctor: Run, sqlite_url: str, by: int) -> None:
    """As after a restore that was broken off: nothing can be issued or revoked where the counter is behind."""
    doctor("client", "add", "billing", "--scopes", "users:read")
    doctor("client", "disable", "billing")
    by_hand(sqlite_url, f"UPDATE tokenguard_revision SET revision = revision + {by}")
    done = doctor("doctor", "--json")
    (finding,) = json.loads(done.stdout)
    assert (finding["level"], finding["code"], done.exit_code) == ("error", "history", 1)
    assert f"tokenguard_revision is at {2 + by}, but the last event in tokenguard_event is 2" in finding["message"]
    assert finding["advice"].startswith("restore all tables together")


@pytest.mark.parametrize("table", ["client", "token", "event", "use", "use_day", "revision"])
def test_a_table_that_is_missing(doctor: Run, sqlite_url: str, table: str) -> None:
    by_hand(sqlite_url, f"DROP TABLE tokenguard_{table}")
    done = doctor("doctor", "--json")
    (finding,) = json.loads(done.stdout)
    assert (finding["level"], finding["code"], done.exit_code) == ("error", "schema", 1)
    assert finding["advice"].endswith("if it changes nothing, restore a backup")
    if table != "revision":  # without that one it looks as if there were no tables
        done = doctor("init")
        assert f"the table tokenguard_{table} is missing: restore the database from a backup" in done.stderr


def test_an_index_that_is_missing(doctor: Run, sqlite_url: str) -> None:
    by_hand(sqlite_url, "DROP INDEX tokenguard_event_client")
    done = doctor("doctor", "--json")
    (finding,) = json.loads(done.stdout)
    assert (finding["level"], finding["code"], done.exit_code) == ("warning", "indexes", 0)
    assert finding["message"].endswith(": tokenguard_event_client")
    assert "after dropping it if it exists but is invalid" in finding["advice"]
    by_hand(sqlite_url, finding["advice"].split('"')[1])
    assert json.loads(doctor("doctor", "--json").stdout) == []


@pytest.mark.usefixtures("doctor")
def test_a_file_whose_readers_wait_for_writers(sqlite_url: str, tmp_path: Path) -> None:
    by_hand(sqlite_url, f"VACUUM INTO '{tmp_path / 'copy.db'}'")
    with closing(SQLAlchemyStore(f"sqlite:///{tmp_path / 'copy.db'}")) as store:
        done = run(store, "doctor", "--json")
        (finding,) = json.loads(done.stdout)
        assert (finding["level"], finding["code"], done.exit_code) == ("warning", "not_write_ahead", 0)
        run(store, "init")
        assert json.loads(run(store, "doctor", "--json").stdout) == []


def test_a_row_that_is_damaged(doctor: Run, sqlite_url: str) -> None:
    doctor("client", "add", "billing", "--scopes", "users:read")
    doctor("issue", "billing", "--scopes", "users:read")
    by_hand(sqlite_url, "UPDATE tokenguard_token SET scopes = 'none'")
    by_hand(sqlite_url, "UPDATE tokenguard_revision SET revision = 9")
    finding, other = json.loads(doctor("doctor", "--json").stdout)
    assert (finding["level"], finding["code"]) == ("error", "store")
    assert finding["message"].startswith("a row of tokenguard_token is damaged")
    assert finding["advice"].startswith("restore that from a backup")
    assert other["code"] == "history"  # a token ends no check but that of the tokens
    by_hand(sqlite_url, "UPDATE tokenguard_event SET data = 'none'")
    (finding,) = json.loads(doctor("doctor", "--json").stdout)
    assert finding["message"].startswith("a row of tokenguard_event is damaged")
    assert "nothing else can be checked" in finding["advice"]


def test_a_database_that_is_not_ready(empty: Run, sqlite_url: str) -> None:
    done = empty()
    assert (done.exit_code, done.stderr) == (1, "Error: 1 of 1 findings needs action\n")
    assert 'run "tokenguard init"' in done.stdout
    empty("init")
    by_hand(sqlite_url, "UPDATE tokenguard_revision SET schema_version = 99")
    (finding,) = json.loads(empty("doctor", "--json").stdout)
    assert (finding["level"], finding["code"]) == ("error", "schema")
    assert "schema version 99, newer than this tokenguard supports" in finding["message"]


# The servers beside the database


def about(doctor: Run, **options: str) -> dict[str, str]:
    """Return what is said of these options, which always needs a hand."""
    done = doctor("doctor", "--json", **options)
    found = json.loads(done.stdout)
    assert (done.exit_code, {finding["level"] for finding in found}) == ((1, {"warning"}) if found else (0, set()))
    assert all(finding["needs_action"] and finding["advice"] for finding in found)
    return {finding["code"]: finding["message"] for finding in found}


def test_a_redis_that_answers_is_no_finding(doctor: Run, redis_server: RedisServer) -> None:
    assert about(doctor, PUSH_URL=redis_server.url, RATE_LIMIT_URL=redis_server.url) == {}
    with redis_server.connect() as connection:
        assert connection.keys() == []


def test_a_redis_that_is_away_is_found_without_its_password(doctor: Run) -> None:
    nowhere = "redis://:hunter2secret@127.0.0.1:1/0"
    assert about(doctor, PUSH_URL=nowhere, RATE_LIMIT_URL=nowhere) == {
        "push": "revocations cannot be published over Redis from here: ConnectionError",
        "rate_limits": "requests with a rate cannot be counted from here: ConnectionError",
    }
    # Also beside a database that is not ready.
    other = MemoryStore()
    other.check = lambda: (_ for _ in ()).throw(StoreUnavailable("away"))  # type: ignore[method-assign]
    done = run(other, "doctor", "--json", PUSH_URL=nowhere)
    assert [finding["code"] for finding in json.loads(done.stdout)] == ["store", "push"]
    assert "hunter2secret" not in done.output


def test_a_redis_that_lets_this_user_do_nothing_is_found(doctor: Run, redis_server: RedisServer) -> None:
    with redis_server.connect() as connection:
        connection.acl_setuser("mute", enabled=True, nopass=True, keys=["*"], commands=["+ping", "+hello", "+del"])
    url = redis_server.url.replace("redis+unix://", "redis+unix://mute:x@")
    assert about(doctor, PUSH_URL=url, RATE_LIMIT_URL=url) == {
        "push": "revocations cannot be published over Redis from here: NoPermissionError",
        "rate_limits": "requests with a rate cannot be counted from here: NoPermissionError",
    }


def test_a_url_that_cannot_be_used_is_a_finding_and_no_end(doctor: Run) -> None:
    found = about(doctor, PUSH_URL="nonsense", RATE_LIMIT_URL="nonsense")
    assert found.keys() == {"push", "rate_limits"}
    assert "TOKENGUARD_PUSH_URL: the URL cannot be used" in found["push"]
    assert "TOKENGUARD_RATE_LIMIT_URL: the rate limit URL cannot be used" in found["rate_limits"]
