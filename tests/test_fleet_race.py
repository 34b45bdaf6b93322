"""Several processes against one that revokes: no request that begins later than the commit plus the bound is let in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tokenguard import Issuer, SigningKeys, TokenFormat
from tokenguard.clock import monotonic
from tokenguard.sqlalchemy import SQLAlchemyStore

from .bulk import issue_many
from .conftest import KEY
from .racer import LANES, RACERS, Course, Plan

ROOT = Path(__file__).parent.parent
ROUNDS = 300
BOUND = 0.1
#: The least number of seconds between two revocations: the racers need them to get to the next token.
PACE = 0.004


@dataclass
class Race:
    """The result of a race: when each revocation had returned, and what each thread has seen."""

    commits: list[float]
    finds: int
    lanes: list[dict[str, Any]]

    def total(self, name: str) -> int:
        return sum(sum(found) if isinstance(found := lane[name], list) else found for lane in self.lanes)

    def after(self, seconds: float) -> list[float]:
        """By how much the requests that were let in began later than a commit plus these seconds."""
        late = [last - commit for lane in self.lanes for last, commit in zip(lane["last"], self.commits, strict=True)]
        return [each - seconds for each in late if each > seconds]


def run(url: str, folder: Path, *, staleness: float = BOUND, trouble: str = "", rounds: int = ROUNDS) -> Race:
    store = SQLAlchemyStore(url)
    store.upgrade()
    issuer = Issuer(store, TokenFormat(SigningKeys(KEY)))
    tokens = issue_many(store, rounds)
    plan = Plan(str(folder), url, [minted.text.reveal() for minted in tokens], staleness, trouble)
    course = Course(plan.folder)
    racers = subprocess.Popen([sys.executable, "-m", "tests.racer", plan.write()], cwd=ROOT, start_new_session=True)
    try:
        await_files(folder, "ready", racers)
        commits = []
        for number, minted in enumerate(tokens):
            course.at = number
            time.sleep(PACE)
            await_lanes(course, number)
            if number % 4:
                issuer.revoke(minted.id, actor="tests")
            else:
                issuer.disable(f"client {number}", actor="tests")
            commits.append(monotonic())
        time.sleep(3 * BOUND)  # in which the last tokens are sent, and refused
        course.at = -1
        reports = [json.loads(path.read_text()) for path in await_files(folder, "report", racers)]
        lanes = [lane for report in reports for lane in report["lanes"]]
        return Race(commits, sum(report["finds"] for report in reports), lanes)
    finally:
        store.close()
        with suppress(ProcessLookupError):
            os.killpg(racers.pid, signal.SIGKILL)
        racers.wait()


def await_lanes(course: Course, number: int) -> None:
    """Wait until half of the lanes have sent this token: on a busy machine a race takes longer, but remains a race."""
    deadline = time.monotonic() + 60
    while course.have_passed(number) < LANES / 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def await_files(folder: Path, kind: str, racers: subprocess.Popen[bytes]) -> list[Path]:
    paths = [folder / f"{kind}-{number}" for number in range(RACERS)]
    deadline = time.monotonic() + 60
    while not all(path.exists() and (kind == "ready" or path.stat().st_size) for path in paths):
        assert time.monotonic() < deadline
        assert not racers.poll()
        time.sleep(0.01)
    if kind == "report":
        assert racers.wait(60) == 0
    return paths


@pytest.mark.parametrize("trouble", ["", "delayed", "failing", "stepped"], ids=lambda trouble: trouble or "quiet")
def test_no_request_is_let_in_that_begins_later_than_the_commit_and_the_bound(
    database_url: str, tmp_path: Path, trouble: str
) -> None:
    race = run(database_url, tmp_path, trouble=trouble)
    assert race.after(BOUND) == []
    # And it was a race: tokens were let in, from the cache, before and after the commit, and refused in the end.
    assert race.total("let_in") > 3 * race.finds
    assert race.total("let_in") > 10 * ROUNDS
    assert len(race.after(0)) > ROUNDS / 4
    assert race.total("refused") > ROUNDS
    assert (race.total("unavailable") > 0) == (trouble == "failing")


def test_a_race_shows_who_is_too_late(sqlite_url: str, tmp_path: Path) -> None:
    race = run(sqlite_url, tmp_path, staleness=4 * BOUND, rounds=100)
    assert len(race.after(BOUND)) > 20
