"""Access tokens that other issuers sign: JWTs, verified as RFC 9068 and RFC 8725 ask for.

joserfc verifies the signatures. Which keys and algorithms it is given is decided here, by what the operator has
configured and what the issuer has published, and never by what a token says of itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from .cache import monotonic
from .clock import DAY, LONGEST, SECOND
from .errors import TOKEN_SHAPED, AuthError, ConfigurationError, InvalidToken, InvalidValue
from .identity import Claims
from .jwks import ALGORITHMS, Fetch, PublicKey, PublishedKeys, checked_keys_url, decoded, fetch, members
from .resource import checked_url
from .scopes import ScopeCatalog, Scopes
from .sources import MAX_LENGTH, ForeignToken, derived_id
from .tokens import Secret

DEFAULT_ALGORITHMS = ("RS256", "ES256")
#: Seconds by which clocks may differ; at most, and by default.
LEEWAY, MAX_LEEWAY = 60, 300
#: Seconds after which an issuer's keys are fetched anew, and for how many more they serve while that fails.
MAX_AGE, GRACE = 3600, 86_400
#: As much as is kept of one.
MAX_ISSUER_LENGTH = 255
#: Whether a token has to say that it is an access token (RFC 9068 section 2.1).
TYPES: dict[str, tuple[str | None, ...]] = {
    "any": (None, "jwt", "at+jwt", "application/at+jwt"),
    "at+jwt": ("at+jwt", "application/at+jwt"),
}

_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
# In what order a client is looked for: Okta's name, RFC 9068's, OpenID Connect's.
_CLIENT_CLAIMS = ("cid", "client_id", "azp")
# Keys, and places to get them from, that a token names itself; and what would have to be understood to be obeyed.
_REFUSED_HEADERS = {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"}
# Ids are logged and compared, and RFC 6749 appendix A has no other characters in them.
_ID = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
# Their servers of an org sign tokens for Okta itself, and say that nobody else is to read them.
_OKTA = re.compile(r"(?:.+\.)?(?:okta|oktapreview|okta-emea|okta-gov|trexcloud)\.com|(?:.+\.)?okta\.mil")


class TrustedIssuer:
    """An issuer whose access tokens a service takes, and what it takes them for.

    ``issuer`` is its identifier, exactly as it stands in its tokens and metadata. ``audience`` is how it names this
    service; of a list any will do. ``algorithms`` are those that it may sign with. ``scopes`` maps its scopes to scopes
    of this service (one, or several with spaces between them, or a list); without it, those that the catalogue has
    stand for themselves. What is not mapped grants nothing. ``typ`` is ``any``, or ``at+jwt`` to demand that a token
    says that it is an access token. ``leeway`` is by how many seconds the clocks may differ. ``jwks_url`` is where its
    keys are, if its metadata is not to be asked. They are fetched anew after ``max_age`` seconds, and used for
    ``grace`` seconds more while that fails. Raises ConfigurationError for a value that cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Sequence[str],
        *,
        algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
        scopes: Mapping[str, str | Iterable[str]] | None = None,
        typ: str = "any",
        leeway: int = LEEWAY,
        jwks_url: str | None = None,
        max_age: int = MAX_AGE,
        grace: int = GRACE,
    ) -> None:
        self.issuer = _checked_issuer(issuer)
        self.audiences = frozenset(_texts("the audience", audience))
        self.algorithms = _texts("the algorithms", algorithms)
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise ConfigurationError(f"the algorithms are some of {', '.join(ALGORITHMS)}, and {name!r} is none")
        if typ not in TYPES:
            raise ConfigurationError(f"the typ is one of {', '.join(TYPES)}, not {typ!r}")
        self.types = TYPES[typ]
        self.scopes = None if scopes is None else _checked_scopes(scopes)
        self.leeway = _whole("the leeway", leeway, 0, MAX_LEEWAY)
        self.jwks_url = None if jwks_url is None else checked_keys_url(jwks_url, issuer)
        self.max_age = _whole("the max_age", max_age, 60, DAY // SECOND)
        self.grace = _whole("the grace", grace, 0, 30 * DAY // SECOND)

    @classmethod
    def read(cls, members: Mapping[str, Any], catalog: ScopeCatalog) -> TrustedIssuer:
        """From a mapping of these names, checked against the service's catalogue. Raises as the constructor does."""
        words = list(signature(cls).parameters)
        if strange := [name for name in members if name not in words]:
            raise ConfigurationError(f"an issuer has no {strange[0]!r}; it has {', '.join(words)}")
        if missing := [name for name in ("issuer", "audience") if name not in members]:
            raise ConfigurationError(f"an issuer needs its {missing[0]}")
        trusted = cls(**members)
        trusted.check(catalog)
        return trusted

    def __repr__(self) -> str:
        return f"<TrustedIssuer {self.issuer}>"

    def check(self, catalog: ScopeCatalog) -> None:
        """Raises ConfigurationError if it could grant what ``catalog`` does not have, or anything at all."""
        if self.scopes is None and not len(catalog):
            raise ConfigurationError(
                f"of the issuer {self.issuer} nobody says what its scopes stand for: declare the service's SCOPES, or "
                "map its scopes"
            )
        for own in (self.scopes or {}).values():
            if unknown := catalog.unknown(own):
                raise ConfigurationError(f"{self.issuer}: a scope maps to {unknown[0]!r}, which SCOPES does not have")

    def own_scopes(self, names: Iterable[str], catalog: ScopeCatalog) -> Scopes:
        """What the issuer's scopes of these names stand for in this service."""
        if self.scopes is None:
            return _made(frozenset(name for name in names if name in catalog.descriptions))
        return _made(frozenset(own for name in names if name in self.scopes for own in self.scopes[name].names))


class JWTSource:
    """The access tokens of these issuers; which one a token claims to be of says its ``iss``.

    ``fetch`` and ``monotonic`` are for tests. Connects to nothing until a token comes. Raises ConfigurationError for
    an issuer that is named twice, or without joserfc.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        fetch: Fetch = fetch,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._verifies = _verifier()
        self._issuers: dict[str, tuple[TrustedIssuer, PublishedKeys]] = {}
        for trusted in issuers:
            if trusted.issuer in self._issuers:
                raise ConfigurationError(f"the issuer {trusted.issuer} is there twice")
            self._issuers[trusted.issuer] = (
                trusted,
                PublishedKeys(
                    trusted.issuer,
                    trusted.algorithms,
                    jwks_url=trusted.jwks_url,
                    max_age=trusted.max_age,
                    grace=trusted.grace,
                    fetch=fetch,
                    monotonic=monotonic,
                ),
            )

    def check(self, catalog: ScopeCatalog) -> None:
        """See :class:`tokenguard.sources.Source`."""
        for trusted, _ in self._issuers.values():
            trusted.check(catalog)

    def takes(self, text: str) -> bool:
        """See :class:`tokenguard.sources.Source`: whether it is three parts in base64url."""
        return len(text) <= MAX_LENGTH and _SHAPE.fullmatch(text) is not None

    def verify(self, credential: Secret, at: int, catalog: ScopeCatalog) -> ForeignToken:
        """See :class:`tokenguard.sources.Source`."""
        found = self._examine(credential.reveal(), at, catalog)
        if isinstance(found, AuthError):
            raise found
        return found

    def _examine(self, text: str, at: int, catalog: ScopeCatalog) -> ForeignToken | AuthError:
        # Returns its error: a traceback keeps the frames it passed, and here they hold the text.
        try:
            return self._read(text, at, catalog)
        except AuthError as error:
            error.__context__ = None
            return error.with_traceback(None)

    def _read(self, text: str, at: int, catalog: ScopeCatalog) -> ForeignToken:
        shaped = _SHAPE.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if shaped is None:
            raise InvalidToken("not a JWT")
        try:
            header, claims = members(decoded(shaped[1])), members(decoded(shaped[2]))
            decoded(shaped[3])
        except ValueError:
            raise InvalidToken("malformed JWT") from None
        issuer = claims.get("iss")
        known = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if known is None:
            raise InvalidToken("not of a trusted issuer")
        trusted, keys = known
        kid = _checked_header(header, trusted)
        if not self._verifies(text, header["alg"], keys.find(kid)):
            raise InvalidToken("the signature does not match")
        # Only from here on it is the issuer who says all this.
        return _checked_claims(claims, trusted, at, catalog)


def _checked_header(header: Mapping[str, Any], trusted: TrustedIssuer) -> str | None:
    """The id of the key that is meant."""
    if header.get("alg") not in trusted.algorithms:
        raise InvalidToken("the algorithm is not one of the issuer's")
    if _REFUSED_HEADERS & header.keys():
        raise InvalidToken("a key, or an extension, in the header")
    typ, kid = header.get("typ"), header.get("kid")
    if not isinstance(typ, str | None) or not isinstance(kid, str | None):
        raise InvalidToken("the header is malformed")
    if (typ.lower() if typ is not None else None) not in trusted.types:
        raise InvalidToken("the typ is not that of an access token")
    return kid


def _checked_claims(claims: Mapping[str, Any], trusted: TrustedIssuer, at: int, catalog: ScopeCatalog) -> ForeignToken:
    client_id, token_id = _client(claims), _token_id(claims)
    ids = {"client_id": client_id, "token_id": token_id}
    subject = claims.get("sub")
    if not isinstance(subject, str | None):
        raise InvalidToken("the sub is malformed", **ids)
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(name, str) for name in audiences) or trusted.audiences.isdisjoint(audiences):
        raise InvalidToken("for another audience", **ids)
    if "cnf" in claims:
        raise InvalidToken("bound to a key that is not shown here", **ids)
    leeway = trusted.leeway * SECOND
    expires_at, begins_at, issued_at = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at is None:
        raise InvalidToken("without an end", **ids)
    if at >= expires_at + leeway:
        raise InvalidToken("expired", **ids)
    if max(begins_at or 0, issued_at or 0) > at + leeway:
        raise InvalidToken("not valid yet", **ids)
    return ForeignToken(
        issuer=trusted.issuer,
        client_id=client_id,
        token_id=token_id,
        scopes=trusted.own_scopes(_scope_names(claims), catalog),
        issued_at=at if issued_at is None else issued_at,
        expires_at=expires_at,
        refused_at=expires_at + leeway,
        subject=subject,
        claims=Claims(claims),
    )


def _client(claims: Mapping[str, Any]) -> str:
    named = [claims[name] for name in _CLIENT_CLAIMS if name in claims]
    if not named or not all(_is_id(value) for value in named):
        raise InvalidToken("names no client")
    # Where an issuer lets people set one of them, it must not win over the other.
    if any(value != named[0] for value in named):
        raise InvalidToken("names more than one client")
    return str(named[0])


def _token_id(claims: Mapping[str, Any]) -> str:
    if "jti" not in claims:
        return derived_id("claims", json.dumps(claims, sort_keys=True))
    if not _is_id(claims["jti"]):
        raise InvalidToken("the jti is malformed")
    return str(claims["jti"])


def _is_id(value: object) -> bool:
    # What looks like the text of a token of this service would be taken for one: it is neither kept nor logged.
    return isinstance(value, str) and _ID.fullmatch(value) is not None and not TOKEN_SHAPED.search(value)


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    """A NumericDate (RFC 7519 section 2) in epoch microseconds."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidToken(f"the {name} is malformed")
    if not 0 <= value <= 100 * LONGEST:
        raise InvalidToken(f"the {name} is no time")
    return int(value * SECOND)


@lru_cache(maxsize=1024)
def _made(names: frozenset[str]) -> Scopes:
    # Most tokens have the same as others.
    return Scopes(names)


def _scope_names(claims: Mapping[str, Any]) -> list[str]:
    """As Okta writes them (``scp``, a list; for others a text), or else as RFC 9068 section 2.2.3 does (``scope``)."""
    value = claims.get("scp", claims.get("scope", ""))
    names = value.split(" ") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidToken("the scopes are malformed")
    return names


def _verifier() -> Callable[[str, str, PublicKey], bool]:
    """What says whether a text is signed by a key, with an algorithm that is the key's own."""
    try:
        from joserfc import jws
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'other issuers\' tokens need {error.name}: pip install "wsgi-tokenguard[jwt]"'
        ) from None
    registries = {}
    for name in ALGORITHMS:
        # The header was looked at, and is within the whole text's length.
        registries[name] = jws.JWSRegistry(algorithms=[name], strict_check_header=False)
        registries[name].max_header_length = MAX_LENGTH

    def verifies(text: str, algorithm: str, public: PublicKey) -> bool:
        if public.algorithm != algorithm:
            return False
        try:
            jws.deserialize_compact(text, public.key, registry=registries[algorithm])
        except Exception:  # noqa: BLE001 - whatever the library finds wrong with a text, it is not signed
            return False
        return True

    return verifies


def _checked_issuer(issuer: str) -> str:
    checked_url("an issuer", issuer)
    if len(issuer) > MAX_ISSUER_LENGTH:
        raise ConfigurationError(f"an issuer has at most {MAX_ISSUER_LENGTH} characters; this one has {len(issuer)}")
    parts = urlsplit(issuer)
    if _OKTA.fullmatch(parts.hostname or "") and not parts.path.startswith("/oauth2/"):
        raise ConfigurationError(
            f"the tokens of Okta's org server {issuer} are for Okta alone, and nobody else can verify them: use a "
            "custom authorization server, as https://ORG.okta.com/oauth2/default"
        )
    return issuer


def _checked_scopes(scopes: Mapping[str, str | Iterable[str]]) -> dict[str, Scopes]:
    if not isinstance(scopes, Mapping):
        raise ConfigurationError(f"the scopes map the issuer's names to those of this service, not {scopes!r}")
    mapped = {}
    for name, own in scopes.items():
        if not isinstance(name, str) or not name or " " in name:
            raise ConfigurationError(f"{name!r} is not the name of a scope")
        try:
            mapped[name] = Scopes.of(own)
        except (InvalidValue, TypeError) as error:
            raise ConfigurationError(f"in the scopes, {name!r}: {error}") from None
    return mapped


def _texts(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(f"{what} is a text or a list of texts, not {given!r}")
    return texts


def _whole(what: str, number: int, least: int, most: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ConfigurationError(f"{what} is a number of seconds from {least} to {most}, not {number!r}")
    return number
