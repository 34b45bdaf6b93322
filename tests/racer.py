"""The processes of a race: each tries tokens over and over, and records when each token was last let in.

``python -m tests.racer PLAN``; the plan is a JSON file, see :class:`Plan`.
"""

from __future__ import annotations

import json
import logging
import mmap
import multiprocessing
import random
import struct
import sys
import threading
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenguard import Guard, InvalidToken, SigningKeys, Store, StoreUnavailable, TemporarilyUnavailable, TokenFormat
from tokenguard import breaker as breaker_module
from tokenguard import cache as cache_module
from tokenguard.cache import TokenCache
from tokenguard.clock import SECOND, monotonic, now
from tokenguard.http import Secret
from tokenguard.service import open_store

from .keys import KEY

#: How many tokens are tried: of the next to be revoked, and of the last that were.
AHEAD, BEHIND = 12, 40
RACERS, THREADS = 3, 2
LANES = RACERS * THREADS


@dataclass
class Plan:
    """The parameters of a race; its folder holds the files that the processes exchange."""

    folder: str
    database_url: str
    texts: list[str]
    staleness: float
    trouble: str = ""

    def write(self) -> Path:
        path = Path(self.folder) / "plan.json"
        path.write_text(json.dumps(asdict(self)))
        return path


class Course:
    """The progress of every process, visible to all: numbers in shared memory."""

    def __init__(self, folder: str) -> None:
        path, size = Path(folder) / "course", 8 * (1 + LANES)
        if not path.exists():
            path.write_bytes(struct.pack("q", 0) + struct.pack("q", -1) * LANES)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)

    @property
    def at(self) -> int:
        """The number of the token that the revoker has reached; below 0, the race is over."""
        return self._number(0)

    @at.setter
    def at(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)

    def passed(self, lane: int, at: int) -> None:
        """Record that a lane has tried every token that it should while the revoker is there."""
        self._memory[8 * (1 + lane) : 8 * (2 + lane)] = struct.pack("q", at)

    def have_passed(self, at: int) -> int:
        """Return how many lanes have done so."""
        return sum(self._number(1 + lane) >= at for lane in range(LANES))

    def _number(self, place: int) -> int:
        (number,) = struct.unpack("q", self._memory[8 * place : 8 * (1 + place)])
        return int(number)


class Racer:
    """A worker with a guard of its own, and threads that use the guard."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.course = Course(plan.folder)
        store = open_store(plan.database_url)
        self.finds = 0
        self._meddle(store)
        cache = TokenCache(store, staleness=plan.staleness)
        self.guard = Guard(store, TokenFormat(SigningKeys(KEY)), cache=cache, clock=self._wall_clock)
        self.secrets = [Secret(text, "a token") for text in plan.texts]
        self.lanes = [Lane(self, number * THREADS + thread) for thread in range(THREADS)]

    def run(self) -> None:
        threads = [threading.Thread(target=lane.run) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def report(self) -> dict[str, Any]:
        return {"finds": self.finds, "lanes": [lane.report() for lane in self.lanes]}

    def _wall_clock(self) -> int:
        return now() + (random.randrange(-10_000, 10_000) * SECOND if self.plan.trouble == "stepped" else 0)

    def _meddle(self, store: Store) -> None:
        standing, feed = store.standing, store.feed

        def counted(token_id: str, *, primary: bool = False) -> Any:
            self.finds += 1
            return standing(token_id, primary=primary)

        def troubled(since: int) -> Any:
            if self.plan.trouble == "failing" and random.random() < 0.3:
                raise StoreUnavailable("as the race wants it")
            self._delay()
            answer = feed(since)
            self._delay()
            return answer

        store.standing, store.feed = counted, troubled  # type: ignore[method-assign]

    def _delay(self) -> None:
        if self.plan.trouble == "delayed":
            time.sleep(random.uniform(0, 0.6 * self.plan.staleness))


class Lane:
    """One thread of a racer, and what it has seen."""

    def __init__(self, racer: Racer, number: int) -> None:
        self.racer, self.number = racer, number
        self.refused = self.unavailable = 0
        #: For each token: how often it was let in, and when the last of those requests began.
        self.let_in = array("q", [0] * len(racer.secrets))
        self.last = array("d", [0.0] * len(racer.secrets))

    def run(self) -> None:
        course, count = self.racer.course, len(self.let_in)
        while (at := course.at) >= 0:
            # Beginning with the token that was just revoked, which is the most likely to be cached still.
            for token in range(max(0, at - 1), min(at + AHEAD, count)):
                self._ask(token)
            # Each of those revoked earlier costs a query, so only one is tried each time.
            self._ask(random.randrange(max(0, at - BEHIND), at + 1))
            course.passed(self.number, at)
            time.sleep(0.003)  # the revoker needs a processor too

    def report(self) -> dict[str, Any]:
        return {
            "refused": self.refused,
            "unavailable": self.unavailable,
            "let_in": list(self.let_in),
            "last": list(self.last),
        }

    def _ask(self, token: int) -> None:
        begun = monotonic()
        try:
            self.racer.guard.authenticate(self.racer.secrets[token])
        except InvalidToken:
            self.refused += 1
        except TemporarilyUnavailable:
            self.unavailable += 1
        else:
            self.let_in[token] += 1
            self.last[token] = begun


def race(plan: Plan, number: int) -> None:
    racer = Racer(plan, number)
    (Path(plan.folder) / f"ready-{number}").touch()
    racer.run()
    (Path(plan.folder) / f"report-{number}").write_text(json.dumps(racer.report()))


def main(path: str) -> int:
    """Fork the racers, as a server does that loads its application first; returns how many have failed."""
    logging.disable()
    breaker_module.PAUSE = 0.02
    # On a busy machine each request waits for its turn: one that is told to come again later would not race at all.
    breaker_module.PATIENCE = cache_module.PATIENCE = 60.0
    plan, forks = Plan(**json.loads(Path(path).read_text())), multiprocessing.get_context("fork")
    racers = [forks.Process(target=race, args=(plan, number)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return sum(racer.exitcode != 0 for racer in racers)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
