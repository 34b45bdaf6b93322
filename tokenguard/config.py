"""The options, checked once. The same words everywhere: ``TOKENGUARD_<OPTION>`` in Flask and in the environment."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .clock import Clock, now
from .errors import ConfigurationError
from .guard import Guard
from .http import AuthScheme
from .issuer import Issuer
from .scopes import ScopeCatalog
from .store import Store
from .tokens import SigningKeys, TokenFormat
from .wsgi import RequestGuard

PREFIX = "TOKENGUARD_"
DEFAULT_DATABASE_URL = "sqlite:///tokenguard.db"

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Everything that can be set. Each is checked here or by the part that it is for, with a ConfigurationError."""

    #: Where clients, tokens and events are kept: an SQLAlchemy URL, or ``memory://`` for tests.
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)
    #: None where no token is issued or verified, as on a command line that only lists.
    signing_keys: SigningKeys | None = None
    catalog: ScopeCatalog = field(default_factory=ScopeCatalog)
    #: What every token's text begins with.
    prefix: str = "tg"
    scheme: AuthScheme = field(default_factory=AuthScheme)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Options:
        """From words without their prefix, as ``{"SIGNING_KEY": …}``. An unknown word is refused by name."""
        for word in given:
            if word not in _READERS:
                raise ConfigurationError(f"there is no option {PREFIX}{word}{_suggestion(word)}")
        values = {word: _READERS[word](value) for word, value in given.items() if value is not None}
        keys = _signing_keys(values.get("SIGNING_KEY"), values.get("OLD_SIGNING_KEYS", []))
        return cls(
            database_url=values.get("DATABASE_URL", DEFAULT_DATABASE_URL),
            signing_keys=keys,
            catalog=named("SCOPES", ScopeCatalog, values.get("SCOPES")),
            prefix=values.get("PREFIX", "tg"),
            scheme=_scheme(values.get("REALM", "api"), values.get("HEADERS", [])),
        )

    def token_format(self) -> TokenFormat:
        """What mints and reads this service's tokens; raises ConfigurationError without a signing key."""
        # A missing key is reported like a short one, with a fresh key to take.
        keys = self.signing_keys or named("SIGNING_KEY", SigningKeys, "")
        return named("PREFIX", TokenFormat, keys, self.prefix)

    def request_guard(self, store: Store, clock: Clock = now) -> RequestGuard:
        """The verifying side on ``store``."""
        return RequestGuard(Guard(store, self.token_format(), catalog=self.catalog, clock=clock), self.scheme)

    def issuer(self, store: Store, clock: Clock = now) -> Issuer:
        """The granting side on ``store``; without a signing key it can do everything but issue."""
        tokens = self.token_format() if self.signing_keys else None
        return Issuer(store, tokens, catalog=self.catalog, clock=clock)


def from_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The options that the environment sets. Other variables of the prefix are left alone: they may be anybody's."""
    return {word: environ[PREFIX + word] for word in _READERS if environ.get(PREFIX + word)}


def named(word: str, make: Callable[..., T], *args: Any) -> T:
    """``make(*args)``, naming the option that a ConfigurationError is about."""
    try:
        return make(*args)
    except ConfigurationError as error:
        raise ConfigurationError(f"{PREFIX}{word}: {error}") from None


def _text(word: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise ConfigurationError(f"{PREFIX}{word} is a text, not {type(value).__name__}")
        return value

    return read


def _words(word: str) -> Callable[[Any], list[str]]:
    def read(value: Any) -> list[str]:
        values = value.split() if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) for item in values):
            raise ConfigurationError(f"{PREFIX}{word} is a list of texts, or one text with spaces between them")
        return list(values)

    return read


def _scopes(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigurationError(f"{PREFIX}SCOPES is not JSON: {error}") from None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{PREFIX}SCOPES maps each scope to its description")
    return value


# Every option there is, and how its value is read.
_READERS: dict[str, Callable[[Any], Any]] = {
    "DATABASE_URL": _text("DATABASE_URL"),
    "SIGNING_KEY": _text("SIGNING_KEY"),
    "OLD_SIGNING_KEYS": _words("OLD_SIGNING_KEYS"),
    "SCOPES": _scopes,
    "PREFIX": _text("PREFIX"),
    "REALM": _text("REALM"),
    "HEADERS": _words("HEADERS"),
}


def _signing_keys(current: str | None, old: list[str]) -> SigningKeys | None:
    if current is None:
        if old:
            raise ConfigurationError(f"{PREFIX}OLD_SIGNING_KEYS is set, but {PREFIX}SIGNING_KEY is not")
        return None
    named("SIGNING_KEY", SigningKeys, current)
    return named("OLD_SIGNING_KEYS", lambda: SigningKeys(current, old=old))


def _scheme(realm: str, headers: list[str]) -> AuthScheme:
    named("REALM", AuthScheme, realm)
    return named("HEADERS", AuthScheme, realm, headers)


def _suggestion(word: str) -> str:
    close = difflib.get_close_matches(word, _READERS, n=1)
    return f"; did you mean {PREFIX}{close[0]}?" if close else f"; there are {', '.join(_READERS)}"
