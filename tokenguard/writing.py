"""What the transactions of all stores have in common: no write without its event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from .events import Change, Committed, Event, number_event
from .tokens import Client, Token


class EventedTransaction(ABC):
    """The writes of a :class:`tokenguard.store.Transaction`: each adds one event, numbered on from ``revision``.

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
        event = number_event(change, self._revision + 1, client_id, token_id)
        self._append(event)
        self._revision = event.number
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
