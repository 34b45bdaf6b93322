"""Pruning: what ended long ago goes, what is alive stays, and those who read the feed notice nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tokenguard import InvalidToken, InvalidValue, Store, Token
from tokenguard.cli import command_tree
from tokenguard.clock import DAY, SECOND
from tokenguard.config import Options
from tokenguard.doctor import examine
from tokenguard.errors import StoreBusy
from tokenguard.foreign import revoke_token
from tokenguard.prune import BATCH, FOREIGN_BATCH, Pruned, PruningStopped, prune
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import NewUse, Record
from tokenguard.usage import end_if_idle

from .conftest import StoppedClock, World
from .sqlalchemy_tables import store_at

DAY_SECONDS = 86_400
AGE = 90 * DAY_SECONDS


@pytest.fixture
def world(world: World) -> World:
    world.client()
    return world


def ids(world: World) -> list[str]:
    return [record.token.id for record in world.store.records()]


def used(world: World, token_id: str) -> None:
    at = world.clock()
    world.store.record_uses([NewUse(token_id, at, "10.0.0.1", frozenset({"users:read"}), {at // DAY: 3})])


def run(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(command_tree(lambda: (Options.read({}), store)), arguments, catch_exceptions=False)


@pytest.mark.parametrize("age", [AGE, DAY_SECONDS])
def test_every_way_to_end_for_good_counts_from_its_own_moment(world: World, age: int) -> None:
    revoked, rotated, idle = (world.issue(idle_timeout=3600).token.id for _ in range(3))
    expired = world.issue(expires_in=7200).token.id
    world.clock.move(1)
    successor = world.issuer.rotate(rotated, actor="tests", overlap=7199).token.id
    world.clock.move(7199)
    world.issuer.revoke(revoked, successor, actor="tests")
    end_if_idle(world.store, idle)
    for token_id in ids(world):
        used(world, token_id)
    world.clock.move(age - 1)
    assert prune(world.store, age, actor="tests").tokens == 0
    world.clock.move(1)
    assert set(ids(world)) == {revoked, rotated, idle, expired, successor}
    assert prune(world.store, age, actor="tests").tokens == 5
    assert ids(world) == []
    assert world.store.use_by_day(revoked) == {}


def test_what_is_alive_or_may_live_again_is_never_touched(world: World) -> None:
    world.client("disabled")
    kept = [
        world.issue(),
        world.issue(expires_in=400 * DAY_SECONDS),
        world.issue(client="disabled"),
        world.issue(idle_timeout=3600),  # idle, but no idle end is recorded
    ]
    rotated = world.issue()
    world.issuer.rotate(rotated.token.id, actor="tests", overlap=400 * DAY_SECONDS)
    world.issuer.disable("disabled", actor="tests")
    before = ids(world)
    world.clock.move(200 * DAY_SECONDS)
    assert prune(world.store, AGE, actor="tests").tokens == 0
    assert ids(world) == before
    assert len(world.store.clients()) == 2
    assert world.scopes_of(kept[0])
    assert world.scopes_of(rotated)


def test_counts_and_events_go_by_age_and_the_newest_event_stays(world: World) -> None:
    token_id = world.issue().token.id
    used(world, token_id)
    world.clock.move(AGE)
    assert prune(world.store, AGE, actor="tests") == Pruned()  # the day is not that old to its end
    world.clock.move(DAY_SECONDS)
    used(world, token_id)
    assert prune(world.store, AGE, actor="tests") == Pruned(tokens=0, days=1, events=2)
    assert list(world.store.use_by_day(token_id)) == [world.clock() // DAY]
    days, events = world.store.events(10)
    assert (days.number, days.kind, days.actor, days.data) == (3, "store.pruned", "tests", {"days": [None, 1]})
    assert (events.number, events.kind, events.data) == (4, "store.pruned", {"events": [None, 2]})
    assert days.at == events.at == world.clock()
    world.clock.move(2 * AGE)
    assert prune(world.store, AGE, actor="tests") == Pruned(tokens=0, days=1, events=2)
    world.clock.move(2 * AGE)
    assert prune(world.store, AGE, actor="tests") == Pruned(tokens=0, days=0, events=1)
    assert [event.number for event in world.store.events(10)] == [6, 7]


def test_nothing_to_remove_leaves_no_event(world: World) -> None:
    before = world.store.events(10)
    assert prune(world.store, AGE, actor="x" * 255) == Pruned()
    world.clock.move(2 * AGE)
    assert prune(world.store, AGE, actor="tests") == Pruned()  # the only event is the newest one
    assert world.store.events(10) == before


def test_many_go_in_transactions_of_a_thousand_rows(world: World) -> None:
    tokens = [world.issue().token.id for _ in range(BATCH + 1)]
    world.issuer.revoke(*tokens, actor="tests")
    world.clock.move(AGE)
    kept = world.issue().token.id
    world.store.record_uses([NewUse(kept, world.clock(), "", frozenset(), dict.fromkeys(range(BATCH + 1), 1))])
    steps: list[int] = []
    # After each transaction, other writers have their turn.
    removed = prune(world.store, AGE, actor="tests", progress=steps.append, pause=lambda: steps.append(0))
    assert removed == Pruned(tokens=BATCH + 1, days=BATCH + 1, events=0)
    assert steps == [BATCH, 0, 1, 0] * 2
    world.clock.move(1)
    steps.clear()
    assert prune(world.store, AGE, actor="tests", progress=steps.append).events == 2 * BATCH + 3
    assert steps == [BATCH, BATCH, 3]
    kinds = [event.kind for event in world.store.events(10)]
    assert kinds == ["token.issued", *["store.pruned"] * 7]  # one in each transaction


def test_however_many_there_are_none_waits_for_all_of_them(
    sqlite_url: str, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement has only so much time, and a process so much memory: pruning a large table used to fail on that."""

    def refuse(client_id: str | None = None) -> list[Record]:
        raise AssertionError("all of them are read at once")

    with store_at(sqlite_url, clock) as store:
        world = World(store, clock)
        tokens = {world.issue().token.id for _ in range(5)}
        world.issuer.revoke(*[*tokens][:3], actor="tests")
        monkeypatch.setattr("tokenguard.store.PAGE", 2)
        monkeypatch.setattr(store, "records", refuse)
        found = examine(store, tokens=world.tokens, catalog=world.catalog, policy=world.policy, clock=clock)
        assert "no_expiry" in {finding.code for finding in found}
        assert {token["id"] for token in json.loads(run(store, "list", "--json").stdout)} == tokens
        clock.move(AGE)
        assert prune(store, AGE, actor="tests").tokens == 3


def test_what_is_revoked_again_meanwhile_stays_refused(
    any_store: Store, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a prune, a holder may revoke another issuer's token that has the same id and lives on."""
    world, read = World(any_store, clock=clock), any_store.page
    begun = clock()

    def revoke(token_id: str, days: int) -> Token:
        end = begun + days * DAY
        return revoke_token(world.issuer, "https://idp.example.com", "app", token_id, actor="tests", expires_at=end)

    def page(*asked: Any, **more: Any) -> list[Record]:
        found = read(*asked, **more)
        revoke("lives on", 400)
        return found

    kept = revoke("lives on", 1)
    for number in range(FOREIGN_BATCH):
        revoke(f"has ended {number}", 1)
    clock.micros = begun + 100 * DAY
    monkeypatch.setattr(any_store, "page", page)
    steps: list[int] = []
    assert prune(any_store, AGE, actor="tests", progress=steps.append).tokens == FOREIGN_BATCH
    assert steps[:2] == [FOREIGN_BATCH - 1, 1]  # the one that is kept is in the first transaction
    assert any_store.find_foreign(kept.id, kept.client_id).revoked
    assert [record.token.id for record in any_store.records()] == [kept.id]
    monkeypatch.undo()
    clock.micros = begun + 500 * DAY
    assert prune(any_store, AGE, actor="tests").tokens == 1


def test_another_may_have_removed_meanwhile_what_is_to_be_removed(
    any_store: Store, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two hosts have the same cron job: each counts and records only what it removed itself."""
    world, read = World(any_store, clock=clock), any_store.page
    end = clock() + DAY
    world.client()
    world.issue(expires_in=DAY_SECONDS)
    revoke_token(world.issuer, "https://idp.example.com", "app", "its own", actor="tests", expires_at=end)

    def page(*asked: Any, **more: Any) -> list[Record]:
        found = read(*asked, **more)
        monkeypatch.undo()
        assert prune(any_store, AGE, actor="the other").tokens == 2
        return found

    clock.micros = end + 100 * DAY
    monkeypatch.setattr(any_store, "page", page)
    assert prune(any_store, AGE, actor="tests").tokens == 0
    assert any_store.records() == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, BrokenPipeError])
def test_what_is_gone_is_recorded_though_the_rest_failed(world: World, kind: type[BaseException]) -> None:
    world.issuer.revoke(world.issue().token.id, actor="tests")
    world.clock.move(AGE)

    def interrupt(rows: int) -> None:
        raise kind

    with pytest.raises(kind):
        prune(world.store, AGE, actor="tests", progress=interrupt)
    assert world.store.events(1)[0].data == {"tokens": [None, 1]}


def test_ctrl_c_tells_what_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*asked: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    def pruned() -> tuple[int, str]:
        done = run(world.store, "prune", "--older-than", "90d")
        return done.exit_code, done.stderr

    world.issuer.revoke(world.issue().token.id, world.issue().token.id, actor="tests")
    world.clock.move(AGE)
    monkeypatch.setattr("tokenguard.prune.BATCH", 1)
    monkeypatch.setattr("tokenguard.cli.audit.time.sleep", interrupt)
    gone = "removed so far: 1 token, 0 counts of a day's requests, 0 events"
    assert pruned() == (1, f"Error: {gone}; stopped by Ctrl-C\n")
    monkeypatch.setattr(world.store, "page", interrupt)
    assert pruned() == (1, "\nAborted!\n")  # as of any other command


def test_where_the_store_fails_on_the_way_what_is_gone_is_told_and_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer may hold the lock from then on, so nothing more can be recorded either."""
    world.issuer.revoke(world.issue().token.id, actor="tests")
    world.clock.move(AGE + 1)

    def busy() -> None:
        raise StoreBusy("another writer held the database for too long")

    def hold(rows: int) -> None:
        monkeypatch.setattr(world.store, "transaction", busy)

    with pytest.raises(PruningStopped, match=r"removed so far: 1 token, 0 counts .*; stopped by: another wr") as e:
        prune(world.store, AGE, actor="tests", progress=hold)
    assert e.value.removed == Pruned(tokens=1)
    assert world.store.events(1)[0].data == {"tokens": [None, 1]}
    with pytest.raises(StoreBusy):
        prune(world.store, AGE, actor="tests")


def test_where_it_fails_before_anything_is_gone_that_alone_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*asked: Any, **more: Any) -> list[Record]:
        raise StoreBusy("another writer held the database for too long")

    monkeypatch.setattr(world.store, "page", away)
    with pytest.raises(StoreBusy):
        prune(world.store, AGE, actor="tests")


def test_a_guard_that_remembers_tokens_goes_on(world: World) -> None:
    kept, gone = world.issue(), world.issue()
    assert world.scopes_of(kept)
    world.issuer.revoke(gone.token.id, actor="tests")
    world.clock.move(AGE + 1)
    prune(world.store, AGE, actor="tests")
    assert world.scopes_of(kept)
    with pytest.raises(InvalidToken):
        world.scopes_of(gone)


@pytest.mark.parametrize(("age", "actor"), [(DAY_SECONDS - 1, "tests"), (0, "tests"), (AGE, "x" * 256), (AGE, "")])
def test_bad_input_removes_nothing(world: World, age: int, actor: str) -> None:
    world.issuer.revoke(world.issue().token.id, actor="tests")
    world.clock.move(10 * AGE)
    with pytest.raises(InvalidValue):
        prune(world.store, age, actor=actor)
    assert len(ids(world)) == 1


def long_ago(url: str) -> None:
    """Create a database with one dead token, whose history is years old."""
    clock = StoppedClock()
    clock.micros = 1_600_000_000 * SECOND
    with store_at(url, clock) as store:
        world = World(store, clock)
        ended, alive = world.issue().token.id, world.issue().token.id
        used(world, ended)
        used(world, alive)
        world.issuer.revoke(ended, actor="tests")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux reports that the other side is closed
        return b""


def test_from_the_command_line(sqlite_url: str) -> None:
    long_ago(sqlite_url)
    with closing(SQLAlchemyStore(sqlite_url)) as store:
        done = run(store, "prune", "--older-than", "90d")
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr == "Removed: 1 token, 1 count of a day's requests, 4 events.\n"
        assert len(store.records()) == 1
        assert [event.number for event in store.events(10)] == [5, 6, 7]


@pytest.mark.usefixtures("without_environment")
def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    long_ago(f"sqlite:///{tmp_path / 'tokenguard.db'}")
    seen, terminal = os.openpty()
    command = [sys.executable, "-m", "tokenguard", "prune", "--older-than", "90d"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"TERM": "xterm"}, stderr=terminal):
        os.close(terminal)
        shown = b"".join(iter(lambda: read(seen), b""))
    os.close(seen)
    assert b"Removing" in shown
    assert shown.endswith(b"Removed: 1 token, 1 count of a day's requests, 4 events.\r\n")
