"""Whether requests get slower as tokens become many: from a thousand to ten million of them in PostgreSQL."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

from tokenguard import Secret
from tokenguard.issuer import Issuer
from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import ACTOR, SCOPE, new_guard, new_issuer
from .loading import TOKENS_OF_CLIENT, client_id, load_database
from .measure import Spread, fitting, shuffled, time_calls, undisturbed
from .report import Section, Target
from .servers import new_database, postgresql, postgresql_version

METHOD = """\
One PostgreSQL server with its default settings (fsync included) holds a database for each size: so many tokens with as
many uses and events, and a client for every {tokens_of_client} of them, loaded with COPY, vacuumed and analysed before.
The guard verifies and the issuer issues through the SQLAlchemy store, without a framework. *Cached*: one token that
this process has seen. *Not cached*: {known} tokens from all over the table in a circle, in a process that remembers
{remembered}; each has been read once after the last database was loaded, so that the pages of no size are in the
server's memory while those of another are not. *Issue*: one transaction for a random client. Sizes take turns of some
milliseconds in random order, {rounds} times ({issues} for issuing); ratios are to the smallest size in the same round.
A turn is repeated if the operating system gave the processor to another process meanwhile."""

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)
#: How much space they take with their indexes and the server's log, in GB.
DISK = 16
#: So many that all sizes' pages fit together into the server's memory, which is 128 MB by default.
KNOWN = 500
REMEMBERED = 50
ISSUES = 40
#: What is measured, and how many times slower it may be at the largest size.
LIMITS = {"cached": 1.05, "not cached": 1.3}


@dataclass
class _Database:
    """A database of one size, and the calls that are measured on it."""

    size: int
    calls: dict[str, Callable[[], object]]
    store: SQLAlchemyStore

    def warm_up(self) -> None:
        """Have each token accepted once."""
        for _ in range(KNOWN):
            self.calls["not cached"]()


def obstacle() -> str | None:
    """Return what keeps this part from running."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 2**30
    return None if free >= DISK else f"it takes {DISK} GB of disk in {folder}, which has {free:.0f}"


def run(rounds: int, sizes: Sequence[int] = SIZES) -> Section:
    """Load all sizes first, which takes minutes and some gigabytes of disk for the largest, and measure them."""
    with postgresql() as server:
        databases = [_load(server, size) for size in sizes]
        for database in databases:
            database.warm_up()
        measured = {what: _measure(databases, what, rounds) for what in LIMITS}
        measured["issue"] = _measure(databases, "issue", min(ISSUES, rounds))
        for database in databases:
            database.store.close()
        version = postgresql_version(server)
    method = METHOD.format(
        tokens_of_client=TOKENS_OF_CLIENT, known=KNOWN, remembered=REMEMBERED, rounds=rounds, issues=min(ISSUES, rounds)
    )
    section = Section("Growth", method, versions=[version])
    for what, by_size in measured.items():
        _report(section, what, sizes, by_size)
    return section


def _load(server: str, size: int) -> _Database:
    begun = time.monotonic()
    url = new_database(server, f"tokens_{size}")
    texts = load_database(url, size, min(size, KNOWN))
    print(f"  {size:,} tokens loaded in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    store = SQLAlchemyStore(url)
    guard = new_guard(store, CACHE_SIZE=REMEMBERED)  # nothing is written meanwhile
    secrets = [Secret(text) for text in texts]
    one, circle = secrets[0], cycle(secrets)
    calls: dict[str, Callable[[], object]] = {
        "cached": lambda: guard.authenticate(one, "192.0.2.1"),
        "not cached": lambda: guard.authenticate(next(circle), "192.0.2.1"),
        "issue": _issuing(new_issuer(store), size),
    }
    return _Database(size, calls, store)


def _issuing(issuer: Issuer, size: int) -> Callable[[], object]:
    clients = size // TOKENS_OF_CLIENT or 1
    return lambda: issuer.issue(client_id(random.randrange(clients)), SCOPE, actor=ACTOR)


def _measure(databases: Sequence[_Database], what: str, rounds: int) -> list[list[float]]:
    """Return seconds for each call, by size and round."""
    counts = {each.size: fitting(_timed(each, what)) for each in databases}
    seconds: dict[int, list[float]] = {each.size: [] for each in databases}
    for each in shuffled(databases, rounds):
        timed = _timed(each, what)
        timed(1)
        seconds[each.size].append(undisturbed(partial(timed, counts[each.size])))
    return list(seconds.values())


def _timed(database: _Database, what: str) -> Callable[[int], float]:
    return lambda count: time_calls(database.calls[what], count)


def _report(section: Section, what: str, sizes: Sequence[int], seconds: list[list[float]]) -> None:
    section.add_table((what, "µs", "÷ smallest"), _rows(sizes, seconds))
    if what in LIMITS:
        ratio = Spread.of(most / least for least, most in zip(seconds[0], seconds[-1], strict=True))
        name = f"Growth from {sizes[0]:,} to {sizes[-1]:,} tokens, {what}"
        met = ratio.median <= LIMITS[what]
        section.targets.append(Target(name, f"≤ {LIMITS[what]:g} ×", f"{ratio.show(3)} ×", met))


def _rows(sizes: Sequence[int], seconds: list[list[float]]) -> Iterator[list[str]]:
    for size, of_size in zip(sizes, seconds, strict=True):
        ratio = Spread.of(this / least for least, this in zip(seconds[0], of_size, strict=True))
        yield [f"{size:,} tokens", Spread.of(value * 1e6 for value in of_size).show(), ratio.show(3)]
