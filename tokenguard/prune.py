"""Removing what nobody needs any more: tokens that have ended, counts of days, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .clock import DAY, SECOND, check_duration
from .errors import InvalidValue
from .events import MAX_ACTOR_LENGTH, Change, EventKind
from .store import Store, Transaction
from .tokens import check_label

#: Rows that one transaction removes at most: other writers wait for no more than that.
BATCH = 1000
#: The shortest age, in seconds. Below it, an ending that somebody is still looking into would lose its traces, and a
#: host whose clock is slow could still take a token for alive.
MIN_AGE = 86_400


class Pruned(NamedTuple):
    """How many of each were removed; ``days`` are counts of a token's requests on one day."""

    tokens: int = 0
    days: int = 0
    events: int = 0


def prune(
    store: Store,
    older_than: int,
    *,
    actor: str,
    progress: Callable[[int], object] = lambda rows: None,
    pause: Callable[[], object] = lambda: None,
) -> Pruned:
    """Remove tokens that ended for good more than ``older_than`` seconds ago, and counts and events of that age.

    By the store's own clock, in short transactions; after each, ``progress`` is called with the number of rows that it
    removed, and ``pause`` lets other writers have their turn. The newest event stays, and one more records what was
    removed, if anything was. Raises InvalidValue for an age below a day.
    """
    check_label("an actor", actor, max_length=MAX_ACTOR_LENGTH)
    if check_duration(older_than) < MIN_AGE:
        raise InvalidValue(f"what is younger than 1 day is not pruned; this is {older_than} seconds")
    with store.transaction() as tx:
        before = tx.now() - older_than * SECOND
    removed = Pruned()
    try:
        for step in _steps(store, before):
            removed = Pruned(*map(sum, zip(removed, step, strict=True)))
            progress(sum(step))
            pause()
    finally:  # what is gone is recorded, even if the rest could not be done
        if any(removed):
            _record(store, removed, actor)
    return removed


def _steps(store: Store, before: int) -> Iterator[Pruned]:
    # Read outside of any transaction: a token that has ended for good never comes back.
    ended = [record.token.id for record in store.records() if record.ended_at(before) is not None]
    for start in range(0, len(ended), BATCH):
        batch = ended[start : start + BATCH]
        with store.transaction() as tx:
            tx.delete_tokens(batch)
        yield Pruned(tokens=len(batch))
    for count in _batches(store, lambda tx: tx.delete_days(before // DAY, BATCH)):
        yield Pruned(days=count)
    for count in _batches(store, lambda tx: tx.delete_events(before, BATCH)):
        yield Pruned(events=count)


def _batches(store: Store, remove: Callable[[Transaction], int]) -> Iterator[int]:
    count = BATCH
    while count == BATCH:
        with store.transaction() as tx:
            count = remove(tx)
        if count:
            yield count


def _record(store: Store, removed: Pruned, actor: str) -> None:
    data = {key: [None, count] for key, count in removed._asdict().items() if count}
    with store.transaction() as tx:
        tx.note(Change(EventKind.PRUNED, tx.now(), actor, data))
