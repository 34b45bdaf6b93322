"""The HTTP side: the one credential in a WSGI environ, and our own answers as (status, headers, body).

The header and the challenge follow RFC 6750, the syntax of headers RFC 9110; ``error_forms.py`` makes the bodies.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from collections.abc import Mapping, MutableMapping, Sequence
from types import CellType
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from .conditions import Allowance, without_port
from .error_forms import FORMS
from .errors import (
    AuthError,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
    MissingToken,
    RateLimited,
    TemporarilyUnavailable,
)
from .okta import ApiError
from .resource import ProtectedResource
from .secret import MAX_CREDENTIAL_LENGTH, TOKEN68, Secret

#: For how many combinations of an answer's own caching headers the result is remembered.
MAX_KNOWN_MARKS = 100
#: Seconds for which anybody may cache the resource's metadata.
METADATA_AGE = 3600

_BARE = re.compile(rf"({TOKEN68})", re.ASCII)
# At least one space after Bearer. Okta's clients send SSWS both with and without it, and no other scheme starts so.
_AUTHORIZATION = re.compile(rf"(?:bearer +|ssws *)({TOKEN68})", re.ASCII | re.IGNORECASE)
_BASIC = re.compile(rf"basic +({TOKEN68})", re.ASCII | re.IGNORECASE)
# Anywhere in the header: servers join two of one name with a comma, and a second credential must not go unnoticed.
_OUR_SCHEME = re.compile(r"(?:^|,)[ \t]*(?:bearer(?:[ ,]|\Z)|ssws)", re.ASCII | re.IGNORECASE)
# RFC 6750 section 2.3 allows a token in the query, RFC 9700 forbids it. So it is never read, only noticed, however the
# parameter's name is encoded, and in either case.
_ENCODED = "".join(f"(?:{letter}|%{ord(letter):02x}|%{ord(letter.upper()):02x})" for letter in "access_token")
_IN_QUERY = re.compile(rf"(?:^|&){_ENCODED}(?:[=&]|\Z)", re.ASCII | re.IGNORECASE)
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+", re.ASCII)  # no "_": servers drop or confuse it
_REALM = re.compile(r"[ !#-\[\]-~]{1,100}", re.ASCII)
_RATE_HEADERS = ("none", "draft", "okta")
#: PEP 3333 wants every answer that could have a body to name its content type.
EMPTY_TYPE = ("Content-Type", "text/plain; charset=utf-8")
_METADATA_METHODS = "GET, HEAD, OPTIONS"
_ANY_ORIGIN = ("Access-Control-Allow-Origin", "*")
_OPTIONS = [
    ("Allow", _METADATA_METHODS),
    _ANY_ORIGIN,
    ("Access-Control-Allow-Methods", _METADATA_METHODS),
    ("Access-Control-Allow-Headers", "*"),
]
_NOT_FOR_TOKENS = {"authorization", "proxy-authorization", "cookie", "content-type", "content-length", "host"}


class Answer(NamedTuple):
    """An answer in WSGI's own terms, for any framework to send."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class AuthScheme:
    """How this service's callers send their token, and how it answers those it refuses.

    ``realm`` is named in challenges. ``headers`` are further header names that may carry a bare token, such as
    ``X-API-Key``. ``proxies`` is the number of trusted proxies in front of the service, each of which adds the address
    that it sees to ``X-Forwarded-For``. ``error_form`` is how refusals are worded: ``problem`` (RFC 9457) or ``okta``.
    ``rate_headers`` is ``none``, ``draft`` (the IETF's RateLimit fields) or ``okta``; the last is the default with that
    error form. ``resource`` describes the service; challenges then point to its metadata. Raises ConfigurationError
    for a value that cannot be used.
    """

    def __init__(
        self,
        realm: str = "api",
        headers: Sequence[str] = (),
        *,
        proxies: int = 0,
        rate_headers: str | None = None,
        error_form: str = "problem",
        resource: ProtectedResource | None = None,
    ) -> None:
        if not isinstance(realm, str) or not _REALM.fullmatch(realm):
            raise ConfigurationError(f"the realm must be printable ASCII without quotes and backslashes, not {realm!r}")
        if isinstance(headers, str):
            raise ConfigurationError(f"the headers must be a list of header names: write [{headers!r}]")
        if isinstance(proxies, bool) or not isinstance(proxies, int) or not 0 <= proxies <= 20:
            raise ConfigurationError(f"the number of proxies must be between 0 and 20, not {proxies!r}")
        if error_form not in FORMS:
            raise ConfigurationError(f"the error form must be one of {', '.join(FORMS)}, not {error_form!r}")
        if rate_headers is not None and rate_headers not in _RATE_HEADERS:
            raise ConfigurationError(
                f"the rate headers must be one of {', '.join(_RATE_HEADERS)}, not {rate_headers!r}"
            )
        if resource is not None and not isinstance(resource, ProtectedResource):
            raise ConfigurationError(f"the resource must be a ProtectedResource, not {resource!r}")
        self.realm = realm
        self.proxies = proxies
        self.form = FORMS[error_form]
        self.rate_headers = self.form.rate_headers if rate_headers is None else rate_headers
        self.resource = resource
        #: The environ's keys for ``headers``.
        self.further = tuple(dict.fromkeys(_environ_key(name) for name in headers))
        #: The headers of a request that the answer depends on, for Vary.
        self.vary = ("Authorization", *headers)
        self._known_marks: dict[tuple[str | None, str], list[tuple[str, str]]] = {}
        self._refusals: dict[type[AuthError], Answer] = {}
        #: The :meth:`marks` of most answers, which have neither header.
        self.plain_marks = [("Cache-Control", "private"), ("Vary", ", ".join(self.vary))]

    def credential(self, environ: Mapping[str, Any]) -> Secret:
        """Return the one credential.

        Raises MissingToken if there is none, and InvalidRequest if it is malformed or not the only one.
        """
        found = [_matched(_BARE, environ[key]) for key in self.further if environ.get(key)]
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if _OUR_SCHEME.search(authorization):
            found.append(_matched(_AUTHORIZATION, authorization))
        if not found:
            raise MissingToken("Authorization has another scheme than Bearer, or none" if authorization else "")
        if len(found) > 1 or self.is_sent_in(environ.get("QUERY_STRING", "")):
            raise InvalidRequest("more than one credential")
        return found[0]

    def is_sent_in(self, query: str) -> bool:
        """Whether a token is sent in this query, where it must not be."""
        return _IN_QUERY.search(query) is not None

    def presented(self, environ: Mapping[str, Any]) -> CellType:
        """Return all that :meth:`credential` reads, in a cell that hides it. Equal cells give equal credentials."""
        found = (environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING"))
        return CellType((*found, *[environ.get(key) for key in self.further]) if self.further else found)

    def reads_as(self, other: AuthScheme) -> bool:
        """Whether both find the same credential in a request, and the same address."""
        return (self.further, self.proxies) == (other.further, other.proxies)

    def address(self, environ: Mapping[str, Any]) -> str | None:
        """Return where the request comes from, by Werkzeug's ProxyFix rules: hops are counted from the right."""
        if not self.proxies:
            return environ.get("REMOTE_ADDR")
        # Split at every comma: from a parser of quoted text, a quote sent by the client could hide the proxies' hops.
        hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        trusted = hops[-self.proxies :]
        return without_port(trusted[0]) if len(trusted) == self.proxies and all(trusted) else None

    def rate_fields(self, allowance: Allowance) -> list[tuple[str, str]]:
        """Return the headers that report what is left of a rate, in the form that was chosen."""
        if self.rate_headers == "none":
            return []
        if self.rate_headers == "okta":
            return _okta_fields(allowance)
        rate, left = allowance.rate, max(0, allowance.remaining)
        return [
            ("RateLimit-Policy", f'"tokenguard";q={rate.count};w={rate.seconds}'),
            ("RateLimit", f'"tokenguard";r={left};t={allowance.reset}'),
        ]

    def refusal(self, error: AuthError) -> Answer:
        """Return the answer to a refused request: the challenge, no caching, and a body in the form chosen."""
        if (known := self._refusals.get(type(error))) is not None:
            return Answer(known.status, known.headers.copy(), self.form.again(known.body, error))
        made = self._worded(error, self.refusal_headers(error))
        # The answer is the same for every error of this type without a detail of its own, unless it names a time.
        if "detail" not in vars(error) and not (self.form.tells_reset and isinstance(error, TemporarilyUnavailable)):
            self._refusals[type(error)] = Answer(made.status, made.headers.copy(), made.body)
        return made

    def report(self, error: ApiError) -> Answer:
        """Return the answer to a request whose token is good, but that cannot be done for another reason."""
        return self._worded(error, [("Cache-Control", "no-store"), *error.headers.items()])

    def _worded(self, error: AuthError | ApiError, headers: list[tuple[str, str]]) -> Answer:
        body = self.form.body(error)
        about = [("Content-Type", self.form.content_type), ("Content-Length", str(len(body)))]
        return Answer(error.status, about + headers, body)

    def refusal_headers(self, error: AuthError) -> list[tuple[str, str]]:
        """Return the headers that this refusal must carry, however an application words its body."""
        if (known := self._refusals.get(type(error))) is not None:
            return known.headers[2:]
        headers = [("Cache-Control", "no-store"), ("Vary", ", ".join(self.vary))]
        if isinstance(error, (RateLimited, TemporarilyUnavailable)):
            headers.append(("Retry-After", str(error.retry_after)))
            headers += self._reset_fields(error)
        if error.status in {400, 401, 403}:
            headers.append(("WWW-Authenticate", self.challenge(error)))
        return headers

    def refusal_headers_beside(self, error: AuthError, vary: str) -> list[tuple[str, str]]:
        """Return the same headers, combined with an answer's own ``vary`` (comma-separated)."""
        refusal = [field for field in self.refusal_headers(error) if field[0] != "Vary"]
        return refusal + self.marks("no-store", vary)

    def _reset_fields(self, error: RateLimited | TemporarilyUnavailable) -> list[tuple[str, str]]:
        """Return when to try again, for clients that ignore Retry-After: Okta's SDKs need ``X-Rate-Limit-Reset``."""
        fields = self.rate_fields(error.allowance) if isinstance(error, RateLimited) else []
        if not self.form.tells_reset or (fields and self.rate_headers == "okta"):
            return fields
        if isinstance(error, RateLimited):
            return fields + _okta_fields(error.allowance)
        return [("X-Rate-Limit-Reset", _epoch(error.retry_after))]

    def challenge(self, error: AuthError) -> str:
        """Return the Bearer challenge of RFC 6750 section 3. It repeats nothing that the caller sent."""
        parameters = [f'realm="{self.realm}"']
        if error.bearer_error:
            parameters.append(f'error="{error.bearer_error}"')
        if isinstance(error, InsufficientScope):
            parameters.append(f'scope="{" ".join(error.scopes)}"')
        if self.resource is not None:
            parameters.append(f'resource_metadata="{self.resource.metadata_url}"')
        return "Bearer " + ", ".join(parameters)

    def metadata(self, environ: Mapping[str, Any]) -> Answer | None:
        """Return the answer to a request for the resource's metadata (RFC 9728), open to all; None for another request.

        Pages of other origins may read it, as their scripts are clients too.
        """
        resource = self.resource
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if resource is None or path != resource.metadata_path:
            return None
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return Answer(204, _OPTIONS.copy(), b"")
        if method not in ("GET", "HEAD"):
            return Answer(405, [EMPTY_TYPE, ("Content-Length", "0"), ("Allow", _METADATA_METHODS)], b"")
        body = json.dumps(resource.metadata).encode("ascii")
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", f"public, max-age={METADATA_AGE}"),
            _ANY_ORIGIN,
        ]
        return Answer(200, headers, body if method == "GET" else b"")

    def marks(self, cache_control: str | None, vary: str) -> list[tuple[str, str]]:
        """Return the headers that tell caches that an answer depended on the credential, given its own.

        A view's own ``cache_control`` stays; ``vary`` is what it already names, comma-separated.
        """
        if not (cache_control or vary):
            return self.plain_marks
        if (known := self._known_marks.get((cache_control, vary))) is not None:
            return known
        marks = [] if cache_control else [("Cache-Control", "private")]
        present = [name.strip() for name in vary.split(",") if name.strip()]
        named = {name.lower() for name in present}
        if "*" not in named:
            marks.append(("Vary", ", ".join(present + [name for name in self.vary if name.lower() not in named])))
        if len(self._known_marks) < MAX_KNOWN_MARKS:
            self._known_marks[cache_control, vary] = marks
        return marks


def basic_to_bearer(environ: MutableMapping[str, Any]) -> str | None:
    """Put the password of HTTP Basic into the environ as a Bearer token; return the user name, None without Basic.

    Both are form-urlencoded (RFC 6749 section 2.3.1). Credentials that cannot be read become a malformed token.
    """
    if (match := _BASIC.fullmatch(environ.get("HTTP_AUTHORIZATION", "").strip(" \t"))) is None:
        return None
    try:
        user, _, password = b64decode(match[1], validate=True).decode().partition(":")
    except ValueError:
        user = password = ""
    environ["HTTP_AUTHORIZATION"] = f"Bearer {unquote_plus(password)}"
    return unquote_plus(user)


def is_for_others(challenge: str) -> bool:
    """Whether a challenge is for other schemes only."""
    return _OUR_SCHEME.search(challenge) is None


def is_preflight(environ: Mapping[str, Any]) -> bool:
    """Whether this is a CORS preflight: browsers send it without any credential, so none can be required."""
    return (
        environ.get("REQUEST_METHOD") == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    )


def _matched(pattern: re.Pattern[str], value: str) -> Secret:
    # WSGI hands over latin-1 text; two headers of one name arrive joined by a comma, which no token contains.
    if len(value) <= MAX_CREDENTIAL_LENGTH and (match := pattern.fullmatch(value.strip(" \t"))):
        return Secret(match[1], "credential")
    raise InvalidRequest("malformed credential")


def _okta_fields(allowance: Allowance) -> list[tuple[str, str]]:
    return [
        ("X-Rate-Limit-Limit", str(allowance.rate.count)),
        ("X-Rate-Limit-Remaining", str(max(0, allowance.remaining))),
        ("X-Rate-Limit-Reset", _epoch(allowance.reset)),
    ]


def _epoch(seconds: int) -> str:
    """Return the time ``seconds`` from now, in seconds since the epoch."""
    return str(int(time.time()) + seconds)


def _environ_key(name: str) -> str:
    if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name) or name.lower() in _NOT_FOR_TOKENS:
        raise ConfigurationError(f"{name!r} cannot be used as a header for tokens: use a name such as X-API-Key")
    return "HTTP_" + name.upper().replace("-", "_")
