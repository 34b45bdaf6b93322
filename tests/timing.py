"""``python -m tests.timing``: whether the time that a refusal takes tells a stranger anything that matters.

As dudect does it (Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", DATE 2017): two classes of
input take turns in random order, and Welch's t-test says whether their times have the same mean: on all of them, and on
those below a number of percentiles, since what disturbs a measurement makes it longer. From 4.5 on, |t| says that they
differ.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

from tokenguard import AuthError, MemoryStore, Secret, TokenGuardMiddleware, tokens
from tokenguard.base62 import BASE62
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import Change, EventKind, Store

from .conftest import World

log = logging.getLogger("tokenguard")
#: The times below each of these percentiles are compared on their own: what is cropped is mostly noise.
PERCENTILES = (1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25)
#: How many different texts each class has: every text has its own place in memory, and in a dict's table.
TEXTS = 5000
WARM_UP = 1000
SECRET, TAG = slice(20, 52), slice(52, 95)

Ask = Callable[[str], object]


def main() -> None:
    """Measure, and print how far apart the times of each pair are."""
    parser = argparse.ArgumentParser(prog="python -m tests.timing", description=__doc__)
    parser.add_argument("--samples", type=int, default=200_000, help="for each class (default: %(default)s)")
    given = parser.parse_args()
    log.addHandler(logging.NullHandler())
    log.propagate = False
    print(f"| asked of | pair | median µs | difference of medians, ns | largest \\|t\\| of {given.samples:,} each |")
    print("|---|---|---:|---:|---:|")
    for name, make in {"`Guard.authenticate`": _guard, "the WSGI middleware": _middleware}.items():
        _report(name, make, MemoryStore(), "", given.samples)
    # Texts that were not signed here never reach the store. The time for the others includes the database's.
    with TemporaryDirectory() as folder:
        store = SQLAlchemyStore(f"sqlite:///{folder}/timing.db")
        store.upgrade()
        _report("`Guard.authenticate`, SQLite", _guard, store, "signed", given.samples)
        store.close()


def _report(name: str, make: Callable[[World], Ask], store: Store, beginning: str, samples: int) -> None:
    """Print the table's rows for the pairs whose names begin with ``beginning``."""
    world = World(store)
    ask = make(world)
    for pair, (one, other) in pairs(world).items():
        if pair.startswith(beginning):
            times = measure(ask, one, other, samples)
            t = largest_t(*times)
            first, second = (sorted(found)[len(found) // 2] for found in times)
            print(f"| {name} | {pair} | {first / 1000:.2f} | {second - first} | {abs(t):.2f} |", flush=True)


def _guard(world: World) -> Ask:
    authenticate = world.guard.authenticate

    def ask(text: str) -> None:
        with suppress(AuthError):
            authenticate(Secret(text))

    return ask


def _middleware(world: World) -> Ask:
    application = TokenGuardMiddleware(lambda environ, start_response: [], world.guard)

    def start_response(status: str, headers: object, exc_info: object = None) -> Any: ...

    def ask(text: str) -> None:
        environ = {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": f"Bearer {text}", "REMOTE_ADDR": "192.0.2.1"}
        application(environ, start_response)

    return ask


def pairs(world: World) -> dict[str, tuple[list[str], list[str]]]:
    """Return pairs of kinds of text that are refused, and that a stranger should not tell apart by the time taken."""
    client = world.client().id
    good = _on_record(world, client, (None, None))[0][:TEXTS]
    return {
        "forged: tag wrong in its first, in its last character": (
            [_changed(text, TAG.start) for text in good],
            [_changed(text, TAG.stop - 1) for text in good],
        ),
        "forged: secret wrong in its first, in its last character": (
            [_changed(text, SECRET.start) for text in good],
            [_changed(text, SECRET.stop - 1) for text in good],
        ),
        "forged: id on record, id unknown": (
            [_changed(text, TAG.stop - 1) for text in good],
            [_changed(text, TAG.stop - 1) for text in _minted(world, TEXTS)],
        ),
        "signed: digest on record differs in its first, in its last character": _on_record(world, client, (0, 63)),
        "signed: id on record with another digest, id unknown": (
            _on_record(world, client, (0, 63))[0],
            _minted(world, TEXTS),
        ),
    }


def _changed(text: str, place: int) -> str:
    other = random.choice([digit for digit in BASE62 if digit != text[place]])
    return text[:place] + other + text[place + 1 :]


def _minted(world: World, count: int) -> list[str]:
    """Return texts that are signed but on no record, which takes the signing key."""
    return [world.tokens.mint().text.reveal() for _ in range(count)]


def _on_record(world: World, client: str, wrong: tuple[int | None, int | None]) -> tuple[list[str], list[str]]:
    """Return two lists of signed texts with a record for each: of its own digest, or one wrong in that character.

    They are made in random order: texts made in turns are read in turns, and what is next in memory arrives sooner.
    """
    texts, like, places = _minted(world, 2 * TEXTS), world.issue(client=client).token, [*wrong] * TEXTS
    random.shuffle(places)
    with world.store.transaction() as tx:
        for text, place in zip(texts, places, strict=True):
            digest = tokens.digest(text.encode())
            if place is not None:
                parts = digest[:place], "0" if digest[place] != "0" else "1", digest[place + 1 :]
                digest = "".join(parts)
            tx.put_token(replace(like, id=text[3:19], digest=digest), Change(EventKind.TOKEN_ISSUED, 0, "timing"))
    one, other = ([text for text, found in zip(texts, places, strict=True) if found == place] for place in wrong)
    random.shuffle(one)
    random.shuffle(other)
    return one, other


def measure(ask: Ask, one: list[str], other: list[str], samples: int) -> tuple[list[int], list[int]]:
    """Return the nanoseconds for each class; the two take turns in random order, and the first times are discarded."""
    times: tuple[list[int], list[int]] = ([], [])
    count = len(one)
    gc.collect()
    gc.disable()
    try:
        for turn in range(samples + WARM_UP):
            for kind in (0, 1) if random.random() < 0.5 else (1, 0):
                # A fresh copy each time: the place of the text in memory must not be part of the measurement.
                text = "".join((one, other)[kind][turn % count].partition("_"))
                begun = perf_counter_ns()
                ask(text)
                took = perf_counter_ns() - begun
                if turn >= WARM_UP:
                    times[kind].append(took)
    finally:
        gc.enable()
    return times


def largest_t(one: list[int], other: list[int]) -> float:
    """Return Welch's t where it is farthest from 0: of all times, or of those below a percentile of both together."""
    together = sorted(one + other)
    limits = [together[min(len(together) - 1, int(len(together) * part))] for part in PERCENTILES]
    cropped = [([x for x in one if x <= limit], [x for x in other if x <= limit]) for limit in limits]
    # Where the classes differ a lot, cropping may leave nothing of the slower one.
    return max((welch(*both) for both in cropped if min(map(len, both)) * 10 >= len(one)), key=abs)


def welch(one: list[int], other: list[int]) -> float:
    """Welch's t of two samples."""
    (mean, variance), (other_mean, other_variance) = _moments(one), _moments(other)
    spread = math.sqrt(variance / len(one) + other_variance / len(other))
    return (mean - other_mean) / spread if spread else 0.0


def _moments(sample: list[int]) -> tuple[float, float]:
    mean = math.fsum(sample) / len(sample)
    return mean, math.fsum((x - mean) ** 2 for x in sample) / (len(sample) - 1)


if __name__ == "__main__":
    main()
