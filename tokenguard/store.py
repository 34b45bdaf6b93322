"""Where clients, tokens and events are kept: the :class:`Store` protocol, and what every store writes alike.

Every write that can change an answer adds one event in the same transaction: the events are the audit trail and
the feed by which other processes learn of a change. They are numbered without gaps, in the order of their
commits, by one counter; a transaction locks that counter before anything else, so writers queue up there and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from weakref import WeakMethod

from .clock import SECOND
from .conditions import Conditions
from .scopes import Scopes
from .tokens import Client, Token, Use, random_id

MAX_ACTOR_LENGTH = 255
#: A process that is further behind than this clears what it remembers instead of catching up.
FEED_LIMIT = 1000
#: A token's use is written down at most this often, and may be on record as much too late.
USE_INTERVAL = 60 * SECOND


class EventKind(StrEnum):
    """What happened. The values are stored: they never change."""

    CLIENT_REGISTERED = "client.registered"
    CLIENT_DISABLED = "client.disabled"
    CLIENT_ENABLED = "client.enabled"
    CLIENT_SCOPES_CHANGED = "client.scopes_changed"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    TOKEN_ROTATED = "token.rotated"  # noqa: S105
    TOKEN_IDLE_ENDED = "token.idle_ended"  # noqa: S105
    CLIENT_CONDITIONS_CHANGED = "client.conditions_changed"
    TOKEN_CONDITIONS_CHANGED = "token.conditions_changed"  # noqa: S105
    POLICY_REFUSED = "policy.refused"
    PRUNED = "store.pruned"


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


class State(StrEnum):
    """What a token is worth at a moment."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"
    #: Replaced by another, and the time in which both worked is over.
    ROTATED = "rotated"
    IDLE = "idle"
    CLIENT_DISABLED = "client disabled"


class Standing(NamedTuple):
    """What decides whether a token is good, and for what: all that a request has to know of it, and no more.

    Times are epoch microseconds, None for never.
    """

    #: The counter's value in the same statement that read the rest.
    revision: int
    digest: str
    scopes: Scopes
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    conditions: Conditions
    idle_timeout: int | None
    idle_ended_at: int | None
    overlap_ends_at: int | None
    client_id: str
    client_name: str
    #: What the client's tokens may ever do.
    ceiling: Scopes
    enabled: bool
    client_conditions: Conditions
    #: To the minute.
    last_used_at: int | None = None

    @property
    def idle_end(self) -> int | None:
        """When the token ends unless it is used before: a use may be on record a minute late."""
        if self.idle_timeout is None:
            return None
        # A host whose clock is behind may have used it before it was made: no use shortens a life.
        return max(self.last_used_at or 0, self.created_at) + self.idle_timeout + USE_INTERVAL

    def state(self, now: int) -> State:
        """What the token is worth at ``now`` (epoch microseconds). An ending goes before a disabled client."""
        if self.revoked_at is not None:
            return State.REVOKED
        if self.idle_ended_at is not None:
            return State.IDLE
        if self.overlap_ends_at is not None and now >= self.overlap_ends_at:
            return State.ROTATED
        if self.expires_at is not None and now >= self.expires_at:
            return State.EXPIRED
        if self.idle_timeout is not None and _past(self.idle_end, now):
            return State.IDLE
        return State.ACTIVE if self.enabled else State.CLIENT_DISABLED


class Record(NamedTuple):
    """A token with its client and its use, and the counter's value in the same statement that read them."""

    token: Token
    client: Client
    revision: int
    use: Use | None = None

    @property
    def standing(self) -> Standing:
        """What of it decides."""
        token, client = self.token, self.client
        return Standing(
            self.revision,
            token.digest,
            token.scopes,
            token.created_at,
            token.expires_at,
            token.revoked_at,
            token.conditions,
            token.idle_timeout,
            token.idle_ended_at,
            token.overlap_ends_at,
            client.id,
            client.name,
            client.scopes,
            client.enabled,
            client.conditions,
            self.last_used_at,
        )

    @property
    def last_used_at(self) -> int | None:
        """When the token was last used, to the minute; None for never."""
        return self.use.last_used_at if self.use else None

    @property
    def idle_end(self) -> int | None:
        """As :attr:`Standing.idle_end`."""
        return self.standing.idle_end

    def state(self, now: int) -> State:
        """As :meth:`Standing.state`."""
        return self.standing.state(now)

    @property
    def place(self) -> Place:
        """Where it stands among all."""
        return Place(self.token.created_at, self.token.id)

    def ended_at(self, now: int) -> int | None:
        """When it ended for good, if it has by ``now``; a disabled client's token may come back."""
        token = self.token
        if not token.key_fingerprint:
            # Another issuer's, which goes on until its end: what refuses it until then is that this is here.
            return token.expires_at if _past(token.expires_at, now) else None
        ends = [token.revoked_at, token.idle_ended_at, token.overlap_ends_at, token.expires_at]
        return min((end for end in ends if end is not None and end <= now), default=None)


class ForeignRecord(NamedTuple):
    """What is known here of another issuer's token, and the counter's value in the same statement that read it."""

    revision: int
    #: Whether the token is refused here: it is in the store only once it is revoked.
    revoked: bool
    #: None for one that is not registered.
    client: Client | None
    #: The use of all the client's tokens together.
    use: Use | None = None


class Place(NamedTuple):
    """Where a token stands among all, oldest first."""

    created_at: int
    token_id: str


class NewUse(NamedTuple):
    """What one process has seen of a token since it last wrote that down."""

    #: Or the id of another issuer's client: its tokens are not kept, and counted together.
    token_id: str
    last_used_at: int
    address: str
    scopes: frozenset[str]
    #: Day (days since the epoch, UTC) to number of requests.
    requests: Mapping[int, int]


class Feed(NamedTuple):
    """The counter, and the events from the asked number on, read in one statement."""

    revision: int
    events: tuple[Event, ...]


class EventFilter(NamedTuple):
    """Which events are asked for: all that meet every condition that is set."""

    client_id: str | None = None
    token_id: str | None = None
    kind: str | None = None
    #: Not before this time, in epoch microseconds.
    since: int | None = None
    #: Only those numbered above this.
    after: int = 0

    def takes(self, event: Event) -> bool:
        """Whether the event is one of those."""
        return (
            (self.client_id is None or event.client_id == self.client_id)
            and (self.token_id is None or event.token_id == self.token_id)
            and (self.kind is None or event.kind == self.kind)
            and (self.since is None or event.at >= self.since)
            and event.number > self.after
        )


ALL_EVENTS = EventFilter()


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

    def delete_tokens(self, token_ids: Collection[str]) -> None:
        """Remove tokens that have ended, with all that is known of their use."""

    def delete_events(self, before: int, limit: int) -> int:
        """Remove the oldest events, older than ``before``, at most ``limit``, never the newest; returns how many."""

    def delete_days(self, before: int, limit: int) -> int:
        """Remove at most ``limit`` counts of days before ``before`` (days since the epoch); returns how many."""

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once all of this is committed, what it is a part of included; never if it is undone."""


class Committed:
    """Tells those in this process who listen of what it has just committed."""

    def __init__(self) -> None:
        self._listeners: list[WeakMethod[Callable[[Sequence[Event]], object]]] = []
        #: Listeners that nobody else holds, by what they are for.
        self.kept: dict[str, object] = {}

    def listen(self, callback: Callable[[Sequence[Event]], object]) -> None:
        """Call ``callback`` with the events of each commit, as long as the object lives whose method it is.

        It must not raise.
        """
        alive = [listener for listener in self._listeners if listener() is not None]
        self._listeners = [*alive, WeakMethod(callback)]

    def announce(self, events: Sequence[Event]) -> None:
        """These are committed."""
        for listener in self._listeners:
            if events and (callback := listener()) is not None:
                callback(events)


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

    def standing(self, token_id: str, *, primary: bool = False) -> Standing | None:
        """What a request has to know of the token, in one statement; None if there is no such token.

        It may come from a replica that lags, as its counter tells, unless the ``primary`` database is asked for.
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
        """Begin to write: locks the counter first; commits at the end of the block, or undoes it all if it raises."""

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
        """All tokens, or those of one client, oldest first."""

    def page(self, limit: int, now: int, *, client_id: str | None = None, after: Place | None = None) -> list[Record]:
        """The oldest ``limit`` tokens after that place, of one client or all, but for those that have ended by ``now``.

        A disabled client's tokens have not ended by that.
        """

    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        """The newest ``limit`` events of those asked for, oldest first."""

    def upgrade(self) -> tuple[int, int]:
        """Make the store ready for this version of tokenguard; returns the schema versions before and after.

        Done whole or not at all; raises SchemaError for a store that is newer than this code.
        """

    def check(self) -> None:
        """Raises SchemaError or StoreUnavailable if the store is not ready for this version of tokenguard."""


def merge_use(known: Use | None, new: NewUse) -> Use:
    """What is known of a token's use once ``new`` is added; an older use changes neither time nor address."""
    if known is None:
        return Use(new.token_id, new.last_used_at, new.address, Scopes(new.scopes))
    scopes = known.scopes | Scopes(new.scopes)
    if new.last_used_at <= known.last_used_at:
        return replace(known, scopes=scopes)
    return Use(new.token_id, new.last_used_at, new.address, scopes)


def run_of_old(oldest: Iterable[Sequence[int]], before: int) -> tuple[int, int]:
    """How many events, given by number and time, are older than ``before``, and the last one's number.

    Up to the first that is young enough, so that what remains is numbered without gaps.
    """
    count, last = 0, 0
    for number, at in oldest:
        if at >= before:
            break
        count, last = count + 1, number
    return count, last


def number_event(change: Change, number: int, client_id: str, token_id: str | None) -> Event:
    """The change as the event with this number, under a random id."""
    return Event(number, random_id(), change.kind.value, change.at, change.actor, client_id, token_id, change.data)


def _past(end: int | None, now: int) -> bool:
    return end is not None and now >= end
