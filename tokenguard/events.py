"""Events: every change that can alter an answer is one event, numbered in the order of the commits.

The events are the audit trail, and the feed from which other processes learn of a change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple
from weakref import WeakMethod

from .conditions import Conditions
from .errors import StoreError
from .scopes import Scopes
from .tokens import Client, Token

MAX_ACTOR_LENGTH = 255
#: A process that is more events behind than this clears its cache instead of catching up.
FEED_LIMIT = 1000
#: The largest number that the databases have; no event has it.
LARGEST = 2**63 - 1
# An event has columns of its own for the token and client that it is about; a digest is nobody's business.
_NOT_RECORDED = {"id", "client_id", "digest", "created_at"}


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
    """What to record of a write: an event that has no number yet."""

    kind: EventKind
    at: int
    #: Who did it, in the operator's words: a user of the command line, a service, a token.
    actor: str
    #: What changed: field name to [old, new]. Never a secret.
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A change that was committed. ``number`` counts without gaps in commit order; ``id`` is random.

    The random id lets a reader notice that the history was replaced (by a restored backup or a failover): the same
    number with another id is another event.
    """

    number: int
    id: str
    kind: str
    at: int
    actor: str
    client_id: str
    token_id: str | None
    data: Mapping[str, Any]


class Feed(NamedTuple):
    """The counter, and the events from the requested number on, read in one statement."""

    revision: int
    events: tuple[Event, ...]


class EventFilter(NamedTuple):
    """Selects the events that meet every condition that is set."""

    client_id: str | None = None
    token_id: str | None = None
    kind: str | None = None
    #: Not before this time, in epoch microseconds.
    since: int | None = None
    #: Only those numbered above this.
    after: int = 0

    def takes(self, event: Event) -> bool:
        """Whether the filter selects the event."""
        return (
            (self.client_id is None or event.client_id == self.client_id)
            and (self.token_id is None or event.token_id == self.token_id)
            and (self.kind is None or event.kind == self.kind)
            and (self.since is None or event.at >= self.since)
            and event.number > self.after
        )

    def in_bounds(self) -> EventFilter:
        """The filter with ``since`` and ``after`` cut to what a database can compare; it selects the same events."""
        return self._replace(since=None if self.since is None else _cut(self.since), after=_cut(self.after))


ALL_EVENTS = EventFilter()


class Committed:
    """Tells listeners in this process what it has just committed."""

    def __init__(self) -> None:
        self._listeners: list[WeakMethod[Callable[[Sequence[Event]], object]]] = []
        #: Keeps listeners alive that nothing else refers to, by what they are for.
        self.kept: dict[str, Any] = {}

    def listen(self, callback: Callable[[Sequence[Event]], object]) -> None:
        """Call ``callback``, a bound method, with the events of each commit for as long as its object lives.

        It must not raise.
        """
        alive = [listener for listener in self._listeners if listener() is not None]
        self._listeners = [*alive, WeakMethod(callback)]

    def announce(self, events: Sequence[Event]) -> None:
        """Pass the committed ``events`` to the listeners."""
        for listener in self._listeners:
            if events and (callback := listener()) is not None:
                callback(events)


def recorded(
    kind: EventKind, at: int, actor: str, old: Client | Token | None, new: Client | Token, *, reason: str = ""
) -> Change:
    """Return the record of a change from ``old`` to ``new``."""
    before, after = _fields_of(old), _fields_of(new)
    data = {key: [before.get(key), value] for key, value in after.items() if before.get(key) != value}
    return Change(kind, at, actor, data | ({"reason": [None, reason]} if reason else {}))


def run_of_old(oldest: Iterable[Sequence[int]], before: int) -> tuple[int, int]:
    """Return how many events, given by number and time, are older than ``before``, and the last one's number.

    Stops at the first that is not older, so that what remains is numbered without gaps. Raises StoreError for a time
    that is not a whole number, as SQLite may hold.
    """
    count, last = 0, 0
    for number, at in oldest:
        if not isinstance(at, int):
            raise StoreError(f"a row of tokenguard_event is damaged ({number!a:.50}): its time is not a whole number")
        if at >= before:
            break
        count, last = count + 1, number
    return count, last


def _cut(number: int) -> int:
    return max(-LARGEST, min(number, LARGEST))


def _fields_of(item: Client | Token | None) -> dict[str, Any]:
    if item is None:
        return {}
    values = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in _NOT_RECORDED}
    return {key: plain(value) for key, value in values.items()}


def plain(value: Any) -> Any:
    """Return the value of a field as JSON has it."""
    if isinstance(value, Scopes):
        return list(value)
    return value.dump() if isinstance(value, Conditions) else value
