"""Verified tokens, cached in the process, and the feed of events by which they are evicted.

An entry holds who a token stands for, never a decision. It may be used by a request that began no later than
``staleness`` seconds after a reading of the feed was asked for. So a request that begins later than a change's commit
plus that bound knows of the change, whichever process made it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from math import inf

from .breaker import PATIENCE, Breaker, NotAsked
from .clock import monotonic
from .complaints import Complaint
from .errors import ConfigurationError, StoreError
from .events import LARGEST, Event, Feed
from .forks import in_children
from .identity import OWN_ISSUER
from .store import Store
from .turns import take
from .verified import Verified

log = logging.getLogger("tokenguard")

#: Seconds for which a process may go on without asking what has changed.
STALENESS = 1.0
#: How many tokens a process remembers.
CACHE_SIZE = 100_000
#: How many tokens are evicted at once, at most, when the cache is full.
MANY_FORGOTTEN = 1000
#: In place of a generation, for a result that is good for one request alone, and is not cached.
NOT_KEPT = -1


class TokenCache:
    """One process's cache of a store's tokens. Threads may share it; a forked child starts empty.

    ``staleness`` and ``stale_grace`` are in seconds. Within the first, a revocation made elsewhere is known. For the
    second, entries may be used beyond that if the feed cannot be read. ``size`` is in tokens. With a ``staleness``
    of 0 the feed is read for every request. Raises ConfigurationError for a number that cannot be used.
    """

    #: The cached tokens by :meth:`TokenFormat.key`, and those keys by the tokens' ids.
    entries: dict[bytes, Verified]
    _keys: dict[str, bytes]
    #: Until when entries are good without another reading of the feed, and when that was last asked for.
    good_until: float
    _read_at: float
    #: What is known of the history, as numbers of events. The newest that was read from the feed, and its id.
    _seen: int
    _seen_id: str
    #: The newest that this process has made since, and when.
    _own: int
    _own_at: float
    #: The counter's highest value with which a token was read, and since when that is known.
    _heard: int
    _heard_at: float
    #: Increased when something is forgotten for which no event's number is known.
    _generation: int

    def __init__(
        self,
        store: Store,
        *,
        staleness: float = STALENESS,
        stale_grace: float = 0.0,
        size: int = CACHE_SIZE,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        for what, seconds in (("staleness", staleness), ("stale grace", stale_grace)):
            # No time is later than NaN or infinity: what is revoked elsewhere would never be known.
            if not isinstance(seconds, (int, float)) or not 0 <= seconds < inf:
                raise ConfigurationError(f"the {what} must be a number of seconds, 0 or more, not {seconds!r}")
        if not isinstance(size, int) or size < 0:
            raise ConfigurationError(f"the size of a cache must be a number of tokens, 0 or more, not {size!r}")
        self.store = store
        self.staleness = staleness
        self.stale_grace = stale_grace
        self.size = size
        #: Called before each reading of the feed, so not before a process first needs one; must not raise.
        self.on_reading: Callable[[], object] | None = None
        #: Returns whether the guard's clock stands still while time goes by.
        self.stands_still: Callable[[], bool] = bool
        self.monotonic = monotonic
        #: For looking up tokens in the store.
        self.breaker = Breaker(monotonic)
        #: The feed has its own: as long as that can be read, entries are good, even while lookups hang. Missing tables
        #: count too: every request fails at them, and would fill the log.
        self.feed_breaker = Breaker(monotonic, counts=StoreError)
        self._complain = Complaint(
            logging.WARNING,
            "the database has another history of changes than before, as after a restored backup or a failover",
        )
        self._start_empty()
        store.committed.listen(self._committed)
        in_children(self._start_empty)

    def get(self, key: bytes) -> Verified | None:
        """Return the entry under this key if it may be used now; reads the feed first when that is due.

        Raises StoreError when it can no longer be known whether the entry still holds.
        """
        begun = self.monotonic()
        # A text without an entry, such as strangers send, causes no reading of the feed.
        if begun > self.good_until and not (key in self.entries and self._may_be_used(begun)):
            return None
        return self.entries.get(key)  # only now: an entry found before could be one just evicted by another thread

    def peek(self, key: bytes) -> Verified | None:
        """Like :meth:`get`, but without waiting: None also where :meth:`get` would read the feed."""
        begun = self.monotonic()
        if begun > self.good_until and not (self._reading.locked() and self._is_fresh(begun)):
            return None
        return self.entries.get(key)

    def catch_up(self) -> int:
        """Read the feed if that is due; return the generation to pass to :meth:`put`. Raises StoreError."""
        begun = self.monotonic()
        if begun > self.good_until:
            self._catch_up(begun)
        return self._generation

    def store_answers(self) -> bool:
        """Whether the store answers, as far as is known. Tries one that has failed, unless another thread does."""
        # By the feed, which is read from the primary, where writes go.
        if self.feed_breaker.in_doubt:
            with suppress(StoreError):
                self.catch_up()
        return not self.feed_breaker.in_doubt

    @property
    def newest(self) -> int:
        """The number of the newest event that this process knows of."""
        return max(self._seen, self._own)

    def put(self, key: bytes, verified: Verified, revision: int, generation: int) -> bool:
        """Remember what was read when the counter was at ``revision``, after :meth:`catch_up` gave ``generation``.

        Returns False if something newer is known to have happened: then read it again, from the primary.
        """
        if self.store.in_transaction:
            return True  # what was read may yet be undone
        with self._lock:
            if revision < self._seen or revision < self._own:
                return False
            if revision > self._heard:
                self._heard, self._heard_at = revision, self.monotonic()
            if generation == self._generation and self.size > 0:
                if len(self.entries) >= self.size:
                    self._make_room()
                self._remember(key, verified)
        return True

    def evict(self, token_id: str | None, client_id: str) -> None:
        """Forget a token or, if its id is None, all of the client's tokens."""
        with self._lock:
            self._generation += 1  # so that nothing that is just being read is cached
            self._forget([(token_id, client_id)])

    def __len__(self) -> int:
        return len(self.entries)

    def _may_be_used(self, begun: float) -> bool:
        try:
            return self._catch_up(begun)
        except StoreError:
            if begun - self._read_at > self.staleness + self.stale_grace:
                raise
            return True

    def _catch_up(self, begun: float) -> bool:
        """Read the feed if that is due; return whether entries are fresh enough for a request that began then."""
        fresh = self._is_fresh(begun)
        if self.store.in_transaction:
            return fresh  # what is read inside it may be older than it seems, or never be committed
        if not fresh:
            self._wait_for_feed(begun)
        elif self._reading.acquire(blocking=False):
            # Early: one thread reads while the others go on.
            try:
                self._read_feed()
            except StoreError as error:
                log.warning("changes could not be read yet: %s", error)
                self.good_until = self._read_at + self.staleness
            finally:
                self._reading.release()
        return True

    def _is_fresh(self, begun: float) -> bool:
        return begun - self._read_at <= self.staleness

    def _wait_for_feed(self, begun: float) -> None:
        # One thread finds out whether a store that has failed is back; the others do not wait for that.
        longest = 0 if self.feed_breaker.in_doubt else PATIENCE
        turn: list[bool] = []
        try:
            take(self._reading, turn, longest)
            if self._is_fresh(begun):
                return  # another thread has read it, also where so many waited that the turn did not come in time
            if True not in turn:
                raise NotAsked("other requests have been waiting for the store for too long")
            self._read_feed()
        finally:
            if True in turn:
                self._reading.release()

    def _read_feed(self) -> None:
        """Ask what has changed, and forget that. For the thread that holds ``_reading``; raises StoreError."""
        if self.on_reading is not None:
            self.on_reading()
        sent = self.monotonic()
        since = self._seen
        if since < 0:  # at first nothing is cached that older events could be about: only the counter is read
            since = self.feed_breaker.call(self.store.feed, LARGEST).revision
        feed: Feed = self.feed_breaker.call(self.store.feed, since)
        stands_still = self.stands_still()
        with self._lock:
            lost = self._lost(feed, sent)
            self._follow(feed, sent)
            if stands_still:  # so it is not known when other issuers must be asked again
                for other in [each for each in self.entries.values() if each.identity.issuer != OWN_ISSUER]:
                    self._forget_one(other.token_id)
            self._read_at = sent
            # Set last: whoever reads it finds everything evicted that has to be.
            self.good_until = sent + self.staleness / 2
        if lost:
            outcome = f"now {feed.revision} is the last" if feed.revision < lost else "and is another one now"
            self._complain(f"event {lost} was known, {outcome}; a revocation may have been lost")

    def _follow(self, feed: Feed, sent: float) -> None:
        """Forget what these events changed or, where they do not follow those that were read before, everything.

        ``sent``, here and below, is when they were asked for.
        """
        if self._continues(feed, sent):
            new = feed.events[1:] if self._seen else feed.events
            self._forget([(event.token_id, event.client_id) for event in new])
        else:
            self._forget_all()
        newest = feed.events[-1] if feed.events else None
        self._seen = feed.revision
        # If the newest event is missing, its id is not known, and the next reading starts anew.
        self._seen_id = newest.id if newest is not None and newest.number == feed.revision else ""
        if sent > self._own_at:
            self._own = 0  # the feed has contained it, or it is gone with the history that it was part of

    def _lost(self, feed: Feed, sent: float) -> int | None:
        """Return the number of an event that was known and is not in the history of these; None if there is none."""
        # A replica may show a change before its primary does, which waits for another replica to confirm it.
        heard_before = self._heard if sent > self._heard_at and not self.store.replicated else 0
        known = max(self._seen, heard_before)
        if feed.revision < known:
            return known
        oldest = feed.events[0] if feed.events else None
        # An event that is missing may only have been pruned, but no other one ever has its number.
        if oldest is not None and oldest.number == self._seen and self._seen_id not in ("", oldest.id):
            return self._seen
        return None

    def _continues(self, feed: Feed, sent: float) -> bool:
        """Whether these events follow those that were read before: in the same history, without a gap."""
        if feed.revision < self._heard and sent > self._heard_at:
            return False  # a token was read at a later revision, so most likely in another history
        if self._seen and (not feed.events or feed.events[0].id != self._seen_id):
            return False
        return [event.number for event in feed.events] == list(range(max(self._seen, 1), feed.revision + 1))

    def _committed(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._own = max(self._own, events[-1].number)
            self._own_at = self.monotonic()
            self._forget([(event.token_id, event.client_id) for event in events])

    def _remember(self, key: bytes, verified: Verified) -> None:
        token_id = verified.token_id
        # Another issuer's token may have several texts. Only one is kept, so that evicting the token leaves none.
        if (other := self._keys.get(token_id, key)) != key:
            self.entries.pop(other, None)
        # Nor may a text keep its earlier id: an issuer may give another one in each of its answers about it.
        if (before := self.entries.get(key)) is not None and before.token_id != token_id:
            self._forget_one(before.token_id)
        # The entry is added last and removed first: a signal may interrupt this anywhere, and no event could evict an
        # entry that is not in the index.
        self._keys[token_id] = key
        self.entries[key] = verified

    def _forget(self, changed: Iterable[tuple[str | None, str]]) -> None:
        """Forget these tokens or, where a token's id is None, all of the client's tokens."""
        clients = set()
        for token_id, client_id in changed:
            if token_id is None:
                clients.add(client_id)
            else:
                self._forget_one(token_id)
        # There is no index by client: every entry would pay for it, and clients rarely change. One pass for all.
        if clients:
            for token_id in [each.token_id for each in self.entries.values() if each.client_id in clients]:
                self._forget_one(token_id)

    def _forget_one(self, token_id: str) -> None:
        self.entries.pop(self._keys.get(token_id, b""), None)
        self._keys.pop(token_id, None)

    def _make_room(self) -> None:
        # Several at once, as finding the oldest is costly; but not so many that a request would notice.
        for verified in list(islice(self.entries.values(), max(1, min(self.size // 10, MANY_FORGOTTEN)))):
            self._forget_one(verified.token_id)

    def _forget_all(self) -> None:
        self._generation += 1
        self._heard = 0
        self.entries.clear()
        self._keys.clear()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        #: Held by the thread that reads the feed.
        self._reading = threading.Lock()
        self.entries, self._keys, self._generation = {}, {}, 0
        self._seen, self._seen_id = -1, ""
        self._own, self._own_at = 0, 0.0
        self._heard, self._heard_at = 0, 0.0
        self._read_at = self.good_until = float("-inf")
        self.breaker.forget()
        self.feed_breaker.forget()
