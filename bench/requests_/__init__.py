"""What a guard adds to a request: tokenguard's and others', in WSGI, Flask, Django and Django REST framework."""

from __future__ import annotations

import atexit
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, event

from ..measure import TURN, Spread, fitting, shuffled, time_requests, undisturbed
from ..report import Section, Target
from .contestants import COUNTED, COUNTS, Arena, Contestant, Statements, answer_one, gather

METHOD = """\
Each contestant guards the same small JSON view, called in this process through its WSGI callable, with a ready-made
environ of which every call gets a copy; the answer is iterated and closed. Each is given a turn of {turn:g} ms next to
a turn of the same view without a guard, {rounds} times, in random order, those of all frameworks together; the
difference of the two is what is shown, in µs for each request. The garbage collector runs as always. That every
contestant answers each of its requests with the right status, and tokenguard with the headers that caches need, was
checked before. Each turn begins with two requests that are not counted: what a turn of others has left behind, such as
a feed that is to be read, falls into these. Turns are repeated if the operating system gave the processor to another
process meanwhile.
Statements are those that SQLite was asked to run for {counted} requests, the median of {counts} times: what is done
once a second, or once a minute, is not among them, unless the uses of many tokens become due just then.

* *floor*: a guard written by hand for this one view: the token's SHA-256 is looked up in a dictionary, the scope in a
  frozenset, the caller is put into the environ, and `Vary` and `Cache-Control` are set. It checks nothing else, and
  *refuses* what is not in the dictionary with 401, the challenge and both headers. *Not cached*: the client's name and
  the token's scopes are asked of SQLite in place of the dictionary, by one statement on an open connection, and nothing
  is remembered. *With a middleware*, which says to all views who is calling and marks all answers, as tokenguard's does
  in Django, and the scope is asked for beside the view. *× floor* is beside the first three, by what there is to do: to
  refuse, to ask a database, or neither.
* *cached*: a token that this process has seen. *Not cached*: {many} tokens in a circle, in a process that remembers
  {remembered}, so each is read from SQLite again. *JWT*: tokens of another issuer; *first use*: in such a circle, so
  for each the signature is verified and SQLite asked. *Forged*: the right shape and a wrong signature.
* The others do what their own documentation shows, with the scope asked for where they know scopes. They set none of
  the headers for caches. Connections to databases stay open, for all. Okta's verifier has its key set at hand."""

#: How much each (framework, contestant's name) may add, in µs.
TARGETS = {
    ("WSGI", "**tokenguard**, cached"): 2.5,
    ("Flask", "**tokenguard**, cached"): 9,
    ("Django", "**tokenguard**, cached"): 7,
    ("DRF", "**tokenguard**, cached"): 13,
    ("Flask", "**tokenguard**, not cached"): 60,
    ("Django", "**tokenguard**, not cached"): 65,
    ("Flask", "**tokenguard**, forged"): 25,
    ("Django", "**tokenguard**, forged"): 14,
    ("Django", "**tokenguard**, forged, at an open view"): 14,
}
#: How long these took, in µs, on the machine for which the targets were set.
THEN = {
    ("Flask", "Flask-HTTPAuth, hash in a dictionary"): 19,
    ("Flask", "Flask-HTTPAuth, itsdangerous"): 44,
    ("Flask", "Authlib, SQLAlchemy"): 373,
    ("Django", "django-oauth-toolkit"): 929,
}
PACE = """
* The targets in µs were set on a machine where some of the others took {then} µs ({names}). In this run they took
  {pace:.2f} times that, in the median. A target is met if what was measured, divided by that, is within it."""


@dataclass(frozen=True)
class Result:
    """What one contestant adds, in µs, and how many statements it sends to its database."""

    arena: Arena
    contestant: Contestant
    added: Spread
    bare: Spread
    statements: float


def run(rounds: int) -> Section:
    """All of it."""
    from . import first_use
    from .wsgi_apps import MANY, REMEMBERED

    counting = Statements()
    left_out: list[str] = []
    event.listen(Engine, "connect", counting.watch)
    folder = _folder()
    arenas = _arenas(folder, counting, left_out)
    with first_use.served(folder) as first:
        _introduce(arenas)
        pairs = [_Pair(arena, contestant) for arena in arenas for contestant in arena.contestants]
        # All take turns together: between one framework's turns and another's, the machine may become twice as slow.
        for take_turns in shuffled([first.take_turns, *(pair.take_turns for pair in pairs)], rounds):
            take_turns()
    results = [pair.result(counting) for pair in pairs]
    method = METHOD.format(
        turn=TURN * 1000, rounds=rounds, counted=COUNTED, counts=COUNTS, many=MANY, remembered=REMEMBERED
    )
    pace = _pace(results)
    method += PACE.format(
        then=" / ".join(map(str, THEN.values())), names=", ".join(name for _, name in THEN), pace=pace
    )
    method += first_use.METHOD
    section = Section("Each request", method + "".join(f"\n* Left out: {reason}." for reason in left_out))
    for arena in arenas:
        _add_table(section, [result for result in results if result.arena is arena])
    section.targets = [target for result in results for target in _targets(result, pace)]
    first.report(section, pace)
    return section


def _pace(results: Sequence[Result]) -> float:
    """How many times as long as in THEN things take in this run; 1 if none of the contestants of THEN took part."""
    ratios = [
        result.added.median / then
        for result in results
        if (then := THEN.get((result.arena.framework, result.contestant.name))) is not None
    ]
    return statistics.median(ratios) if ratios else 1.0


def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="tokenguard-bench-")
    # Removed at exit after pending uses are written: what is registered first is called last.
    atexit.register(shutil.rmtree, folder)
    return Path(folder)


def _arenas(folder: Path, counting: Statements, left_out: list[str]) -> list[Arena]:
    from .. import django_project
    from . import flask_apps, wsgi_apps

    arenas = [wsgi_apps.make_arena(folder, left_out), flask_apps.make_arena(folder, left_out)]
    django_project.set_up(folder / "django.db", wsgi_apps.OPTIONS)
    django_project.migrate()
    # These can only be imported once Django is configured.
    from django.db import connection

    from . import django_apps, django_peers, drf_apps

    counting.watch(connection.connection)
    for framework, make, makers in (
        ("Django", django_apps.make_contestants, django_peers.DJANGO),
        ("DRF", drf_apps.make_contestants, django_peers.REST_FRAMEWORK),
    ):
        bare, contestants = make()
        arenas.append(Arena(framework, bare, [*contestants, *gather(makers, folder, left_out)]))
    return arenas


def _introduce(arenas: Sequence[Arena]) -> None:
    """Send one request to each contestant before any gets many.

    Python lays out the objects of a class by the attributes of its first few: in a service, a request's object has
    room for those that its guard sets, and here for those of all guards.
    """
    for arena in arenas:
        for each in (arena.bare, *arena.contestants):
            each.enter()
            answer_one(each)


class _Pair:
    """A contestant beside the bare application."""

    def __init__(self, arena: Arena, contestant: Contestant) -> None:
        arena.bare.check()
        contestant.check()
        self._arena, self._contestant = arena, contestant
        self._turns = [(each, partial(time_requests, each.app, each.environs)) for each in (arena.bare, contestant)]
        self._counts = [_count(each, timed) for each, timed in self._turns]
        self._seconds: list[tuple[float, float]] = []

    def take_turns(self) -> None:
        """Take one turn each, one after the other, in random order."""
        self._seconds.append(undisturbed(self._measured))

    def _measured(self) -> tuple[float, float]:
        seconds = [0.0, 0.0]
        for which in shuffled((0, 1), 1):
            each, timed = self._turns[which]
            each.enter()
            timed(2)  # what entering and the others' turns have changed must not count as a request's cost
            seconds[which] = timed(self._counts[which])
        return seconds[0], seconds[1]

    def result(self, counting: Statements) -> Result:
        """Return the result of all turns."""
        return Result(
            self._arena,
            self._contestant,
            added=Spread.of((guarded - bare) * 1e6 for bare, guarded in self._seconds),
            bare=Spread.of(bare * 1e6 for bare, _ in self._seconds),
            statements=counting.per_request(self._contestant),
        )


def _count(each: Contestant, timed: Callable[[int], float]) -> int:
    each.enter()
    return fitting(timed)


def _add_table(section: Section, results: Sequence[Result]) -> None:
    floors = {result.contestant.name: result.added.median for result in results}
    framework = results[0].arena.framework
    bare = Spread.of([result.bare.median for result in results])
    section.add_table(
        (f"{framework}: bare takes {bare.median:.1f} µs, a guard adds", "µs", "× floor", "statements"),
        [
            (
                result.contestant.name,
                result.added.show(),
                f"{result.added.median / floors[_floor_of(result)]:.1f}",
                f"{result.statements:g}",
            )
            for result in results
        ],
    )


def _floor_of(result: Result) -> str:
    """Return the name of the floor that has the same to do."""
    if result.contestant.status != 200:
        return "floor, refused"
    return "floor, not cached" if result.statements else "floor"


def _targets(result: Result, pace: float) -> Iterator[Target]:
    framework, name = result.arena.framework, result.contestant.name
    asked = TARGETS.get((framework, name))
    plain = f"{framework}, {name.removeprefix('**tokenguard**, ')}"
    if asked is not None:
        met = result.added.median / pace <= asked
        measured = f"{result.added.show()} ÷ {pace:.2f} = {result.added.median / pace:.1f} µs"
        yield Target(f"{plain}: added", f"≤ {asked:g} µs", measured, met)
    if name in {"**tokenguard**, cached", "**tokenguard**, forged"}:
        met = result.statements == 0
        yield Target(f"{plain}: statements for each request", "0", f"{result.statements:g}", met)
