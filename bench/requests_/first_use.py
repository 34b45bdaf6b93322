"""What the first use of another issuer's token costs beside the check of its signature, which nobody can avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from tokenguard.issuers.jwt import JWTSource
from tokenguard.sqlalchemy import SQLAlchemyStore

from ..fixtures import foreign_tokens
from ..measure import Spread, fitting, shuffled, time_requests, undisturbed
from ..report import Section, Target
from .contestants import Contestant
from .wsgi_apps import MANY, tokenguard_app, view

#: What the first use may cost beside the signature check, in µs.
MOST = 60

METHOD = """
* *First use of a JWT* has a table of its own: each round has a turn of the bare view, one of the guarded one, and
  one of the same where the signature check says yes at once. In the second it is timed where it stands, between two
  readings of the clock, which count as part of the rest. The rest takes longer than all of it does where nothing is
  checked: the check leaves other code and data in the processor's caches."""


class Round(NamedTuple):
    """Seconds for each request, beyond those of the bare view."""

    whole: float
    signature: float
    unchecked: float


class FirstUse:
    """A guarded view, and another issuer's tokens in a cycle: each has left the cache before it comes again."""

    def __init__(self, app: Any, source: JWTSource, texts: list[str]) -> None:
        self._bare, self._guarded = Contestant("bare", view, texts[:1]), Contestant("JWT", app, texts, marked=True)
        self._guarded.check()
        self._source, self._verifies = source, source._verifies
        self._spent = 0.0
        self._count = fitting(lambda count: time_requests(app, self._guarded.environs, count))
        self._taken: list[Round] = []

    def take_turns(self) -> None:
        """Take a turn of each, in random order."""
        self._taken.append(undisturbed(self._measured))

    def _measured(self) -> Round:
        ways: dict[str, tuple[Contestant, Callable[..., bool]]] = {
            "bare": (self._bare, self._verifies),
            "whole": (self._guarded, self._timed),
            "unchecked": (self._guarded, lambda *_: True),
        }
        seconds = {}
        for name in shuffled(tuple(ways), 1):
            each, self._source._verifies = ways[name]
            time_requests(each.app, each.environs, 2)
            self._spent = 0.0 if name == "whole" else self._spent
            seconds[name] = time_requests(each.app, each.environs, self._count)
        bare = seconds["bare"]
        return Round(seconds["whole"] - bare, self._spent / self._count, seconds["unchecked"] - bare)

    def _timed(self, *signed: Any) -> bool:
        begun = perf_counter()
        verifies = self._verifies(*signed)
        self._spent += perf_counter() - begun
        return verifies

    def report(self, section: Section, pace: float) -> None:
        """Add its table and its target to the section."""
        beyond = Spread.of((each.whole - each.signature) * 1e6 for each in self._taken)
        section.add_table(
            ("WSGI: the first use of a JWT, RS256 with a key of 2048 bits, adds", "µs"),
            [
                ("all of it", Spread.of(each.whole * 1e6 for each in self._taken).show()),
                ("its signature check", Spread.of(each.signature * 1e6 for each in self._taken).show()),
                ("all the rest", beyond.show()),
                ("all of it where nothing is checked", Spread.of(each.unchecked * 1e6 for each in self._taken).show()),
            ],
        )
        measured = f"{beyond.show()} ÷ {pace:.2f} = {beyond.median / pace:.1f} µs"
        met = beyond.median / pace <= MOST
        section.targets.append(
            Target("WSGI, first use of a JWT, beside its signature check", f"≤ {MOST} µs", measured, met)
        )


@contextmanager
def served(folder: Path) -> Iterator[FirstUse]:
    """Make it on plain WSGI and SQLite, in a process that caches few tokens."""
    with foreign_tokens(MANY) as (issuers, texts):
        store = SQLAlchemyStore(f"sqlite:///{folder}/first-use.db")
        store.upgrade()
        app = tokenguard_app(store, ISSUERS=issuers)
        (source,) = app.requests.guard.sources
        assert isinstance(source, JWTSource)
        yield FirstUse(app, source, texts)
