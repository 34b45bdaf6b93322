"""Opaque tokens of other issuers: the issuer is asked what a token is worth (RFC 7662), and its answer kept briefly.

Such a text itself says nothing. So it is sent to only one issuer, chosen by the text's shape. Anything but a whole and
well-formed yes lets nobody in.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations, product
from urllib.parse import quote, urlencode

from ..clock import SECOND, monotonic
from ..errors import ConfigurationError, InvalidToken
from ..frames import clear_frames
from ..scopes import ScopeCatalog
from ..secret import MAX_CREDENTIAL_LENGTH, TOKEN68, Secret
from ..sources import ForeignToken, derived_id, read_hidden
from ..strict_json import read_members
from .asking import Asking, NoAnswer
from .claims import read_claims
from .https import CutShort, Received, Unreachable, checked_endpoint, exchange
from .trust import Trust, check_distinct, checked_number, checked_texts

#: Seconds for which a yes holds, by default and at most; and for which a no holds.
MAX_AGE, LONGEST_AGE, NEGATIVE_AGE = 30, 3600, 10
#: Seconds that an endpoint may take, by default and at most.
TIMEOUT, LONGEST_TIMEOUT = 3, 30
#: Requests that may wait for answers at a time, by default and at most.
CONCURRENCY, MOST_CONCURRENCY = 8, 1000
#: Characters that a token may have, by default.
LENGTH = 1024
#: How many secret characters nobody can guess.
SECRET_LENGTH = 24
#: Bytes that an answer may have.
MAX_BYTES = 32_768
#: By how many seconds an issuer's clock may be ahead.
LEEWAY = 60

_SHAPE = re.compile(TOKEN68, re.ASCII)
#: Posts a body to an endpoint with these headers; returns the status and the body of its answer, or raises Unreachable.
Post = Callable[[Mapping[str, str], bytes], tuple[int, bytes]]


class IntrospectedIssuer(Trust):
    """An issuer whose introspection endpoint is asked about its tokens, and what they stand for here.

    ``issuer`` is its identifier, a URL. The service authenticates at ``introspection_url`` with ``client_id`` and
    ``client_secret`` (HTTP Basic, RFC 6749 section 2.3.1), or with ``bearer_token``. Only texts that begin with
    ``prefix`` (any one of several) and have at most ``max_length`` characters are sent there. ``audience`` is how it
    names this service; without it, tokens for any audience are accepted. ``scopes`` are as in
    :class:`tokenguard.issuers.jwt.TrustedIssuer`. A yes holds for ``max_age`` seconds and never beyond the token's end,
    a no for ten at most. An answer may take ``timeout`` seconds, and ``concurrency`` requests may wait for one at a
    time. Raises ConfigurationError for a value that cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        introspection_url: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        bearer_token: str | None = None,
        audience: str | Sequence[str] | None = None,
        scopes: Mapping[str, str | Iterable[str]] | None = None,
        prefix: str | Sequence[str] = "",
        max_length: int = LENGTH,
        max_age: int = MAX_AGE,
        timeout: int = TIMEOUT,
        concurrency: int = CONCURRENCY,
    ) -> None:
        try:
            self.authorization = _authorization(client_id, client_secret, bearer_token)
        except BaseException as error:
            clear_frames(error)
            raise
        finally:
            del client_secret, bearer_token  # a later error's traceback must not hold them
        super().__init__(issuer, audience, scopes)
        self.introspection_url = checked_endpoint("the introspection_url", introspection_url, issuer)
        self.prefixes = ("",) if prefix == "" else checked_texts("the prefix", prefix)
        self.max_length = checked_number("the max_length", max_length, 1, MAX_CREDENTIAL_LENGTH, "characters")
        self.max_age = checked_number("the max_age", max_age, 0, LONGEST_AGE)
        self.timeout = checked_number("the timeout", timeout, 1, LONGEST_TIMEOUT)
        self.concurrency = checked_number("the concurrency", concurrency, 1, MOST_CONCURRENCY, "requests")

    def takes(self, text: str) -> bool:
        """Whether the text may be one of its tokens, by its shape."""
        return len(text) <= self.max_length and text.startswith(self.prefixes) and _SHAPE.fullmatch(text) is not None

    def without_prefix(self, text: str) -> str:
        """Return a text that it takes without its longest prefix, or the text itself if nothing is left."""
        longest = max((prefix for prefix in self.prefixes if text.startswith(prefix)), key=len)
        return text[len(longest) :] or text


class IntrospectionSource:
    """The opaque tokens of these issuers; the prefix of a text decides its issuer, so none may begin with another's.

    ``post`` and ``monotonic`` are for tests. Makes no connection until a token comes. Raises ConfigurationError for an
    issuer that is named twice, or for two issuers that a text could be of.
    """

    def __init__(
        self,
        issuers: Sequence[IntrospectedIssuer],
        *,
        post: Post | None = None,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        check_distinct(issuers)
        for one, other in combinations(issuers, 2):
            if any(a.startswith(b) or b.startswith(a) for a, b in product(one.prefixes, other.prefixes)):
                raise ConfigurationError(
                    f"a token could belong to {one.issuer} or to {other.issuer}, and must not be sent to both: give "
                    "each its own prefix"
                )
        self._endpoints = [_Endpoint(trusted, post, monotonic) for trusted in issuers]

    def check(self, catalog: ScopeCatalog) -> None:
        """See :class:`tokenguard.sources.Source`."""
        for endpoint in self._endpoints:
            endpoint.trusted.check(catalog)

    def takes(self, text: str) -> bool:
        """See :class:`tokenguard.sources.Source`: whether the text has the shape of one of the issuers' tokens."""
        return any(endpoint.trusted.takes(text) for endpoint in self._endpoints)

    def verify(self, credential: Secret, at: int, catalog: ScopeCatalog) -> ForeignToken:
        """See :class:`tokenguard.sources.Source`."""
        return read_hidden(self._read, credential, at, catalog)

    def _read(self, text: str, at: int, catalog: ScopeCatalog) -> ForeignToken:
        for endpoint in self._endpoints:
            if endpoint.trusted.takes(text):
                return endpoint.find(text, at, catalog)
        raise InvalidToken("not of a trusted issuer")


class _Endpoint:
    """The introspection endpoint of one issuer."""

    def __init__(self, trusted: IntrospectedIssuer, post: Post | None, monotonic: Callable[[], float]) -> None:
        self.trusted = trusted
        self._post = post or self._exchange
        self._asking = Asking(
            self._ask,
            f"the introspection endpoint of {trusted.issuer} cannot be used",
            max_age=trusted.max_age,
            negative_age=min(trusted.max_age, NEGATIVE_AGE),
            patience=trusted.timeout,
            concurrency=trusted.concurrency,
            monotonic=monotonic,
        )

    def find(self, text: str, at: int, catalog: ScopeCatalog) -> ForeignToken:
        claims, asked_at = self._asking.answer(text, at)
        if claims is None:
            raise InvalidToken("its issuer says that it is not active")
        if claims.get("iss", self.trusted.issuer) != self.trusted.issuer:
            raise InvalidToken("of another issuer")

        def made_of_it(_: object) -> str:
            return derived_id("text", self.trusted.issuer, text)

        token = read_claims(claims, self.trusted, at, catalog, otherwise=made_of_it, leeway=LEEWAY * SECOND)
        if at >= token.expires_at:  # by our clock, whatever its issuer's says
            raise InvalidToken("expired", **token.whose)
        ask_again_at = asked_at + self.trusted.max_age * SECOND
        return token._replace(expires_at=min(token.expires_at, ask_again_at), refused_at=token.expires_at)

    def _ask(self, text: str) -> Mapping[str, object] | None:
        headers = {
            "Authorization": self.trusted.authorization.reveal(),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        form = urlencode({"token": text, "token_type_hint": "access_token"})
        status, body = self._post(headers, form.encode())
        if status == 429:  # it needs a rest
            raise Unreachable(f"it answers with status {status}")
        if status in (401, 403):
            raise NoAnswer(f"it does not accept the credentials of this service (status {status})")
        if status != 200:
            raise NoAnswer(f"it answers with status {status}")
        try:
            found = read_members(body)
        except ValueError:
            raise NoAnswer("it answers with something other than a JSON object") from None
        # Only a boolean counts, not whatever else some language takes for true.
        if not isinstance(found.get("active"), bool):
            raise NoAnswer('it answers without a boolean "active"')
        if not found["active"]:
            return None
        # The answer is kept, and ids are logged and recorded: none of these may contain the text.
        if _repeats(jti := found.get("jti"), text) or _gives_away(jti, self.trusted.without_prefix(text)):
            del found["jti"]
        return {name: None if _repeats(value, text) else value for name, value in found.items()}

    def _exchange(self, headers: Mapping[str, str], body: bytes) -> Received:
        trusted = self.trusted
        try:
            return exchange(
                trusted.introspection_url,
                headers,
                body,
                timeout=trusted.timeout,
                deadline=trusted.timeout,
                max_bytes=MAX_BYTES,
                context=self._context if trusted.introspection_url.startswith("https:") else None,
            )
        except CutShort as error:  # this text alone may be the cause, and other tokens get answers
            raise NoAnswer(str(error)) from None

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # reading all the certificates takes longer than most answers


def _repeats(value: object, text: str) -> bool:
    if isinstance(value, dict | list):
        return any(_repeats(each, text) for each in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and text in value


def _gives_away(jti: object, secret: str) -> bool:
    """Whether the id contains the secret of a text, or so much of it that the rest could be guessed."""
    if not isinstance(jti, str) or not jti:
        return False
    # The ids of a service with tokenguard are part of the text too, but the rest is long enough.
    return secret in jti or (jti in secret and len(secret) - len(jti) < SECRET_LENGTH)


def _authorization(client_id: str | None, client_secret: str | None, bearer_token: str | None) -> Secret:
    """Return the value of the Authorization header."""
    if bearer_token is not None:
        if client_id is not None or client_secret is not None:
            raise ConfigurationError(
                "an issuer must have either a client_id and client_secret, or a bearer_token, not both"
            )
        if not isinstance(bearer_token, str) or not _SHAPE.fullmatch(bearer_token):
            raise ConfigurationError("the bearer_token is invalid: it is empty, or has characters that no token has")
        return Secret(f"Bearer {bearer_token}", "credential")
    for name, given in (("client_id", client_id), ("client_secret", client_secret)):
        if not isinstance(given, str) or not given:
            raise ConfigurationError(
                f"the {name} is required: introspection needs a client_id and client_secret, or a bearer_token"
            )
        if not given.isprintable():  # such as the line break at the end of a file, or half a surrogate pair
            raise ConfigurationError(f"the {name} has an unprintable character, such as a line break")
    # A space as %20, which all servers know, not as a plus sign, which some take literally.
    encoded = ":".join(quote(part or "", safe="") for part in (client_id, client_secret))
    return Secret(f"Basic {b64encode(encoded.encode()).decode()}", "credential")
