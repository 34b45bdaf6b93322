"""Where clients, tokens and events are kept: the :class:`Store` protocol. What it takes and returns is here by name.

Every write that can change an answer adds one event in the same transaction. A transaction locks the counter that
numbers them before anything else, so writers queue up there and nowhere else.
"""

from __future__ import annotations

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
from .tokens import Client, Read, Token
from .writing import EventedTransaction

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
    """One transaction that holds the counter's lock. What it reads cannot change before it ends, but for use."""

    def now(self) -> int:
        """The store's own clock, in epoch microseconds: the same for all that share it."""

    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    def record(self, token_id: str) -> Record | None:
        """The token with this id, with its client and its use."""

    def records(self, client_id: str) -> list[Record]:
        """The client's tokens, oldest first."""

    def put_client(self, client: Client, change: Change) -> Event:
        """Insert or replace a client, and record the change."""

    def put_token(self, token: Token, change: Change) -> Event:
        """Insert or replace a token, and record the change."""

    def note(self, change: Change, client_id: str = "") -> Event:
        """Record what changed neither a client nor a token."""

    def delete_tokens(self, token_ids: Collection[str]) -> int:
        """Remove tokens that have ended, with all that is known of their use; returns how many were there."""

    def delete_events(self, before: int, limit: int) -> int:
        """Remove the oldest events, older than ``before``, at most ``limit``, never the newest; returns how many."""

    def delete_days(self, before: int, limit: int) -> int:
        """Remove at most ``limit`` counts of days before ``before`` (days since the epoch); returns how many."""

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once all of this is committed, what it is a part of included; never if it is undone."""


class Store(Protocol):
    """Everything that tokenguard keeps. Any method may raise StoreError; then nothing was changed."""

    #: Told of what this store's own transactions commit, before anything that waits for their ``on_commit``.
    committed: Committed

    @property
    def replicated(self) -> bool:
        """Whether :meth:`standing` may be answered by a replica, which lags behind."""

    @property
    def in_transaction(self) -> bool:
        """Whether this thread would read inside a transaction of the caller's own, and see what may yet be undone."""

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        """What a request has to know of the token, in one statement; None unless its id and digest are on record.

        Both are looked for in one, so that it takes no longer where only the id is there. It may come from a replica
        that lags, as its counter tells, unless the ``primary`` database is asked for. None also where such a replica
        cannot be asked.
        """

    def find(self, token_id: str) -> Record | None:
        """The token with its client and its use, in one statement; None if there is no such token."""

    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        """What is known of another issuer's token and client of these ids, in one statement, from the primary.

        A client is known by its id alone: its name may be the id that another issuer's client is kept under.
        """

    def feed(self, since: int) -> Feed:
        """The counter and the events numbered ``since`` and up, oldest first, at most FEED_LIMIT of them.

        Always from the primary, and never inside a transaction of the caller's.
        """

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin to write: locks the counter first; commits at the end of the block, or undoes it all if it raises.

        Inside of another of the same thread's it raises StoreUnavailable, unless it is a part of that one.
        """

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        """Write down uses, waiting for nobody; returns the ids of those that have to be tried again.

        Takes no part in the counter: a use changes no answer, but for putting off the end of an idle token.
        """

    def use_by_day(self, token_id: str) -> dict[int, int]:
        """Days (since the epoch, UTC) to the number of requests, oldest first; of a token, or as NewUse has it."""

    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    def clients(self) -> list[Client]:
        """All clients by name."""

    def records(self, client_id: str | None = None) -> list[Record]:
        """All tokens, or those of the client with this id, oldest first; none for an id that no client has.

        Of a client that is known by its name: ``store.records(store.client("billing").id)``. All are read at once: for
        what may be very many there is :func:`tokenguard.store.walk`.
        """

    def page(
        self, limit: int, now: int | None, *, client_id: str | None = None, after: Place | None = None
    ) -> list[Record]:
        """The oldest ``limit`` tokens after that place, of one client or all, but for those that have ended by ``now``.

        A disabled client's tokens have not ended by that. Where ``now`` is None, those that have ended as well.
        """

    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        """The newest ``limit`` events of those asked for, oldest first."""

    def upgrade(self) -> tuple[int, int]:
        """Make the store ready for this version of tokenguard; returns the schema versions before and after.

        Done whole or not at all; raises SchemaError for a store that is newer than this code.
        """

    def now(self) -> int:
        """The time by the store's own clock, in epoch microseconds."""

    def check(self) -> None:
        """Raises SchemaError or StoreUnavailable if the store is not ready for this version of tokenguard."""


def walk(store: Store, client_id: str | None = None) -> Iterator[Record]:
    """All tokens, or those of the client with this id, oldest first, however many there are.

    Some at a time, so that no statement takes long: each is as it is when it is read. Raises StoreError.
    """
    after = None
    while page := store.page(PAGE, None, client_id=client_id, after=after):
        yield from page
        after = page[-1].place
