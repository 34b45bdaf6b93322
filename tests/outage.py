"""A service under gunicorn on a real PostgreSQL and a real Redis, under constant load while these fail."""

from __future__ import annotations

import http.client
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from sample_flask.playground import gunicorn
from tokenguard import Conditions, Issuer, SigningKeys, StoreError, TokenFormat
from tokenguard.clock import SECOND
from tokenguard.config import Options
from tokenguard.service import publish
from tokenguard.sqlalchemy import SQLAlchemyStore

from .bulk import issue_many
from .conftest import KEY
from .postgresql import PostgreSQL
from .redis_server import RedisServer, redis_running

APPS = {"flask": "tests.services.flask_service:create_app()", "django": "django.core.wsgi:get_wsgi_application()"}
THREADS = ("--preload", "--worker-class", "gthread", "--threads", "4")
#: How many tokens are revoked one after another during the load.
VICTIMS = 400
#: Seconds between two requests of a thread.
PACE = 0.01
#: The status of a request that got no answer.
NO_ANSWER = 0


class Seen(NamedTuple):
    """One request: when it began (seconds since the start), how long it took (seconds), its token, the status."""

    at: float
    took: float
    kind: str
    number: int
    status: int


@dataclass
class Fleet:
    """The servers, and the requests that are sent to the service."""

    database: PostgreSQL
    redis: RedisServer
    port: int
    issuer: Issuer
    texts: dict[str, list[str]]
    victims: list[str]
    log: list[str]
    stop: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    seen: list[Seen] = field(default_factory=list)
    #: When each victim's revocation was confirmed, by its number.
    revoked: dict[int, float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def load(self, threads: int = 8) -> Iterator[None]:
        """Send requests all the time, and revoke a token now and then, until the block ends."""
        if not self.seen:
            self.began = time.monotonic()
        self._over.clear()
        jobs = [threading.Thread(target=job) for job in [*[self._ask] * threads, self._revoke]]
        for job in jobs:
            job.start()
        try:
            yield
        finally:
            self._over.set()
            for job in jobs:
                job.join()

    def until(self, seconds: float) -> None:
        """Wait until that many seconds after the start."""
        time.sleep(max(0.0, seconds - self.now))

    def statuses(self, *kinds: str, since: float = 0, before: float = float("inf")) -> Counter[int]:
        """Count the answers, by status, to requests of these kinds that began in that time."""
        return Counter(seen.status for seen in self.seen if seen.kind in kinds and since <= seen.at < before)

    def too_late(self, bound: float) -> list[float]:
        """Return how long after a confirmed revocation plus the bound each request began that was still let in."""
        late = [
            seen.at - self.revoked[seen.number] - bound
            for seen in self.seen
            if seen.kind == "victim" and seen.status == 200 and seen.number in self.revoked
        ]
        return [each for each in late if each > 0]

    @property
    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers, former ones included."""
        return [int(line.rpartition(":")[2]) for line in self.log if "Booting worker with pid:" in line]

    def use(self, kind: str) -> tuple[int, float]:
        """Return how many requests are on record for that token, and when the last was, in seconds since the start."""
        token_id = self.texts[kind][0].split("_")[1]
        record = self.issuer.store.find(token_id)
        assert record is not None
        began = time.time() - self.now
        counted = sum(self.issuer.store.use_by_day(token_id).values())
        return counted, (record.last_used_at or 0) / SECOND - began

    def answered(self, kind: str) -> tuple[int, float]:
        """Return how many requests were let in with that token, and when the last began, in seconds since the start."""
        let_in = [seen.at for seen in self.seen if seen.kind == kind and seen.status == 200]
        return len(let_in), max(let_in)

    def _ask(self) -> None:
        while not self._over.is_set():
            for kind in ("good", "good", "good", "rated", "revoked", "unknown", "forged", "victim"):
                # The tokens that were just revoked, and those that are next.
                newest = min(len(self.revoked), VICTIMS - 3)
                number = random.randrange(max(0, newest - 3), newest + 3) if kind == "victim" else 0
                began = self.now
                status = self._status(self.texts[kind][number])
                self.seen.append(Seen(began, self.now - began, kind, number, status))
                time.sleep(PACE)

    def _status(self, text: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/read", headers={"Authorization": f"Bearer {text}"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return NO_ANSWER
        finally:
            connection.close()

    def _revoke(self) -> None:
        while not self._over.wait(0.1) and (number := len(self.revoked)) < VICTIMS:
            try:
                self.issuer.revoke(self.victims[number], actor="tests")
            except StoreError:
                continue  # perhaps it was committed: it is tried again, and counts once that is confirmed
            self.revoked[number] = self.now


@contextmanager
def fleet(
    app: str = "flask", *, workers: int = 2, options: Sequence[str] = THREADS, **settings: str
) -> Iterator[Fleet]:
    """Run all the servers until the block ends; ``settings`` are options of the service."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tg-", ignore_cleanup_errors=True)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # private to this run, as the server's package expects
        database = PostgreSQL(folder / "data")
        stack.callback(database.clean_up)
        redis = stack.enter_context(redis_running(folder, "outage"))
        store = SQLAlchemyStore(database.url)
        stack.callback(store.close)
        store.upgrade()
        publish(Options.read({"PUSH_URL": redis.url}), store)
        issuer, texts, victims = _issue(store)
        environ = {
            **os.environ,
            "TOKENGUARD_DATABASE_URL": database.url,
            "TOKENGUARD_SIGNING_KEY": KEY,
            "TOKENGUARD_RATE_LIMIT_URL": redis.url,
            "TOKENGUARD_PUSH_URL": redis.url,
            "DJANGO_SETTINGS_MODULE": "tests.services.django_settings",
            **{f"TOKENGUARD_{word}": value for word, value in settings.items()},
        }
        serving = stack.enter_context(gunicorn(APPS[app], environ, workers=workers, options=options))
        port = int(serving.url.rpartition(":")[2])
        yield Fleet(database, redis, port, issuer, texts, victims, serving.log, serving.stop)


def _issue(store: SQLAlchemyStore) -> tuple[Issuer, dict[str, list[str]], list[str]]:
    tokens = TokenFormat(SigningKeys(KEY))
    issuer = Issuer(store, tokens)
    client = issuer.register("billing", "users:read", actor="tests").id

    def issue(**more: Conditions) -> str:
        return issuer.issue(client, "users:read", actor="tests", **more).text.reveal()

    victims = issue_many(store, VICTIMS)
    texts = {
        "good": [issue()],
        "rated": [issue(conditions=Conditions.parse(rate="1000000/day"))],
        "revoked": [issue()],
        "unknown": [tokens.mint().text.reveal()],
        "forged": [TokenFormat(SigningKeys("another key, which is nobody's at all")).mint().text.reveal()],
        "victim": [minted.text.reveal() for minted in victims],
    }
    issuer.revoke(texts["revoked"][0].split("_")[1], actor="tests")
    return issuer, texts, [minted.id for minted in victims]


Step = tuple[float, str, Callable[[Fleet], object]]


def play(fleet: Fleet, steps: Sequence[Step], seconds: float) -> None:
    """Take each step at its time, under load."""
    with fleet.load():
        for at, _, step in steps:
            fleet.until(at)
            step(fleet)
        fleet.until(seconds)
