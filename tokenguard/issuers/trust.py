"""The issuers that a service trusts, and with what: the part that all kinds of issuers have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import Parameter, signature
from typing import Any, Self

from ..errors import ConfigurationError, InvalidValue
from ..scopes import ScopeCatalog, Scopes
from ..urls import checked_url

#: The most characters of an issuer that are stored.
MAX_ISSUER_LENGTH = 255


class Trust:
    """An issuer's URL, its names for this service (any one is enough), and what its scopes stand for here.

    ``audience`` is None if tokens need not name the service. ``scopes`` is None if those that the catalogue has stand
    for themselves. Raises ConfigurationError for a value that cannot be used.
    """

    #: A default for the repr, as a page about an error in the constructor may show an object that has none yet.
    issuer: str = "(none yet)"
    #: The claims that name the scopes, if these are not those of Okta and RFC 9068.
    scope_claims: tuple[str, ...] = ()

    def __init__(
        self, issuer: str, audience: str | Sequence[str] | None, scopes: Mapping[str, str | Iterable[str]] | None
    ) -> None:
        self.issuer = _checked_issuer(issuer)
        self.audiences = frozenset(() if audience is None else checked_texts("the audience", audience))
        self.scopes = None if scopes is None else _checked_scopes(scopes)

    @classmethod
    def read(cls, members: Mapping[str, Any], catalog: ScopeCatalog) -> Self:
        """Read an issuer from a mapping of the constructor's arguments, and check it against the service's catalogue.

        Raises as the constructor does.
        """
        words = signature(cls).parameters
        if strange := [name for name in members if name not in words]:
            raise ConfigurationError(f"unknown option {strange[0]!r} of an issuer; the options are {', '.join(words)}")
        needed = [name for name, word in words.items() if word.default is Parameter.empty]
        if missing := [name for name in needed if name not in members]:
            raise ConfigurationError(f"an issuer requires its {missing[0]}")
        trusted = cls(**members)
        trusted.check(catalog)
        return trusted

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.issuer}>"

    def check(self, catalog: ScopeCatalog) -> None:
        """Raise ConfigurationError if it could grant a scope that ``catalog`` does not have, or any scope at all."""
        if self.scopes is None and not len(catalog):
            raise ConfigurationError(
                f"the scopes of the issuer {self.issuer} have no meaning here: declare the service's SCOPES, or "
                "map its scopes"
            )
        for own in (self.scopes or {}).values():
            if unknown := catalog.unknown(own):
                raise ConfigurationError(f"{self.issuer}: a scope maps to {unknown[0]!r}, which is not in SCOPES")

    def own_scopes(self, names: str | tuple[str, ...], catalog: ScopeCatalog) -> Scopes:
        """Return what the issuer's scopes of these names stand for in this service; a text has spaces between them."""
        return _own_scopes(self, names, catalog)


def check_distinct(issuers: Iterable[Trust]) -> None:
    """Raise ConfigurationError for an issuer that is there twice."""
    known = set()
    for trusted in issuers:
        if trusted.issuer in known:
            raise ConfigurationError(f"duplicate issuer {trusted.issuer}")
        known.add(trusted.issuer)


def checked_texts(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """Return one text or a list of them as a tuple; raises ConfigurationError for anything else, naming ``what``."""
    found = [given] if isinstance(given, str) else given
    if not found or not isinstance(found, list | tuple) or not all(isinstance(text, str) and text for text in found):
        raise ConfigurationError(f"{what} must be a string or a list of strings, not {given!r}")
    return tuple(found)


def checked_number(what: str, number: int, least: int, most: int, unit: str = "seconds") -> int:
    """Return ``number`` itself if it lies in this range; raises ConfigurationError otherwise, naming ``what``."""
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ConfigurationError(f"{what} must be a number of {unit} from {least} to {most}, not {number!r}")
    return number


@lru_cache(maxsize=1024)
def _own_scopes(trusted: Trust, names: str | tuple[str, ...], catalog: ScopeCatalog) -> Scopes:
    # Cached: most tokens have the same scopes as others.
    theirs = names.split(" ") if isinstance(names, str) else names
    if trusted.scopes is None:
        return Scopes(name for name in theirs if name in catalog.descriptions)
    return Scopes(own for name in theirs if name in trusted.scopes for own in trusted.scopes[name].names)


def _checked_issuer(issuer: str) -> str:
    checked_url("an issuer", issuer)
    if len(issuer) > MAX_ISSUER_LENGTH:
        raise ConfigurationError(
            f"an issuer must have at most {MAX_ISSUER_LENGTH} characters; this one has {len(issuer)}"
        )
    return issuer


def _checked_scopes(scopes: Mapping[str, str | Iterable[str]]) -> dict[str, Scopes]:
    if not isinstance(scopes, Mapping):
        raise ConfigurationError(f"the scopes must map the issuer's names to those of this service, not {scopes!r}")
    mapped = {}
    for name, own in scopes.items():
        if not isinstance(name, str) or not name or " " in name:
            raise ConfigurationError(f"{name!r} is not the name of a scope")
        try:
            mapped[name] = Scopes.of(own)
        except (InvalidValue, TypeError) as error:
            raise ConfigurationError(f"in the scopes, {name!r}: {error}") from None
    return mapped
