"""Where clients, tokens and events are kept: the :class:`Store` protocol, and the types that it takes and returns.

Every write that can change an answer adds one event in the same transaction. Before anything else, a transaction
locks the counter that numbers the events, so writers queue up there and nowhere else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from .events import (
    ALL_EVENTS,
    FEED_LIMIT,
    MAX_ACTOR_LENGTH,
    Change,
    Committed,
    Event,
    EventFilter,
    EventKind,
    Feed,
    run_of_old,
)
from .records import USE_INTERVAL, ForeignRecord, NewUse, Place, Record, Standing, State, merge_use
from .tokens import Client, Read, Token, random_id

__all__ = [
    "ALL_EVENTS",
    "FEED_LIMIT",
    "MAX_ACTOR_LENGTH",
    "USE_INTERVAL",
    "Change",
    "Committed",
    "Event",
    "EventFilter",
    "EventKind",
    "EventedTransaction",
    "Feed",
    "ForeignRecord",
    "NewUse",
    "Place",
    "Record",
    "Standing",
    "State",
    "Store",
    "Transaction",
    "merge_use",
    "run_of_old",
    "walk",
]

#: How many tokens :func:`walk` reads at once.
PAGE = 1000


class Transaction(Protocol):
    """One transaction, which holds the counter's lock. What it reads cannot change before it ends, except for uses."""

    @abstractmethod
    def now(self) -> int:
        """The store's own clock, in epoch microseconds: the same for all that share it."""

    @abstractmethod
    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    @abstractmethod
    def record(self, token_id: str) -> Record | None:
        """The token with this id, with its client and its use."""

    @abstractmethod
    def alive_or_rotated(self, client_id: str, now: int) -> list[Record]:
        """The client's tokens that have not ended by ``now``, and those that were rotated, oldest first."""

    @abstractmethod
    def put_client(self, client: Client, change: Change) -> Event:
        """Insert or replace a client, and record the change."""

    @abstractmethod
    def put_token(self, token: Token, change: Change) -> Event:
        """Insert or replace a token, and record the change."""

    @abstractmethod
    def note(self, change: Change, client_id: str = "") -> Event:
        """Record an event that changed neither a client nor a token."""

    @abstractmethod
    def delete_tokens(self, token_ids: Collection[str]) -> int:
        """Remove tokens that have ended, with all that is known of their use; returns how many were there."""

    @abstractmethod
    def delete_events(self, before: int, limit: int) -> int:
        """Remove at most ``limit`` events older than ``before``, oldest first, never the newest; returns how many."""

    @abstractmethod
    def delete_days(self, before: int, limit: int) -> int:
        """Remove at most ``limit`` daily counts from before ``before`` (days since the epoch); returns how many."""

    @abstractmethod
    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once this, and any transaction it is a part of, is committed; never if it is undone."""


class EventedTransaction(ABC):
    """The writes of any store's :class:`Transaction`: each adds one event, numbered on from ``revision``.

    ``revision`` is the counter's value, which the store has locked. A subclass defines how items are kept and read.
    """

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._events: list[Event] = []
        self._callbacks: list[Callable[[], object]] = []

    def put_client(self, client: Client, change: Change) -> Event:
        self._put(client)
        return self._add(change, client.id, None)

    def put_token(self, token: Token, change: Change) -> Event:
        self._put(token)
        return self._add(change, token.client_id, token.id)

    def note(self, change: Change, client_id: str = "") -> Event:
        return self._add(change, client_id, None)

    def on_commit(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def announce(self, committed: Committed) -> None:
        """After the commit, notify the listeners, so that this process's caches evict first, then the callbacks."""
        committed.announce(self._events)
        for callback in self._callbacks:
            callback()

    def _add(self, change: Change, client_id: str, token_id: str | None) -> Event:
        number, kind = self._revision + 1, change.kind.value
        event = Event(number, random_id(), kind, change.at, change.actor, client_id, token_id, change.data)
        self._append(event)
        self._revision = number
        self._events.append(event)
        return event

    @abstractmethod
    def _put(self, item: Client | Token) -> None:
        """Insert or replace ``item``; raise InvalidValue if a field of it has another type than is declared.

        What cannot be read back would keep each process from reading the feed, and so from letting anybody in.
        """

    @abstractmethod
    def _append(self, event: Event) -> None:
        """Keep the event, and its number as the counter's value. Raises as :meth:`_put` does."""


class Store(Protocol):
    """Everything that tokenguard keeps. Any method may raise StoreError; then nothing was changed."""

    #: Notified of what this store's own transactions commit, before any callback given to their ``on_commit``.
    committed: Committed

    @property
    @abstractmethod
    def replicated(self) -> bool:
        """Whether :meth:`standing` may be answered by a replica, which lags behind."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether this thread would read inside a transaction of the caller's own, and see what may yet be undone."""

    @abstractmethod
    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        """Return what a request has to know of the token, in one statement; None unless id and digest are on record.

        Both are looked up together, so that it takes no longer if only the id is on record. The answer may come from a
        replica that lags, which its ``revision`` shows, unless the ``primary`` database is asked for. None also if such
        a replica cannot be asked.
        """

    @abstractmethod
    def find(self, token_id: str) -> Record | None:
        """Return the token with its client and its use, in one statement; None if there is no such token."""

    @abstractmethod
    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        """Return what is known of another issuer's token and client with these ids, in one statement, from the primary.

        The client is looked up by id only: a client's name may equal the id that another issuer's client is kept under.
        """

    @abstractmethod
    def feed(self, since: int) -> Feed:
        """Return the counter and the events numbered ``since`` and up, oldest first, at most FEED_LIMIT of them.

        Always read from the primary, and never inside a transaction of the caller's.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin to write: locks the counter first; commits at the end of the block, or undoes it all if it raises.

        Inside another transaction of the same thread it raises StoreUnavailable, unless it is a part of that one.
        """

    @abstractmethod
    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        """Record uses without waiting for anybody; returns the ids of those that have to be tried again.

        Leaves the counter alone: a use changes no answer, except that it postpones the end of an idle token.
        """

    @abstractmethod
    def use_by_day(self, token_id: str) -> dict[int, int]:
        """Return the requests by day (days since the epoch, UTC), oldest first; ``token_id`` as in ``NewUse``."""

    @abstractmethod
    def predecessor(self, token: Token) -> str | None:
        """Return the id of the token that was rotated into this one; None if there is none, or no longer."""

    @abstractmethod
    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    @abstractmethod
    def clients(self) -> list[Client]:
        """All clients, sorted by name."""

    @abstractmethod
    def records(self, client_id: str | None = None) -> list[Record]:
        """Return all tokens, or those of the client with this id, oldest first; none for an id that no client has.

        For a client known by name: ``store.records(store.client("billing").id)``. All are read at once; where there may
        be very many, use :func:`tokenguard.store.walk`.
        """

    @abstractmethod
    def page(
        self, limit: int, now: int | None, *, client_id: str | None = None, after: Place | None = None
    ) -> list[Record]:
        """Return the oldest ``limit`` tokens after that place, of one client or all, that have not ended by ``now``.

        Disabling a client does not end its tokens. If ``now`` is None, those that have ended are included.
        """

    @abstractmethod
    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        """Return the newest ``limit`` events that ``which`` selects, oldest first."""

    @abstractmethod
    def upgrade(self) -> tuple[int, int]:
        """Make the store ready for this version of tokenguard; returns the schema versions before and after.

        Done completely or not at all; raises SchemaError for a store that is newer than this code.
        """

    @abstractmethod
    def now(self) -> int:
        """The time by the store's own clock, in epoch microseconds."""

    @abstractmethod
    def check(self) -> None:
        """Raise SchemaError or StoreUnavailable if the store is not ready for this version of tokenguard."""

    @abstractmethod
    def check_replica(self) -> None:
        """Raise StoreError if there is a replica, and :meth:`standing` cannot, or must not, be answered by it."""

    @abstractmethod
    def missing_indexes(self) -> list[str]:
        """The names of the indexes without which all works, but not as quickly. Raises StoreError."""

    @abstractmethod
    def readers_wait(self) -> bool:
        """Whether readers wait for writers, as in an SQLite file that is not in write-ahead mode. Raises StoreError."""


def walk(store: Store, client_id: str | None = None) -> Iterator[Record]:
    """Iterate over all tokens, or those of the client with this id, oldest first, however many there are.

    They are read a page at a time, so that no statement takes long; each is as it was when read. Raises StoreError.
    """
    page = store.page(PAGE, None, client_id=client_id)
    yield from page
    while len(page) == PAGE:
        page = store.page(PAGE, None, client_id=client_id, after=page[-1].place)
        yield from page
