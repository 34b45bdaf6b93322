"""Revocations told to every worker at once, over Redis.

A courtesy beside the feed of events, which alone keeps the bound: what Redis loses, or cannot take, is known a little
later. Nothing that comes over Redis is trusted. It can make a process forget a token, which is then asked of the store
again, and nothing else: whoever can publish there costs time, and lets nobody in.
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
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .complaints import Complaint
from .errors import ConfigurationError
from .events import Event, EventKind
from .store import Store

log = logging.getLogger("tokenguard")
#: Seconds that a revocation may be held up by each step of telling of it.
TIMEOUT = 0.5
#: Seconds for which a Redis that has failed is told nothing more.
PAUSE = 5.0
#: Seconds between two attempts to listen, at least and at most: a fleet does not come back all at once.
PAUSES = (1.0, 3.0)
#: Seconds of silence after which a listener asks whether Redis is still there, and as many again until it gives up.
SILENCE = 10.0
#: Seconds after which a listener that nobody needs any more has ended.
LOOK_UP = 1.0
#: What is read of one message at most, in bytes, and what is put into one, in pairs of ids.
MAX_BYTES = 65_536
MAX_PAIRS = 1_000
# These change no answer that a process may remember.
_UNHEARD = {EventKind.CLIENT_REGISTERED, EventKind.TOKEN_ISSUED, EventKind.POLICY_REFUSED, EventKind.PRUNED}


class Evictable(Protocol):
    """Remembers tokens, and can be told to forget them."""

    def evict(self, token_id: str | None, client_id: str) -> None:
        """Forget a token or, without its id, all of a client's."""


class Publisher:
    """Tells the Redis at ``url`` which tokens to forget after each commit of ``store``, for as long as that lives.

    Raises ConfigurationError for a URL that cannot be used; connects when it first has something to say.
    """

    def __init__(self, url: str, store: Store) -> None:
        self._redis, self._channel = _client(url)
        _close_with(self, self._redis)
        self._silent_until = -math.inf
        self._complain = Complaint(
            logging.WARNING, "a change could not be told over Redis, other processes know it from the feed of events"
        )
        store.committed.listen(self.tell)

    def tell(self, events: Sequence[Event]) -> None:
        """Publish what these events make worth forgetting. Never raises, and gives up soon: they are committed."""
        pairs = [(event.token_id, event.client_id) for event in events if event.kind not in _UNHEARD]
        if not pairs or time.monotonic() < self._silent_until:
            return
        try:
            for first in range(0, len(pairs), MAX_PAIRS):
                self._redis.publish(self._channel, json.dumps(pairs[first : first + MAX_PAIRS]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not look like a change that failed
            self._silent_until = time.monotonic() + PAUSE
            self._complain(type(error).__name__)


class Subscriber:
    """Evicts from ``cache`` what the Redis at ``url`` tells of, in one thread of each process that wants it.

    The thread ends with the process, or soon after the cache is gone. Raises ConfigurationError for a URL that cannot
    be used.
    """

    def __init__(self, url: str, cache: Evictable) -> None:
        self._redis, self._channel = _client(url)
        _close_with(self, self._redis)
        self._cache = weakref.ref(cache)
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._complain = Complaint(
            logging.WARNING, "changes are not told over Redis for now, they are known from the feed of events"
        )

    def start(self) -> None:
        """Listen from now on, unless this process does so already. Returns at once, and never raises."""
        if self._thread is not None and self._thread.is_alive() and self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._listen, args=(self._pid,), name="tokenguard-push", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # there are too many, or the process is about to end
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
        """Evict what is told of, until this is not needed any more; raises when Redis is gone."""
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
        cache = self._cache()
        if message["type"] != "message" or cache is None:
            return
        for token_id, client_id in _pairs(message["data"]):
            cache.evict(token_id, client_id)


def _pairs(data: object) -> Iterator[tuple[str | None, str]]:
    """The ids in a message; nothing of one that is not like ours, whoever sent it."""
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


def _close_with(owner: object, client: redis.Redis) -> None:
    # Left to itself a client closes its connections when the garbage is collected, which Python complains of.
    weakref.finalize(owner, client.close).atexit = False


def _client(url: str) -> tuple[redis.Redis, str]:
    """A client that has not connected yet, and the channel."""
    try:
        # The spelling of the rate limits' URL is good here too.
        client = redis.Redis.from_url(
            url.replace("redis+unix://", "unix://", 1),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        settings = client.connection_pool.connection_kwargs
        client.connection_pool.connection_class(**settings)  # so that a word it does not know is refused now
    except Exception:  # noqa: BLE001 - a URL is wrong in many ways
        # The URL is not quoted: it may hold a password.
        raise ConfigurationError("the URL cannot be used: write it as redis://host:6379/0") from None
    # Publishing knows no database numbers, but who shares a Redis keeps services apart by them.
    return client, f"tokenguard:evict:{settings.get('db') or 0}"
