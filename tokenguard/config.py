"""The options, checked once. They have the same names in Flask and in the environment: ``TOKENGUARD_<OPTION>``."""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .cache import CACHE_SIZE, STALENESS, TokenCache
from .clock import Clock, check_duration, now, parse_duration
from .conditions import Limiter
from .errors import ConfigurationError, InvalidValue
from .frames import clear_frames
from .guard import Guard
from .hooks import Hooks
from .http import AuthScheme
from .issuer import Issuer
from .issuers import AnyIssuer, read_issuer, sources_of
from .policy import Policy
from .request import RequestGuard
from .resource import ProtectedResource
from .scopes import ScopeCatalog
from .signing import MIN_KEY_BYTES, SigningKeys, derive_development_key
from .sources import Source
from .store import Store
from .tokens import TokenFormat
from .usage import UsageLog

PREFIX = "TOKENGUARD_"
POLICY_RULES = [rule.name for rule in fields(Policy)]
DEFAULT_DATABASE_URL = "sqlite:///tokenguard.db"
#: In seconds: no sensible service lets a revoked token work for longer than this.
LONGEST_STALENESS = 86_400

#: The options whose value is used as it was read.
_TAKEN_AS_READ = (
    *("DATABASE_URL", "READ_URL", "PREFIX", "PUSH_URL", "RATE_LIMIT_URL", "RATE_LIMIT_FAIL_OPEN"),
    *("STALENESS", "STALE_GRACE", "CACHE_SIZE"),
)

T = TypeVar("T")
log = logging.getLogger("tokenguard")


@dataclass(frozen=True)
class Options:
    """All options. Each is checked here or by the part that it is for, which raises a ConfigurationError."""

    #: Where clients, tokens and events are kept: an SQLAlchemy URL, or ``memory://`` for tests.
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)
    #: A read replica of a PostgreSQL database, where tokens are looked up first; an SQLAlchemy URL.
    read_url: str | None = field(default=None, repr=False)
    #: None where no token is issued or verified, as on a command line that only lists.
    signing_keys: SigningKeys | None = None
    catalog: ScopeCatalog = field(default_factory=ScopeCatalog)
    #: What every token's text begins with.
    prefix: str = "tg"
    scheme: AuthScheme = field(default_factory=AuthScheme)
    #: The rules for issuing.
    policy: Policy = field(default_factory=Policy)
    #: Where requests with a rate are counted: ``memory://``, or ``redis://host:6379`` for a fleet.
    rate_limit_url: str = field(default="memory://", repr=False)
    #: Whether requests are let through when the counts cannot be reached.
    rate_limit_fail_open: bool = True
    #: Seconds within which a process knows of a revocation made elsewhere; 0 to ask for every request.
    staleness: float = STALENESS
    #: Seconds beyond that for which cached tokens go on working while the store cannot be read.
    stale_grace: float = 0.0
    #: How many tokens a process remembers.
    cache_size: int = CACHE_SIZE
    #: Other issuers whose access tokens are accepted, beside the service's own.
    issuers: Sequence[AnyIssuer] = ()
    #: The Redis over which other processes are told of changes at once; without it they are not.
    push_url: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Options:
        """Read options given without their prefix, as ``{"SIGNING_KEY": …}``. An unknown one is refused by name."""
        try:
            return cls._read(given)
        except BaseException as error:
            clear_frames(error)  # the error about an option must not take the signing key along
            del given
            raise

    @classmethod
    def _read(cls, given: Mapping[str, Any]) -> Options:
        for word in given:
            if word not in _READERS:
                raise ConfigurationError(f"unknown option {PREFIX}{word}{_suggestion(word)}")
        values = {word: _READERS[word](word, value) for word, value in given.items() if value is not None}
        keys = _signing_keys(values.get("SIGNING_KEY"), values.get("OLD_SIGNING_KEYS", []))
        catalog = named("SCOPES", ScopeCatalog, values.get("SCOPES"))
        own = values.get("PREFIX", cls.prefix)
        issuers = [named("ISSUERS", read_issuer, members, catalog, own) for members in values.get("ISSUERS", [])]
        return cls(
            signing_keys=keys,
            catalog=catalog,
            scheme=_scheme(values, catalog),
            policy=_policy(values),
            issuers=tuple(issuers),
            **{word.lower(): values[word] for word in _TAKEN_AS_READ if word in values},
        )

    def token_format(self) -> TokenFormat:
        """Return what mints and reads this service's tokens; raises ConfigurationError without a signing key."""
        # A missing key is reported like a short one, with a fresh key to use instead.
        keys = self.signing_keys or named("SIGNING_KEY", SigningKeys, "")
        return named("PREFIX", TokenFormat, keys, self.prefix)

    def sources(self) -> list[Source]:
        """Return the sources of other issuers' tokens; raises ConfigurationError if a package is missing for one."""
        return named("ISSUERS", sources_of, self.issuers)

    def request_guard(
        self, store: Store, *, limiter: Limiter | None = None, hooks: Hooks | None = None, clock: Clock = now
    ) -> RequestGuard:
        """Build the verifying side on ``store``."""
        guard = Guard(
            store,
            self.token_format(),
            catalog=self.catalog,
            clock=clock,
            limiter=limiter,
            usage=UsageLog(store, clock=clock),
            cache=TokenCache(store, staleness=self.staleness, stale_grace=self.stale_grace, size=self.cache_size),
            sources=self.sources(),
        )
        return RequestGuard(guard, self.scheme, hooks=hooks)

    def issuer(self, store: Store, *, hooks: Hooks | None = None, clock: Clock = now) -> Issuer:
        """Build the granting side on ``store``; without a signing key it can do everything but issue."""
        tokens = self.token_format() if self.signing_keys else None
        return Issuer(store, tokens, catalog=self.catalog, policy=self.policy, hooks=hooks, clock=clock)


def from_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the options that the environment sets. Any other with the prefix is ignored: it may be anybody's."""
    return {word: environ[PREFIX + word] for word in _READERS if environ.get(PREFIX + word)}


def development_keys(secret_key: str | bytes, fallbacks: Sequence[str | bytes]) -> dict[str, Any]:
    """Return options to sign with a framework's own SECRET_KEY: for use only while it runs in debug or testing."""
    log.warning(
        "%sSIGNING_KEY is not set: while debugging or testing, tokens are signed with a key made from SECRET_KEY",
        PREFIX,
    )
    if not isinstance(fallbacks, (list, tuple)):
        raise ConfigurationError("SECRET_KEY_FALLBACKS must be a list of keys")
    return {
        "SIGNING_KEY": derive_development_key(secret_key),
        "OLD_SIGNING_KEYS": [derive_development_key(key) for key in fallbacks],
    }


def named(word: str, make: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Return ``make(*args, **kwargs)``; a ConfigurationError is raised with the name of the option it is about."""
    try:
        return make(*args, **kwargs)
    except ConfigurationError as error:
        raise ConfigurationError(f"{PREFIX}{word}: {error}") from None


def _text(word: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{PREFIX}{word} must be a string, not {type(value).__name__}")
    return value


def _words(word: str, value: Any) -> list[str]:
    values = value.split() if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) for item in values):
        raise ConfigurationError(
            f"{PREFIX}{word} must be a list of strings, or one string with spaces between the items"
        )
    return list(values)


def _keys(word: str, value: Any) -> list[str]:
    keys = _words(word, value)
    if isinstance(value, str) and any(map(_is_of_another_list, keys)):
        raise ConfigurationError(f"{PREFIX}{word} must be one string with only spaces between the keys")
    return keys


def _is_of_another_list(key: str) -> bool:
    # A key may contain commas, but hardly at an end, or such that every part between them is long enough for a key.
    return key != key.strip(",[]'\"") or ("," in key and min(map(len, key.split(","))) >= MIN_KEY_BYTES)


def _json(word: str, value: Any, like: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{PREFIX}{word} is not valid JSON, such as {like}: {error}") from None


def _mappings(word: str, value: Any) -> list[dict[str, Any]]:
    value = _json(word, value, '[{"issuer": "https://login.example.com", "audience": "api"}]')
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise ConfigurationError(f"{PREFIX}{word} must be a list of mappings, one for each issuer")
    return [dict(item) for item in value]


def _scopes(word: str, value: Any) -> Any:
    value = _json(word, value, '{"users:read": "Read users"}')
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{PREFIX}{word} must map each scope to its description")
    return value


def _number(word: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{PREFIX}{word} must be an integer, not {value!r}")
    return value


def _count(word: str, value: Any) -> int:
    number = _number(word, value)
    if number < 0:
        raise ConfigurationError(f"{PREFIX}{word} must be 0 or more, not {number}")
    return number


def _seconds(word: str, value: Any) -> float:
    try:
        seconds = float(value) if isinstance(value, str) else value
    except ValueError:
        seconds = None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= LONGEST_STALENESS:
        raise ConfigurationError(
            f"{PREFIX}{word} must be a number of seconds from 0 to {LONGEST_STALENESS}, such as 0.5, not {value!r}"
        )
    return float(seconds)


def _flag(word: str, value: Any) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    found = value if isinstance(value, bool) else known.get(str(value).lower())
    if found is None:
        raise ConfigurationError(f"{PREFIX}{word} must be true or false, not {value!r}")
    return found


def _duration(word: str, value: Any) -> int:
    try:
        return parse_duration(value) if isinstance(value, str) else check_duration(value)
    except InvalidValue as error:
        raise ConfigurationError(f"{PREFIX}{word}: {error}") from None


# All options, and how the value of each is read.
_READERS: dict[str, Callable[[str, Any], Any]] = {
    "DATABASE_URL": _text,
    "READ_URL": _text,
    "SIGNING_KEY": _text,
    "OLD_SIGNING_KEYS": _keys,
    "SCOPES": _scopes,
    "ISSUERS": _mappings,
    "PREFIX": _text,
    "REALM": _text,
    "HEADERS": _words,
    "PROXIES": _number,
    "RATE_HEADERS": _text,
    "ERROR_FORM": _text,
    "RATE_LIMIT_URL": _text,
    "RATE_LIMIT_FAIL_OPEN": _flag,
    "STALENESS": _seconds,
    "STALE_GRACE": _seconds,
    "CACHE_SIZE": _count,
    "PUSH_URL": _text,
    "MAX_LIFETIME": _duration,
    "REQUIRE_EXPIRY": _flag,
    "MAX_ACTIVE_TOKENS": _number,
    "IDLE_TIMEOUT": _duration,
    "REQUIRE_NAME": _flag,
    "RESOURCE": _text,
    "RESOURCE_DOCUMENTATION": _text,
    "AUTHORIZATION_SERVERS": _words,
    "ADVERTISE_SCOPES": _flag,
}


#: The names of all options.
WORDS = tuple(_READERS)


def _signing_keys(current: str | None, old: list[str]) -> SigningKeys | None:
    if current is None:
        if old:
            raise ConfigurationError(f"{PREFIX}OLD_SIGNING_KEYS is set, but {PREFIX}SIGNING_KEY is not")
        return None
    named("SIGNING_KEY", SigningKeys, current)
    return named("OLD_SIGNING_KEYS", lambda: SigningKeys(current, old=old))


def _scheme(values: Mapping[str, Any], catalog: ScopeCatalog) -> AuthScheme:
    asked = {"proxies": "PROXIES", "rate_headers": "RATE_HEADERS", "error_form": "ERROR_FORM"}
    given: dict[str, Any] = {name: values[word] for name, word in asked.items() if word in values}
    realm = values.get("REALM", "api")
    # One after the other, so that an error names the option that it is about.
    named("REALM", AuthScheme, realm)
    for name, value in given.items():
        named(asked[name], AuthScheme, **{name: value})
    given["resource"] = _resource(values, realm, catalog if values.get("ADVERTISE_SCOPES", True) else ())
    return named("HEADERS", AuthScheme, realm, values.get("HEADERS", []), **given)


def _resource(values: Mapping[str, Any], name: str, scopes: Iterable[str]) -> ProtectedResource | None:
    # The options that go with it are checked even without RESOURCE.
    url, servers = values.get("RESOURCE", "https://localhost"), values.get("AUTHORIZATION_SERVERS")
    if servers is None:
        servers = [members["issuer"] for members in values.get("ISSUERS", [])]
    page = values.get("RESOURCE_DOCUMENTATION", "")
    named("RESOURCE", ProtectedResource, url)
    named("AUTHORIZATION_SERVERS", lambda: ProtectedResource(url, authorization_servers=servers))
    resource = named(
        "RESOURCE_DOCUMENTATION",
        lambda: ProtectedResource(url, scopes=scopes, authorization_servers=servers, name=name, documentation=page),
    )
    return resource if "RESOURCE" in values else None


def _policy(values: Mapping[str, Any]) -> Policy:
    rules = {rule: values[rule.upper()] for rule in POLICY_RULES if rule.upper() in values}
    for rule, value in rules.items():
        named(rule.upper(), Policy, **{rule: value})
    return Policy(**rules)


def _suggestion(word: str) -> str:
    # People may write an option as they know it from the environment, or from other settings.
    meant = word.upper().removeprefix(PREFIX)
    close = [meant] if meant in _READERS else difflib.get_close_matches(meant, _READERS, n=1)
    return f"; did you mean {PREFIX}{close[0]}?" if close else f"; the options are {', '.join(_READERS)}"
