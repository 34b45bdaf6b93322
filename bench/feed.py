"""What it costs a worker to learn of others' revocations: at none, ten, and a thousand a second."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tokenguard import Secret
from tokenguard.guard import Guard
from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import issue, new_guard
from .loading import load_database
from .measure import Spread
from .report import Section, Target
from .servers import ROOT, new_database, postgresql, postgresql_version

METHOD = """\
A worker verifies one cached token {pace} times a second, evenly, with its tokens in PostgreSQL, while another process
revokes other tokens ({seconds:g} s for each rate, {transactions} transactions a second at most). *CPU* is what the
worker's process took for each second beyond what the same load takes with the feed never read (`STALENESS` of a day).
*Requests* is what one verification took, as seen by the caller: the median, and the slowest in a hundred; the one that
reads the feed is among them."""

RATES = (0, 10, 1_000)
PACE = 200
SECONDS = 8.0
#: How long the process that revokes may take to start.
STARTING = 2.0
#: Reads of the feed in a second.
READS = 2.0


class _Load(NamedTuple):
    """What a worker spent under a steady load."""

    #: Seconds of CPU for each second.
    cpu: float
    #: Seconds for each verification.
    verifying: list[float]
    reads: float
    #: The revocations a second that were really made.
    revoked: float = 0


class _CountingStore(SQLAlchemyStore):
    """Counts how often its feed is read."""

    reads = 0

    def feed(self, since: int):  # type: ignore[no-untyped-def]
        self.reads += 1
        return super().feed(since)


def run(seconds: float = SECONDS) -> Section:
    """Measure one load for each rate, and one without the feed."""
    from .revoking import TRANSACTIONS

    with postgresql() as server:
        url = new_database(server, "feed")
        load_database(url, int(sum(RATES) * (seconds + STARTING) * 1.2) + 1_000, 1)
        without = _under_load(url, 0, seconds, staleness=86_400)
        loads = {rate: _under_load(url, rate, seconds, staleness=1) for rate in RATES}
        version = postgresql_version(server)
    method = METHOD.format(pace=PACE, seconds=seconds, transactions=TRANSACTIONS)
    section = Section("The feed of revocations", method, versions=[version])
    rows = [["the feed never read", *_row(without, without)]]
    rows += [[f"{load.revoked:,.0f} revocations a second", *_row(load, without)] for load in loads.values()]
    head = ("", "reads a second", "CPU, ms for each second", "median request, µs", "slowest of 100, µs")
    section.add_table(head, rows)
    reads = max(load.reads for load in loads.values())
    # The very first read of the feed is part of the load too.
    met = reads <= READS + 1 / seconds
    section.targets.append(Target("Statements a second for each worker, steady state", "≤ 2", f"{reads:.2f}", met))
    return section


def _under_load(url: str, rate: int, seconds: float, *, staleness: int) -> _Load:
    store = _CountingStore(url)
    (text,) = issue(store, 1)
    guard = new_guard(store, STALENESS=staleness)
    guard.authenticate(Secret(text))
    with _revoking(url, rate, seconds + STARTING) as revoking:
        load = _paced(guard, store, Secret(text), seconds)
        revoked = int(revoking.communicate()[0]) / (seconds + STARTING) if revoking else 0
    store.close()
    return load._replace(revoked=revoked)


@contextmanager
def _revoking(url: str, rate: int, seconds: float) -> Iterator[subprocess.Popen[str] | None]:
    """Run the process that revokes, if there is anything to revoke."""
    if not rate:
        yield None
        return
    command = [sys.executable, "-m", "bench.revoking", url, str(rate), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as revoking:
        time.sleep(STARTING)
        yield revoking


def _paced(guard: Guard, store: _CountingStore, secret: Secret, seconds: float) -> _Load:
    verifying, reads = [], store.reads
    cpu, begun = time.process_time(), time.perf_counter()
    for number in range(int(seconds * PACE)):
        time.sleep(max(0.0, begun + number / PACE - time.perf_counter()))
        before = time.perf_counter()
        guard.authenticate(secret)
        verifying.append(time.perf_counter() - before)
    taken = time.perf_counter() - begun
    return _Load((time.process_time() - cpu) / taken, verifying, (store.reads - reads) / taken)


def _row(load: _Load, without: _Load) -> list[str]:
    slowest = sorted(load.verifying)[-len(load.verifying) // 100]
    return [
        f"{load.reads:.1f}",
        f"{(load.cpu - without.cpu) * 1e3:.1f}",
        Spread.of(seconds * 1e6 for seconds in load.verifying).show(),
        f"{slowest * 1e6:,.0f}",
    ]
