"""PostgreSQL and Redis are killed, hang and come back under load: no wrong answer, no error, nothing lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from .outage import APPS, Fleet, fleet

#: STALENESS, which is left at its default.
BOUND = 1.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.01)


def enough(fleet: Fleet, kind: str, *statuses: int) -> None:
    """Wait until these answers have been given to many requests from now on, perhaps beside other answers."""
    since = fleet.now
    until(lambda: sum(fleet.statuses(kind, since=since)[status] for status in statuses) > 30)


def go_through_everything(fleet: Fleet, *, without_database: int, hanging: bool = False) -> None:
    """``without_database`` is how good tokens are answered while the database is away."""
    with fleet.load():
        enough(fleet, "rated", 200)
        fleet.database.kill()
        enough(fleet, "unknown", 503)
        enough(fleet, "good", without_database)
        fleet.database.start()
        enough(fleet, "unknown", 401)
        enough(fleet, "victim", 200)
        fleet.redis.kill()
        before = len(fleet.revoked)
        enough(fleet, "rated", 200)
        fleet.redis.start()
        enough(fleet, "rated", 200)
        fleet.redis.signal(signal.SIGSTOP)
        enough(fleet, "rated", 200)
        fleet.redis.signal(signal.SIGCONT)
        enough(fleet, "rated", 200)
        until(lambda: len(fleet.revoked) > before + 10)
        if hanging:
            fleet.database.signal(signal.SIGSTOP)
            enough(fleet, "unknown", 503)
            enough(fleet, "good", without_database)
            fleet.database.signal(signal.SIGCONT)
            enough(fleet, "unknown", 401)


def no_wrong_answer(fleet: Fleet) -> None:
    assert set(fleet.statuses("good", "rated", "revoked", "unknown", "forged", "victim")) == {200, 401, 503}
    assert set(fleet.statuses("good", "rated")) <= {200, 503}
    assert set(fleet.statuses("revoked", "unknown")) == {401, 503}
    assert set(fleet.statuses("forged")) == {401}  # a forgery is refused without the store


def nothing_lost(fleet: Fleet) -> None:
    """Revocations that were confirmed outlast the power cut, too."""
    records = {record.token.id: record for record in fleet.issuer.store.records()}
    for number in fleet.revoked:
        assert records[fleet.victims[number]].token.revoked_at is not None


@pytest.mark.parametrize("app", APPS)
def test_while_a_server_is_away_nobody_is_let_in_wrongly_and_nothing_breaks(app: str) -> None:
    with fleet(app) as running:
        go_through_everything(running, without_database=503)
        no_wrong_answer(running)
        assert running.too_late(BOUND) == []
        nothing_lost(running)
        assert not any("Traceback" in line for line in running.log)


def test_with_a_grace_those_who_are_known_do_not_notice() -> None:
    with fleet("flask", workers=1, STALE_GRACE="60") as running:  # one, so that it knows all that any worker knows
        go_through_everything(running, without_database=200, hanging=True)
        no_wrong_answer(running)
        assert set(running.statuses("good", "rated")) == {200}
        nothing_lost(running)


def test_what_is_lost_when_workers_end() -> None:
    """Nothing if they are stopped; if they are killed, the requests of a minute at most."""
    with fleet() as running:
        with running.load():
            enough(running, "good", 200)
        killed = running.workers
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        before = {kind: (running.use(kind)[0], running.answered(kind)[0]) for kind in ("good", "rated")}
        until(lambda: len(running.workers) == 2 * len(killed))
        with running.load():  # gunicorn has started new ones
            enough(running, "good", 200)
        for kind in before:
            assert running.answered(kind)[1] - running.use(kind)[1] < 60
        running.stop()
        for kind, (counted, sent) in before.items():
            assert 1 <= counted <= sent  # the first use is written down at once
            assert running.use(kind)[0] - counted == running.answered(kind)[0] - sent
            assert abs(running.answered(kind)[1] - running.use(kind)[1]) < 1
