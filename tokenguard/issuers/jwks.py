"""The public keys of an issuer: found through its metadata (RFC 8414, OpenID Connect Discovery), fetched and kept."""

from __future__ import annotations

import logging
import math
import threading
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..complaints import Complaint
from ..errors import ConfigurationError, InvalidToken, TemporarilyUnavailable
from ..forks import in_children
from ..strict_json import read_members
from ..turns import take
from .https import Unreachable, checked_endpoint, exchange

log = logging.getLogger("tokenguard")
#: Seconds that connecting, and each part of an answer, may take; and that the whole answer may take.
TIMEOUT = 5.0
DEADLINE = 5.0
#: How many bytes an answer may have, and how many keys of a set are read.
MAX_BYTES = 262_144
MAX_KEYS = 100
#: Seconds after a fetch before an unknown key is a reason for another fetch.
COOLDOWN = 60.0
#: Seconds after a failed fetch before the next one.
RETRY_AFTER = 10.0
#: Threads that may wait for the first fetch, beside the one that fetches; the others serve the service's own tokens.
MAX_WAITING = 3
MIN_RSA_BITS = 2048
#: The algorithms that may be chosen, each with the type and curve of its keys (RFC 7518 section 3.1).
ALGORITHMS: dict[str, tuple[str, str | None]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}

#: What error messages call a URL of keys.
KEYS_URL = "the URL of the keys"
Fetch = Callable[[str], dict[str, Any] | None]
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Maps what only base64url has to base64, and what only base64 has to a character that neither has.
_AS_BASE64 = bytes.maketrans(b"-_+/=", b"+/???")
# By the length modulo 4: the characters that can be the last, as its unused bits are 0; and the padding that base64 has
# after it.
_ENDS = ((_ALPHABET, b""), ("", b""), (_ALPHABET[::16], b"=="), (_ALPHABET[::4], b"="))


class PublicKey(NamedTuple):
    """One key, for use with one algorithm."""

    algorithm: str
    #: joserfc's object.
    key: Any


class KeysUnavailable(Exception):
    """An issuer's keys could not be fetched; the message says why, in our own words."""


class PublishedKeys:
    """The keys of one issuer, as last published. Threads share them.

    ``jwks_url`` is where they are; without it, the issuer's metadata names the URL. They are fetched anew after
    ``max_age`` seconds, and used for ``grace`` seconds more while that fails. ``fetch`` returns the object at a URL,
    None if there is none, or raises :class:`KeysUnavailable`.
    """

    #: When a fetch was last tried.
    _tried_at: float

    def __init__(
        self,
        issuer: str,
        algorithms: Sequence[str],
        *,
        jwks_url: str | None,
        max_age: float,
        grace: float,
        fetch: Fetch,
        monotonic: Callable[[], float],
    ) -> None:
        self._issuer, self._algorithms, self._jwks_url = issuer, tuple(algorithms), jwks_url
        self._max_age, self._grace = max_age, grace
        self._fetch, self._monotonic = fetch, monotonic
        self._keys: Mapping[str | None, PublicKey] = {}
        #: When the present keys were requested; and whether the last fetch failed.
        self._fetched_at, self._failed = -math.inf, False
        self._complain = Complaint(logging.ERROR, f"the keys of {issuer} could not be fetched")
        self._complain_of_set = Complaint(logging.ERROR, f"no token of {issuer} is let in")
        self._start()
        in_children(self._start)

    def find(self, kid: str | None) -> PublicKey:
        """Return the key of this id.

        Raises InvalidToken if there is none, TemporarilyUnavailable if that is not known.
        """
        if self._age() <= self._max_age and (key := self._keys.get(kid)) is not None:
            return key  # as nearly always
        # A thread waits for another's fetch only if there are no usable keys, and if the last fetch did not fail.
        self._refresh(self._are_due, wait=not (self._may_serve() or self._failed))
        key, is_fetching = self._keys.get(kid), False
        if key is None:
            self._refresh(lambda: self._tried_ago() >= (RETRY_AFTER if self._failed else COOLDOWN), wait=False)
            is_fetching = self._fetching.locked()  # asked first: a fetch that ends just now may have found the key
            key = self._keys.get(kid)
        if not self._may_serve():
            raise TemporarilyUnavailable("the issuer's keys cannot be fetched")
        if key is not None:
            return key
        if self._failed or is_fetching:
            raise TemporarilyUnavailable("the issuer's current keys cannot be fetched, and the key is unknown")
        raise InvalidToken("the issuer has no such key")

    def _are_due(self) -> bool:
        return self._age() > self._max_age and (not self._failed or self._tried_ago() >= RETRY_AFTER)

    def _may_serve(self) -> bool:
        return self._age() <= self._max_age + self._grace

    def _age(self) -> float:
        return self._monotonic() - self._fetched_at

    def _tried_ago(self) -> float:
        return self._monotonic() - self._tried_at

    def _refresh(self, due: Callable[[], bool], *, wait: bool) -> None:
        """Fetch the keys if they are due, unless another thread is doing that."""
        if not due():
            return
        turn: list[bool] = []
        try:
            self._take_turn(turn, wait)
            if True in turn and due():  # still due, once this thread has waited
                self._fetch_all()
        finally:
            if True in turn:
                self._fetching.release()

    def _take_turn(self, turn: list[bool], wait: bool) -> None:
        """Find out whether this thread may fetch: at once or, if it may ``wait``, after another's fetch."""
        take(self._fetching, turn)
        if wait and True not in turn and self._waiting.acquire(blocking=False):
            try:
                take(self._fetching, turn, TIMEOUT)
            finally:
                self._waiting.release()

    def _fetch_all(self) -> None:
        before = self._tried_at
        try:
            # Taken before the request is sent: the keys count as of then, in case one is withdrawn meanwhile.
            self._tried_at = asked_at = self._monotonic()
            self._keys = self._published()
            self._fetched_at, self._failed = asked_at, False
        except KeysUnavailable as error:
            self._failed = True
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - an answer that causes any error is none
            self._failed = True
            self._complain(type(error).__name__)
        except BaseException:  # as by a job's time limit: it is as if this thread had not tried
            self._tried_at = before
            raise

    def _published(self) -> Mapping[str | None, PublicKey]:
        url = self._jwks_url or self._discovered()
        document = self._fetch(url)
        entries = None if document is None else document.get("keys")
        if not isinstance(entries, list):
            raise KeysUnavailable("the URL of its keys does not return a set of keys")
        found: dict[str | None, PublicKey] = {}
        for entry in entries[:MAX_KEYS]:
            if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
                continue
            if (key := _read(entry, self._algorithms)) is not None:
                found.setdefault(entry.get("kid"), key)
        if not found:  # still an answer: all earlier keys are withdrawn
            self._complain_of_set("none of its keys can be used with the allowed algorithms")
        return found

    def _discovered(self) -> str:
        for url in metadata_urls(self._issuer):
            document = self._fetch(url)
            if document is None:
                continue
            if document.get("issuer") != self._issuer:
                raise KeysUnavailable("its metadata is about another issuer")
            try:
                return checked_endpoint(KEYS_URL, document.get("jwks_uri", ""), self._issuer)
            except ConfigurationError:
                raise KeysUnavailable("its metadata has no https URL of its keys") from None
        raise KeysUnavailable("it has no metadata")

    def _start(self) -> None:
        #: Held by the thread that fetches.
        self._fetching = threading.Lock()
        self._tried_at = self._fetched_at  # what a parent's thread is fetching does not come to its forked child
        self._waiting = threading.Semaphore(MAX_WAITING)


def metadata_urls(issuer: str) -> Iterator[str]:
    """Yield where an issuer's metadata may be: as Okta and OpenID Connect have it, and as RFC 8414 section 3 has it."""
    bare, parts = issuer.rstrip("/"), urlsplit(issuer.rstrip("/"))
    yield f"{bare}/.well-known/oauth-authorization-server"
    yield f"{bare}/.well-known/openid-configuration"
    if parts.path:
        yield f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"


def fetch(url: str) -> dict[str, Any] | None:
    """Return the JSON object at ``url``, or None if there is none. Follows no redirect, and uses no proxy.

    Takes at most :data:`DEADLINE` seconds once connected, and reads at most :data:`MAX_BYTES`. Raises KeysUnavailable.
    """
    host = urlsplit(url).hostname
    try:
        status, body = exchange(
            url, {"Accept": "application/json"}, timeout=TIMEOUT, deadline=DEADLINE, max_bytes=MAX_BYTES
        )
    except Unreachable as error:
        raise KeysUnavailable(str(error)) from None
    if 400 <= status < 500 and status not in (408, 429):
        return None
    if status != 200:
        raise KeysUnavailable(f"{host} answers with status {status}")
    try:
        return read_members(body)
    except ValueError:
        raise KeysUnavailable(f"{host} answers with what is no JSON object") from None


def decoded(segment: str) -> bytes:
    """Decode base64url (RFC 7515 section 2); raises ValueError unless ``segment`` is the only text for its bytes."""
    # A lenient decoder would take several texts for the same bytes: they differ in unused bits, or in characters that
    # it skips.
    last, padding = _ENDS[len(segment) % 4]
    if segment[-1:] not in last:
        raise ValueError("not base64url: no text ends like that")
    try:
        return a2b_base64(segment.encode("ascii").translate(_AS_BASE64) + padding, strict_mode=True)
    except ValueError:
        raise ValueError("not base64url: it has other characters") from None


def _read(entry: Mapping[str, Any], algorithms: Sequence[str]) -> PublicKey | None:
    """Read a key from its entry, for one of ``algorithms``; None if it must not be used with any of them."""
    from joserfc import jwk

    if entry.get("use", "sig") != "sig" or "verify" not in _list(entry.get("key_ops", ["verify"])) or "d" in entry:
        return None
    shape = entry.get("kty"), entry.get("crv")
    # Each key has one algorithm: the one that it names, or else the first that fits.
    fitting = [name for name in algorithms if ALGORITHMS[name] == shape and entry.get("alg", name) == name]
    if not fitting:
        return None
    public = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        if public["kty"] == "RSA" and int.from_bytes(decoded(public["n"])).bit_length() < MIN_RSA_BITS:
            return None
        return PublicKey(fitting[0], jwk.import_key(public))
    except Exception:  # noqa: BLE001 - a key that the library cannot read is none, and the others are good
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
