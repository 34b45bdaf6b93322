"""Revocations pushed to every worker at once, over Redis.

A courtesy beside the feed of events, which alone keeps the bound: a change that Redis loses, or cannot take, is known
a little later. Nothing that comes over Redis is trusted. A message can only make a process forget a token, which is
then looked up in the store again. So somebody else who can publish there costs time, but lets nobody in.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .cache import TokenCache
from .complaints import Complaint
from .errors import ConfigurationError, StoreUnavailable
from .events import Event, EventKind
from .store import Store

log = logging.getLogger("tokenguard")
#: Seconds for which each step of publishing may hold up a revocation.
TIMEOUT = 0.5
#: Seconds for which nothing is published after Redis has failed.
PAUSE = 5.0
#: The least and the most seconds between two attempts to listen: a fleet does not come back all at once.
PAUSES = (1.0, 3.0)
#: Seconds of silence after which a listener asks whether Redis is still there, and as many again until it gives up.
SILENCE = 10.0
#: Seconds within which a listener ends that is no longer needed.
LOOK_UP = 1.0
#: The longest message that is read, in bytes, and the most pairs of ids that are put into one.
MAX_BYTES = 65_536
MAX_PAIRS = 1_000
# These events change nothing that a process may have cached.
_UNHEARD = {EventKind.CLIENT_REGISTERED, EventKind.TOKEN_ISSUED, EventKind.POLICY_REFUSED, EventKind.PRUNED}


class Publisher:
    """Publishes over the Redis at ``url`` which tokens to forget, after each commit of ``store`` while that lives.

    Raises ConfigurationError for a URL that cannot be used; connects when it first has something to publish.
    """

    def __init__(self, url: str, store: Store) -> None:
        self._redis, self._channel = _client(url, self)
        self._silent_until = -math.inf
        self._complain = Complaint(
            logging.WARNING,
            "a change could not be published over Redis, other processes read it from the feed of events",
        )
        store.committed.listen(self.tell)

    def tell(self, events: Sequence[Event]) -> None:
        """Publish which tokens to forget after these events. Never raises, and gives up soon: they are committed."""
        pairs = [(event.token_id, event.client_id) for event in events if event.kind not in _UNHEARD]
        if not pairs or time.monotonic() < self._silent_until:
            return
        try:
            for first in range(0, len(pairs), MAX_PAIRS):
                self._redis.publish(self._channel, json.dumps(pairs[first : first + MAX_PAIRS]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not look like a change that failed
            self._silent_until = time.monotonic() + PAUSE
            self._complain(type(error).__name__)

    def check(self) -> None:
        """Raise StoreUnavailable if nothing can be published."""
        try:
            self._redis.publish(self._channel, "[]")  # a message that names no token
        except Exception as error:
            # Without its message, which may quote the URL.
            raise StoreUnavailable(type(error).__name__) from error


class Subscriber:
    """Evicts from ``cache`` the tokens that the Redis at ``url`` names, in one thread of each process that starts it.

    The thread ends with the process, or soon after the cache is gone. Raises ConfigurationError for a URL that cannot
    be used.
    """

    def __init__(self, url: str, cache: TokenCache) -> None:
        self._redis, self._channel = _client(url, self)
        self._cache = weakref.ref(cache)
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._complain = Complaint(
            logging.WARNING, "changes are not published over Redis for now, they are read from the feed of events"
        )

    def start(self) -> None:
        """Listen from now on, unless this process does so already. Returns at once, and never raises."""
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._listen, args=(self._pid,), name="tokenguard-push", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # there are too many threads, or the process is about to end
            self._complain(type(error).__name__)

    def _listen(self, pid: int) -> None:
        while self._needed(pid):
            try:
                self._follow(pid)
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever Redis or its library do
                self._complain(type(error).__name__)
                time.sleep(random.uniform(*PAUSES))  # noqa: S311

    def _needed(self, pid: int) -> bool:
        # Under gevent a forked child has its parent's threads, and would read what is meant for the parent.
        return self._cache() is not None and os.getpid() == pid

    def _follow(self, pid: int) -> None:
        """Evict the tokens that messages name, until this is no longer needed; raises when Redis is gone."""
        with redis.client.PubSub(self._redis.connection_pool) as subscription:
            subscription.subscribe(self._channel)
            heard_at, asked = time.monotonic(), False
            while self._needed(pid):
                message = subscription.get_message(timeout=LOOK_UP)
                if message is not None:
                    heard_at, asked = time.monotonic(), False
                    self._evict(message)
                elif time.monotonic() - heard_at > SILENCE * (1 + asked):
                    if asked:
                        raise redis.TimeoutError
                    subscription.ping()
                    asked = True

    def _evict(self, message: dict[str, Any]) -> None:
        if (cache := self._cache()) is not None:
            for token_id, client_id in _pairs(message["data"]):
                cache.evict(token_id, client_id)


def _pairs(data: object) -> Iterator[tuple[str | None, str]]:
    """Yield the pairs of ids in a message; whatever is not like ours is ignored, whoever sent it, Redis included."""
    if not isinstance(data, bytes | str) or len(data) > MAX_BYTES:
        return
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    for pair in found if isinstance(found, list) else []:
        match pair:
            case [str() | None as token_id, str() as client_id]:
                yield token_id, client_id


def _client(url: str, owner: object) -> tuple[redis.Redis, str]:
    """Return a client that has not connected yet, and the channel. It is closed once nothing refers to ``owner``."""
    try:
        # The spelling of the rate limits' URL is accepted here too.
        client = redis.Redis.from_url(
            url.replace("redis+unix://", "unix://", 1),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        settings = client.connection_pool.connection_kwargs
        client.connection_pool.connection_class(**settings)  # so that an unknown parameter is refused now
    except Exception:  # noqa: BLE001 - a URL is wrong in many ways
        # The URL is not quoted: it may hold a password.
        raise ConfigurationError("the URL cannot be used: write it as redis://host:6379/0") from None
    # By itself it would close its connections only in garbage collection, which Python complains about.
    weakref.finalize(owner, client.close).atexit = False
    # Channels ignore the database number, but services that share a Redis are kept apart by it.
    return client, f"tokenguard:evict:{settings.get('db') or 0}"
