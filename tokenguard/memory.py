"""A store that keeps everything in the memory of its process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from . import schema
from .clock import Clock, now
from .errors import StoreBusy
from .events import ALL_EVENTS, FEED_LIMIT, Committed, Event, EventFilter, Feed, run_of_old
from .records import ALIVE, ForeignRecord, NewUse, Place, Record, Standing, merge_use
from .rows import dump
from .store import EventedTransaction, Transaction
from .tokens import Client, Read, Token, Use


class MemoryStore:
    """Keeps everything in this process: for tests, and to try things out. Threads may share it."""

    def __init__(self, clock: Clock = now) -> None:
        # Reentrant, so that a thread inside its own transaction may read again, and no more than read.
        self._lock = threading.RLock()
        self._writing = False
        self._clock = clock
        self._data = _Data()
        self.committed = Committed()
        #: Nothing is ever read inside a transaction of the caller's, nor from a replica.
        self.in_transaction = self.replicated = False

    def standing(self, read: Read, *, primary: bool = False) -> Standing | None:
        with self._lock:
            record = self._data.record(read.id) if read in self._data.texts else None
        return None if record is None else record.standing

    def find(self, token_id: str) -> Record | None:
        with self._lock:
            return self._data.record(token_id)

    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        with self._lock:
            data = self._data
            known = data.clients.get(client_id), data.uses.get(client_id)
            return ForeignRecord(data.revision, token_id in data.tokens, *known)

    def feed(self, since: int) -> Feed:
        with self._lock:
            events = [event for event in self._data.events if event.number >= since]
            return Feed(self._data.revision, tuple(events[:FEED_LIMIT]))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._lock, self._alone():
            draft = _MemoryTransaction(self._data.copy(), self._clock)
            yield draft
            self._data = draft.data
        draft.announce(self.committed)

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        with self._lock:
            if self._writing:
                return {use.token_id for use in uses}
            for use in uses:
                self._data.add_use(use, self._clock())
        return set()

    def use_by_day(self, token_id: str) -> dict[int, int]:
        with self._lock:
            return dict(sorted(self._data.days.get(token_id, {}).items()))

    def predecessor(self, token: Token) -> str | None:
        others = (record.token for record in self.records(token.client_id))
        return next((other.id for other in others if other.successor_id == token.id), None)

    def client(self, ref: str) -> Client | None:
        with self._lock:
            return self._data.client(ref)

    def clients(self) -> list[Client]:
        with self._lock:
            return sorted(self._data.clients.values(), key=lambda client: client.name)

    def records(self, client_id: str | None = None) -> list[Record]:
        with self._lock:
            return list(self._data.records(client_id))

    def page(
        self, limit: int, now: int | None, *, client_id: str | None = None, after: Place | None = None
    ) -> list[Record]:
        with self._lock:
            found = self._data.records(client_id, after)
            return list(islice((record for record in found if now is None or record.state(now) in ALIVE), limit))

    def events(self, limit: int, which: EventFilter = ALL_EVENTS) -> list[Event]:
        with self._lock:
            chosen = [event for event in self._data.events if which.takes(event)]
            return chosen[max(0, len(chosen) - limit) :]

    def upgrade(self) -> tuple[int, int]:
        return schema.latest(), schema.latest()

    def now(self) -> int:
        return self._clock()

    def check(self) -> None:
        """Always ready."""

    def check_replica(self) -> None:
        """There is none."""

    def missing_indexes(self) -> list[str]:
        return []

    def readers_wait(self) -> bool:
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # A write inside another transaction would be lost when that one puts its copy in place.
        if self._writing:
            raise StoreBusy("this thread is already in a transaction: nothing was done, try again after it")
        self._writing = True
        try:
            yield
        finally:
            self._writing = False


@dataclass
class _Data:
    """What a MemoryStore keeps."""

    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    #: The ids and digests of their texts.
    texts: set[Read] = field(default_factory=set)
    uses: dict[str, Use] = field(default_factory=dict)
    days: dict[str, dict[int, int]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    revision: int = 0

    def copy(self) -> _Data:
        # Only the containers are mutable: what they hold is shared.
        days = {token_id: dict(counts) for token_id, counts in self.days.items()}
        held = dict(self.clients), dict(self.tokens), set(self.texts), dict(self.uses)
        return _Data(*held, days, list(self.events), self.revision)

    def client(self, ref: str) -> Client | None:
        return self.clients.get(ref) or next((found for found in self.clients.values() if found.name == ref), None)

    def record(self, token_id: str) -> Record | None:
        token = self.tokens.get(token_id)
        if token is None:
            return None
        return Record(token, self.clients[token.client_id], self.revision, self.uses.get(token_id))

    def records(self, client_id: str | None, after: Place | None = None) -> Iterator[Record]:
        owned = [token for token in self.tokens.values() if client_id in (None, token.client_id)]
        places = [place for token in owned if (place := (token.created_at, token.id)) > (after or ())]
        # Each is made only when it is asked for: a walk asks for a page at a time.
        return filter(None, (self.record(token_id) for _, token_id in sorted(places)))

    def add_use(self, new: NewUse, now: int) -> None:
        if new.token_id not in self.tokens and new.token_id not in self.clients:
            return
        known = self.uses.get(new.token_id)
        self.uses[new.token_id] = merge_use(known, new, now)
        counts = self.days.setdefault(new.token_id, {})
        for day, requests in new.requests.items():
            counts[day] = counts.get(day, 0) + requests


class _MemoryTransaction(EventedTransaction):
    """Works on a copy, which takes the original's place only if the block ends without an error."""

    def __init__(self, data: _Data, clock: Clock) -> None:
        super().__init__(data.revision)
        self.data = data
        self.now = clock
        self.client = data.client
        self.record = data.record

    def alive_or_rotated(self, client_id: str, now: int) -> list[Record]:
        found = self.data.records(client_id)
        return [record for record in found if record.state(now) in ALIVE or record.token.successor_id is not None]

    def delete_tokens(self, token_ids: Collection[str]) -> int:
        before = len(self.data.tokens)
        for token_id in token_ids:
            self._drop(token_id)
            self.data.uses.pop(token_id, None)
            self.data.days.pop(token_id, None)
        return before - len(self.data.tokens)

    def delete_events(self, before: int, limit: int) -> int:
        oldest = self.data.events[:-1][:limit]
        count, _ = run_of_old([(event.number, event.at) for event in oldest], before)
        del self.data.events[:count]
        return count

    def delete_days(self, before: int, limit: int) -> int:
        old = [(counts, day) for counts in self.data.days.values() for day in counts if day < before][:limit]
        for counts, day in old:
            del counts[day]
        return len(old)

    def _drop(self, token_id: str) -> None:
        if (token := self.data.tokens.pop(token_id, None)) is not None:
            self.data.texts.discard(Read.of(token))

    def _put(self, item: Client | Token) -> None:
        dump(item)  # raises for what no other store could keep
        if isinstance(item, Client):
            self.data.clients[item.id] = item
            return
        self._drop(item.id)
        self.data.tokens[item.id] = item
        self.data.texts.add(Read.of(item))

    def _append(self, event: Event) -> None:
        dump(event)
        self.data.events.append(event)
        self.data.revision = event.number
