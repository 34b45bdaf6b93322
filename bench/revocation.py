"""How long a fleet goes on accepting a revoked token: four workers, each of them asked without a pause."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tokenguard import Event, Hooks, Issuer, Store
from tokenguard.config import Options
from tokenguard.service import Service
from tokenguard.sqlalchemy import SQLAlchemyStore

from .connections import Answer, Connection, one_to_each
from .fixtures import ACTOR, issue
from .measure import Spread
from .report import Section, Target
from .servers import gunicorn, new_database, postgresql, postgresql_version, redis, redis_version
from .services import DATABASE, OPTIONS

METHOD = """\
A Flask service behind gunicorn with {workers} workers (gthread) and its tokens in PostgreSQL. This process keeps one
connection to each worker, and over each asks for the view again and again, with every token of a batch in turn; then
it revokes the tokens of the batch one by one, at random moments. Of every request is known when it was begun. Times
are from the moment that the revocation was committed: until the last request was begun that any worker accepted, and
until the first refused one was begun at the last of the workers; the truth lies between. No request may be accepted
that was begun later than the commit and the bound of {bound:g} s; every token is also tried again at every worker
after that."""

WORKERS = 4
BOUND = 1.0
#: The highest median allowed with Redis, in milliseconds.
WITH_REDIS = 20
#: Tokens that are asked for together. Fewer are asked for more often.
BATCH = {"without Redis": 20, "with Redis": 2}


@dataclass
class _Trial:
    """A token, and what became of it. Times are of the monotonic clock."""

    text: str
    committed: float = float("inf")
    #: When the last accepted request and the first refused one were begun, by worker.
    accepted: dict[int, float] = field(default_factory=dict)
    refused: dict[int, float] = field(default_factory=dict)

    @property
    def token_id(self) -> str:
        return self.text.split("_")[1]

    @property
    def accepted_until(self) -> float:
        """Milliseconds after the commit; negative if before it."""
        return (max(self.accepted.values()) - self.committed) * 1e3

    @property
    def refused_from(self) -> float:
        """Milliseconds after the commit."""
        return (max(self.refused.values()) - self.committed) * 1e3

    @property
    def overdue(self) -> bool:
        """Whether it was accepted for longer than it may be."""
        return self.accepted_until > BOUND * 1e3

    def note(self, worker: int, answer: Answer) -> None:
        """Record a worker's answer."""
        if answer.status == 200:
            self.accepted[worker] = answer.begun
        elif answer.status == 401:
            self.refused.setdefault(worker, answer.begun)
        else:
            raise RuntimeError(f"a worker answered {answer.status}")


class _CommitTimes:
    """The time of this process's last commit."""

    def __init__(self, store: Store) -> None:
        self.last = 0.0
        store.committed.listen(self.note)

    def note(self, events: Sequence[Event]) -> None:
        """Record the time of a commit that has just been made."""
        self.last = time.monotonic()


def run(rounds: int) -> Section:
    """Measure so many revocations without Redis, and as many with it."""
    with postgresql() as server, redis() as push_url:
        measured = {
            "without Redis": _measure(new_database(server, "alone"), rounds, "without Redis", {}),
            "with Redis": _measure(new_database(server, "pushed"), rounds, "with Redis", {"PUSH_URL": push_url}),
        }
        versions = [postgresql_version(server), redis_version()]
    section = Section("Revocation", METHOD.format(workers=WORKERS, bound=BOUND), versions=versions)
    head = ("ms after the commit", "revocations", "min", "median", "max", "later than the bound")
    section.add_table(head, [row for way, trials in measured.items() for row in _rows(way, trials)])
    violations = sum(trial.overdue for trials in measured.values() for trial in trials)
    name = f"Revocation, {WORKERS} workers: accepted later than commit + {BOUND:g} s"
    section.targets.append(Target(name, "none", str(violations), not violations))
    median = Spread.of(trial.refused_from for trial in measured["with Redis"])
    name = f"Revocation, {WORKERS} workers, with Redis: median"
    met = median.median <= WITH_REDIS
    section.targets.append(Target(name, f"≤ {WITH_REDIS} ms", f"{median.show()} ms", met))
    return section


def _rows(way: str, trials: list[_Trial]) -> Iterator[list[str]]:
    overdue = str(sum(trial.overdue for trial in trials))
    until, since = [each.accepted_until for each in trials], [each.refused_from for each in trials]
    for name, times, last in ((f"{way}, accepted until", until, overdue), (f"{way}, refused from", since, "")):
        yield [name, str(len(times)), f"{min(times):.1f}", Spread.of(times).show(), f"{max(times):.1f}", last]


def _measure(url: str, rounds: int, way: str, options: dict[str, str]) -> list[_Trial]:
    service, commits = _service(url, options)
    trials = [_Trial(text) for text in issue(service.store, rounds)]
    environ = {DATABASE: url, **{f"TOKENGUARD_{word}": value for word, value in options.items()}}
    arguments = ("--workers", str(WORKERS), "--worker-class", "gthread", "--threads", "4", "--keep-alive", "600")
    with (
        gunicorn("bench.services:flask_app()", *arguments, environ=environ) as port,
        one_to_each(port, WORKERS) as connections,
    ):
        for start in range(0, len(trials), BATCH[way]):
            _revoke_batch(connections, service.issuer, commits, trials[start : start + BATCH[way]])
        time.sleep(BOUND)
        for connection in connections:
            _ask_once(connection, trials)
    return trials


def _service(url: str, options: dict[str, str]) -> tuple[Service, _CommitTimes]:
    """The service in the process that revokes, and the times of that process's commits."""
    store = SQLAlchemyStore(url)
    store.upgrade()
    commits = _CommitTimes(store)  # the first listener is called first
    return Service.build(Options.read({**OPTIONS, **options}), store, hooks=Hooks()), commits


def _revoke_batch(connections: list[Connection], issuer: Issuer, commits: _CommitTimes, trials: list[_Trial]) -> None:
    """Send all tokens to all workers, revoke each token, and go on until every worker refuses each."""
    stop = threading.Event()
    threads = [threading.Thread(target=_ask_until, args=(each, trials, stop)) for each in connections]
    for thread in threads:
        thread.start()
    _wait(lambda: all(len(trial.accepted) == WORKERS for trial in trials))
    for trial in trials:
        time.sleep(random.uniform(0, 2 * BOUND / BATCH["without Redis"]))
        issuer.revoke(trial.token_id, actor=ACTOR)
        trial.committed = commits.last
    _wait(lambda: all(len(trial.refused) == WORKERS for trial in trials))
    stop.set()
    for thread in threads:
        thread.join()


def _ask_until(connection: Connection, trials: list[_Trial], stop: threading.Event) -> None:
    while not stop.is_set():
        _ask_once(connection, trials)
        time.sleep(0.0005)  # the other workers are on the same machine


def _ask_once(connection: Connection, trials: list[_Trial]) -> None:
    for trial in trials:
        trial.note(connection.worker, connection.get("/guarded", trial.text))


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("a worker does not answer, or goes on accepting what was revoked")
        time.sleep(0.001)
