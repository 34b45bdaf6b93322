"""Where clients, tokens and events are kept: the :class:`Store` protocol, and :class:`MemoryStore`.

Every write that can change an answer adds one event in the same transaction: the events are the audit trail and
the feed by which other processes learn of a change. They are numbered without gaps, in the order of their
commits, by one counter; a transaction locks that counter before anything else, so writers queue up there and
nowhere else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from . import schema
from .scopes import Scopes
from .tokens import Client, Token, random_id

MAX_ACTOR_LENGTH = 255
#: A process that is further behind than this clears what it remembers instead of catching up.
FEED_LIMIT = 1000


class EventKind(StrEnum):
    """What happened. The values are stored: they never change."""

    CLIENT_REGISTERED = "client.registered"
    CLIENT_DISABLED = "client.disabled"
    CLIENT_ENABLED = "client.enabled"
    CLIENT_SCOPES_CHANGED = "client.scopes_changed"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be recorded of a write: an event that has no number yet."""

    kind: EventKind
    at: int
    #: Who did it, in the operator's words: a user of the command line, a service, a token.
    actor: str
    #: What changed: field name to [old, new]. Never a secret.
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One change that was made. ``number`` counts without gaps in commit order; ``id`` is random.

    The random id tells a reader that the history was replaced (a restored backup, a failover): the same number
    with another id is another event.
    """

    number: int
    id: str
    kind: str
    at: int
    actor: str
    client_id: str
    token_id: str | None
    data: Mapping[str, Any]


class Record(NamedTuple):
    """A token with its client, and the counter's value in the same statement that read them."""

    token: Token
    client: Client
    revision: int


class Feed(NamedTuple):
    """The counter, and the events from the asked number on, read in one statement."""

    revision: int
    events: tuple[Event, ...]


class Transaction(Protocol):
    """One transaction that holds the counter's lock. What it reads cannot change before it ends."""

    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    def token(self, token_id: str) -> Token | None:
        """The token with this id."""

    def put_client(self, client: Client, change: Change) -> Event:
        """Insert or replace a client, and record the change."""

    def put_token(self, token: Token, change: Change) -> Event:
        """Insert or replace a token, and record the change."""


class Store(Protocol):
    """Everything that tokenguard keeps. Any method may raise StoreError; then nothing was changed."""

    def find(self, token_id: str) -> Record | None:
        """The token with its client, in one statement; None if there is no such token."""

    def feed(self, since: int) -> Feed:
        """The counter and the events numbered ``since`` and up, oldest first, at most FEED_LIMIT of them."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin to write: locks the counter first; commits at the end of the block, or undoes it all if it raises."""

    def client(self, ref: str) -> Client | None:
        """The client with this id, or else with this name."""

    def clients(self) -> list[Client]:
        """All clients by name."""

    def tokens(self, client_id: str | None = None) -> list[Token]:
        """All tokens, or those of one client, oldest first."""

    def events(self, limit: int) -> list[Event]:
        """The newest ``limit`` events, oldest first."""

    def upgrade(self) -> tuple[int, int]:
        """Make the store ready for this version of tokenguard; returns the schema versions before and after.

        Done whole or not at all; raises SchemaError for a store that is newer than this code.
        """

    def check(self) -> None:
        """Raises SchemaError or StoreUnavailable if the store is not ready for this version of tokenguard."""


def dump_json(value: Any) -> str:
    """The one form in which sets and mappings are stored, the same whoever writes it."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def dump_scopes(scopes: Scopes) -> str:
    """A JSON list of the scopes, sorted."""
    return dump_json(list(scopes))


def load_scopes(text: str) -> Scopes:
    """The inverse of dump_scopes; raises ValueError for anything else."""
    names = json.loads(text)
    if not isinstance(names, list):
        raise ValueError("the stored scopes are not a list")
    return Scopes(names)


class MemoryStore:
    """Keeps everything in this process: for tests, and to try things out. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._tokens: dict[str, Token] = {}
        self._events: list[Event] = []

    def find(self, token_id: str) -> Record | None:
        with self._lock:
            token = self._tokens.get(token_id)
            return Record(token, self._clients[token.client_id], len(self._events)) if token else None

    def feed(self, since: int) -> Feed:
        with self._lock:
            start = max(since, 1) - 1
            return Feed(len(self._events), tuple(self._events[start : start + FEED_LIMIT]))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._lock:
            draft = _MemoryTransaction(self._clients.copy(), self._tokens.copy(), self._events.copy())
            yield draft
            self._clients, self._tokens, self._events = draft.clients, draft.tokens, draft.events

    def client(self, ref: str) -> Client | None:
        with self._lock:
            return _by_id_or_name(self._clients, ref)

    def clients(self) -> list[Client]:
        with self._lock:
            return sorted(self._clients.values(), key=lambda client: client.name)

    def tokens(self, client_id: str | None = None) -> list[Token]:
        with self._lock:
            chosen = [token for token in self._tokens.values() if client_id in (None, token.client_id)]
            return sorted(chosen, key=lambda token: (token.created_at, token.id))

    def events(self, limit: int) -> list[Event]:
        with self._lock:
            return self._events[max(0, len(self._events) - limit) :]

    def upgrade(self) -> tuple[int, int]:
        return schema.latest(), schema.latest()

    def check(self) -> None:
        """Always ready."""


class _MemoryTransaction:
    """Works on copies, which take the originals' place only if the block ends well."""

    def __init__(self, clients: dict[str, Client], tokens: dict[str, Token], events: list[Event]) -> None:
        self.clients, self.tokens, self.events = clients, tokens, events

    def client(self, ref: str) -> Client | None:
        return _by_id_or_name(self.clients, ref)

    def token(self, token_id: str) -> Token | None:
        return self.tokens.get(token_id)

    def put_client(self, client: Client, change: Change) -> Event:
        self.clients[client.id] = client
        return self._record(change, client.id, None)

    def put_token(self, token: Token, change: Change) -> Event:
        self.tokens[token.id] = token
        return self._record(change, token.client_id, token.id)

    def _record(self, change: Change, client_id: str, token_id: str | None) -> Event:
        event = number_event(change, len(self.events) + 1, client_id, token_id)
        self.events.append(event)
        return event


def number_event(change: Change, number: int, client_id: str, token_id: str | None) -> Event:
    """The change as the event with this number, under a random id."""
    return Event(number, random_id(), change.kind.value, change.at, change.actor, client_id, token_id, change.data)


def _by_id_or_name(clients: dict[str, Client], ref: str) -> Client | None:
    return clients.get(ref) or next((client for client in clients.values() if client.name == ref), None)
