"""Removes what nobody needs any more: tokens that have ended, daily counts of requests, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from .clock import DAY, SECOND, check_duration, duration_text
from .errors import InvalidValue, StoreError, counted
from .events import Change, EventKind
from .issuer import check_actor
from .store import Store, Transaction, walk

#: The most rows that one transaction removes: other writers wait for no more than that.
BATCH = 1000
#: The same for other issuers' tokens, each of which is read once more in the transaction.
FOREIGN_BATCH = 100
#: The shortest age, in seconds. Below it, somebody may still be looking into how a token ended, and a host whose clock
#: is slow could still take the token for alive.
MIN_AGE = 86_400


class Pruned(NamedTuple):
    """How many of each were removed; ``days`` are counts of a token's requests on one day."""

    tokens: int = 0
    days: int = 0
    events: int = 0

    def __str__(self) -> str:
        tokens, days = counted(self.tokens, "token"), counted(self.days, "count")
        return f"{tokens}, {days} of a day's requests, {counted(self.events, 'event')}"


class PruningStopped(StoreError):
    """The store failed after a part was ``removed``, for good and with its events."""

    def __init__(self, removed: Pruned, error: StoreError) -> None:
        super().__init__(f"removed so far: {removed}; stopped by: {error}")
        self.removed = removed


class PruningInterrupted(KeyboardInterrupt):
    """Ctrl-C after a part was ``removed``, for good and with its events."""

    def __init__(self, removed: Pruned) -> None:
        super().__init__(f"removed so far: {removed}; stopped by Ctrl-C")
        self.removed = removed


def prune(
    store: Store,
    older_than: int,
    *,
    actor: str,
    progress: Callable[[int], object] = lambda rows: None,
    pause: Callable[[], object] = lambda: None,
) -> Pruned:
    """Remove tokens that ended for good more than ``older_than`` seconds ago, and counts and events of that age.

    Ages go by the store's own clock. Rows are removed in short transactions; after each, ``progress`` is called with
    the number of rows that it removed, and ``pause`` lets other writers have their turn. The newest event stays, and
    each transaction adds one that records what it removed. Raises InvalidValue for an age below a day, PruningStopped
    if the store fails on the way, and PruningInterrupted for a KeyboardInterrupt there.
    """
    check_actor(actor)
    if check_duration(older_than) < MIN_AGE:
        raise InvalidValue(f"the age must be at least 1 day; this is {duration_text(older_than)}")
    with store.transaction() as tx:
        before = tx.now() - older_than * SECOND
    removed = Pruned()
    try:
        for step in filter(any, _steps(store, before, actor)):
            removed = Pruned(*map(sum, zip(removed, step, strict=True)))
            progress(sum(step))
            pause()
    except StoreError as error:
        if any(removed):
            raise PruningStopped(removed, error) from error
        raise
    except KeyboardInterrupt:
        if any(removed):
            raise PruningInterrupted(removed) from None
        raise
    return removed


def _steps(store: Store, before: int, actor: str) -> Iterator[Pruned]:
    # Read outside of any transaction: a token of this service's that has ended for good never comes back.
    ended = (record.token for record in walk(store) if record.ended_at(before) is not None)
    while tokens := [*islice(ended, BATCH)]:
        if ours := [token.id for token in tokens if token.key_fingerprint]:
            yield _step(store, partial(_delete, token_ids=ours), actor)
        theirs = iter([token.id for token in tokens if not token.key_fingerprint])
        while batch := [*islice(theirs, FOREIGN_BATCH)]:
            yield _step(store, partial(_delete_ended, token_ids=batch, before=before), actor)
    yield from _batches(store, lambda tx: Pruned(days=tx.delete_days(before // DAY, BATCH)), actor)
    yield from _batches(store, lambda tx: Pruned(events=tx.delete_events(before, BATCH)), actor)


def _delete(tx: Transaction, token_ids: Sequence[str]) -> Pruned:
    # Another process may have removed some of them meanwhile.
    return Pruned(tokens=tx.delete_tokens(token_ids))


def _delete_ended(tx: Transaction, token_ids: Sequence[str], before: int) -> Pruned:
    # One of them may have been revoked again since, until a later end: it would be let in if it were forgotten.
    found = filter(None, map(tx.record, token_ids))
    return _delete(tx, [record.token.id for record in found if record.ended_at(before) is not None])


def _batches(store: Store, remove: Callable[[Transaction], Pruned], actor: str) -> Iterator[Pruned]:
    count = BATCH
    while count == BATCH:
        step = _step(store, remove, actor)
        count = sum(step)
        yield step


def _step(store: Store, remove: Callable[[Transaction], Pruned], actor: str) -> Pruned:
    with store.transaction() as tx:
        step = remove(tx)
        if any(step):
            # In the same transaction: pruning may be interrupted after any step, or kept from the next one by another
            # writer.
            data = {key: [None, count] for key, count in step._asdict().items() if count}
            tx.note(Change(EventKind.PRUNED, tx.now(), actor, data))
    return step
