"""What happened: every change that can alter an answer is one event, numbered in the order of the commits.

The events are the audit trail, and the feed by which other processes learn of a change.
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
from .tokens import Client, Token, random_id

MAX_ACTOR_LENGTH = 255
#: A process that is further behind than this clears what it remembers instead of catching up.
FEED_LIMIT = 1000
# Of whom an event speaks stands in its own columns; a digest is nobody's business.
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


def recorded(
    kind: EventKind, at: int, actor: str, old: Client | Token | None, new: Client | Token, *, reason: str = ""
) -> Change:
    """The event of a change from ``old`` to ``new``."""
    before, after = _fields_of(old), _fields_of(new)
    data = {key: [before.get(key), value] for key, value in after.items() if before.get(key) != value}
    return Change(kind, at, actor, data | ({"reason": [None, reason]} if reason else {}))


def number_event(change: Change, number: int, client_id: str, token_id: str | None) -> Event:
    """The change as the event with this number, under a random id."""
    return Event(number, random_id(), change.kind.value, change.at, change.actor, client_id, token_id, change.data)


def run_of_old(oldest: Iterable[Sequence[int]], before: int) -> tuple[int, int]:
    """How many events, given by number and time, are older than ``before``, and the last one's number.

    Up to the first that is young enough, so that what remains is numbered without gaps. Raises StoreError for a time
    that is none, as SQLite keeps it.
    """
    count, last = 0, 0
    for number, at in oldest:
        if not isinstance(at, int):
            raise StoreError(f"a row of tokenguard_event is damaged ({number!a:.50}): its time is not a whole number")
        if at >= before:
            break
        count, last = count + 1, number
    return count, last


def _fields_of(item: Client | Token | None) -> dict[str, Any]:
    if item is None:
        return {}
    values = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in _NOT_RECORDED}
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Scopes):
        return list(value)
    return value.dump() if isinstance(value, Conditions) else value
