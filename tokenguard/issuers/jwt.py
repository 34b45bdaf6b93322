"""Access tokens that other issuers sign: JWTs, verified as RFC 8725 and, but for ``typ``, RFC 9068 section 4 require.

joserfc verifies the signatures. This module decides which keys and algorithms joserfc is given: by what the operator
has configured and what the issuer has published, and never by what a token says of itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any
from urllib.parse import urlsplit

from ..clock import DAY, SECOND, monotonic
from ..errors import ConfigurationError, InvalidToken
from ..scopes import ScopeCatalog
from ..secret import MAX_CREDENTIAL_LENGTH, Secret
from ..sources import ForeignToken, derived_id, read_hidden
from ..strict_json import read_members
from .claims import NO_END, read_claims
from .https import checked_endpoint
from .jwks import ALGORITHMS, KEYS_URL, Fetch, PublicKey, PublishedKeys, decoded, fetch
from .trust import Trust, check_distinct, checked_number, checked_texts

DEFAULT_ALGORITHMS = ("RS256", "ES256")
#: Seconds by which clocks may differ, by default and at most.
LEEWAY, MAX_LEEWAY = 60, 300
#: Seconds after which an issuer's keys are fetched anew, and for how many more they are used while that fails.
MAX_AGE, GRACE = 3600, 86_400
#: The ``typ`` headers to accept: RFC 9068 section 4 takes only ``at+jwt``, which many issuers do not send.
TYPES: dict[str, tuple[str | None, ...]] = {
    "any": (None, "jwt", "at+jwt", "application/at+jwt"),
    "at+jwt": ("at+jwt", "application/at+jwt"),
}

_BASE64URL = f"{ascii_letters}{digits}-_".encode()
#: How many headers are cached: all tokens of an issuer have the same one, for as long as its key is the same.
MANY_HEADERS = 64
# Header parameters that must be texts if they are there (RFC 7515 section 4.1).
_TEXTS = ("kid", "typ", "cty", "x5t", "x5t#S256")
# Keys, or places to get them from, that a token itself names; and parameters that would have to be understood.
_REFUSED_HEADERS = {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"}
# Okta's org servers sign tokens for Okta itself, which says that nobody else should read them.
_OKTA = re.compile(r"(?:.+\.)?(?:okta|oktapreview|okta-emea|okta-gov|trexcloud)\.com|(?:.+\.)?okta\.mil")


class TrustedIssuer(Trust):
    """An issuer whose access tokens a service accepts, and what they stand for here.

    ``issuer`` is its identifier, exactly as in its tokens and metadata. ``audience`` is how it names this service; any
    one of a list is enough. ``algorithms`` are those that it may sign with. ``scopes`` maps its scopes to scopes of
    this service (one, or several separated by spaces, or a list); without it, those that the catalogue has stand for
    themselves. A scope that is not mapped grants nothing. ``scope_claims`` are the claims that name its scopes, of
    which the first that a token has counts; without it, ``scp`` or ``scope``. ``typ`` is ``any``, or ``at+jwt`` to
    require that a token says that it is an access token. ``leeway`` is by how many seconds the clocks may differ.
    ``jwks_url`` is where its keys are; without it, its metadata is asked. The keys are fetched anew after ``max_age``
    seconds, and used for ``grace`` seconds more while that fails; a token that has been verified is verified anew after
    ``max_age`` seconds. Raises ConfigurationError for a value that cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Sequence[str],
        *,
        algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
        scopes: Mapping[str, str | Iterable[str]] | None = None,
        scope_claims: str | Sequence[str] | None = None,
        typ: str = "any",
        leeway: int = LEEWAY,
        jwks_url: str | None = None,
        max_age: int = MAX_AGE,
        grace: int = GRACE,
    ) -> None:
        super().__init__(issuer, checked_texts("the audience", audience), scopes)
        _refuse_okta_org_server(issuer)
        self.scope_claims = () if scope_claims is None else checked_texts("the scope_claims", scope_claims)
        self.algorithms = checked_texts("the algorithms", algorithms)
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise ConfigurationError(f"unknown algorithm {name!r}; the algorithms are {', '.join(ALGORITHMS)}")
        if not isinstance(typ, str) or typ not in TYPES:
            raise ConfigurationError(f"the typ must be one of {', '.join(TYPES)}, not {typ!r}")
        self.types = TYPES[typ]
        self.leeway = checked_number("the leeway", leeway, 0, MAX_LEEWAY)
        self.jwks_url = None if jwks_url is None else checked_endpoint(KEYS_URL, jwks_url, issuer)
        self.max_age = checked_number("the max_age", max_age, 60, DAY // SECOND)
        self.grace = checked_number("the grace", grace, 0, 30 * DAY // SECOND)


class JWTSource:
    """The access tokens of these issuers; a token's ``iss`` names the one that it claims to be of.

    ``fetch`` and ``monotonic`` are for tests. Makes no connection until a token comes. Raises ConfigurationError for
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
        check_distinct(issuers)
        for trusted in issuers:
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
        """See :class:`tokenguard.sources.Source`: whether the text is three parts in base64url."""
        if len(text) > MAX_CREDENTIAL_LENGTH or not text.isascii() or text.startswith(".") or ".." in text:
            return False
        # Only other characters are left. A regular expression would test some hundreds of characters one by one.
        return text.encode().translate(None, _BASE64URL) == b".."

    def verify(self, credential: Secret, at: int, catalog: ScopeCatalog) -> ForeignToken:
        """See :class:`tokenguard.sources.Source`."""
        return read_hidden(self._read, credential, at, catalog)

    def _read(self, text: str, at: int, catalog: ScopeCatalog) -> ForeignToken:
        if len(text) > MAX_CREDENTIAL_LENGTH:
            raise InvalidToken("not a JWT")
        try:
            header, payload, signature = text.split(".")
            claims, signed_with = read_members(decoded(payload)), decoded(signature)
            issuer = claims.get("iss")
            known = self._issuers.get(issuer) if isinstance(issuer, str) else None
            if known is None:
                raise InvalidToken("not of a trusted issuer")
            trusted, keys = known
            algorithm, kid = _checked_header(header, trusted)
        except ValueError:
            raise InvalidToken("malformed JWT") from None
        if not self._verifies(f"{header}.{payload}".encode(), signed_with, algorithm, keys.find(kid)):
            raise InvalidToken("the signature does not match")
        # Only from here on are these claims known to be the issuer's.
        token = read_claims(
            claims,
            trusted,
            at,
            catalog,
            otherwise=_made_of,
            leeway=trusted.leeway * SECOND,
            # Its key may be withdrawn before it ends, so a cached token is verified anew, with the keys of that time.
            verify_again_at=at + trusted.max_age * SECOND,
        )
        if token.refused_at >= NO_END:
            raise InvalidToken("without an end", **token.whose)
        return token


@lru_cache(maxsize=MANY_HEADERS)
def _checked_header(segment: str, trusted: TrustedIssuer) -> tuple[str, str | None]:
    """The algorithm and the id of the key; raises ValueError for anything but an object in base64url."""
    header = read_members(decoded(segment))
    algorithm = header.get("alg")
    if algorithm not in trusted.algorithms:
        raise InvalidToken("the algorithm is not one of the issuer's")
    if _REFUSED_HEADERS & header.keys():
        raise InvalidToken("a key, or an extension, in the header")
    if not all(isinstance(header[name], str) for name in _TEXTS if name in header):
        raise InvalidToken("the header is malformed")
    if (header["typ"].lower() if "typ" in header else None) not in trusted.types:
        raise InvalidToken("the typ is not that of an access token")
    return algorithm, header.get("kid")


def _made_of(claims: Mapping[str, Any]) -> str:
    return derived_id("claims", json.dumps(claims, sort_keys=True))


def _verifier() -> Callable[[bytes, bytes, str, PublicKey], bool]:
    """Return the function that checks the signature of bytes by a key, with an algorithm that is the key's own."""
    try:
        from joserfc import jws
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'other issuers\' tokens require {error.name}: pip install "wsgi-tokenguard[jwt]"'
        ) from None
    # Only the algorithms are used: the text has been split already, and its header checked.
    registry = jws.JWSRegistry(algorithms=list(ALGORITHMS))
    known = {name: registry.get_alg(name) for name in ALGORITHMS}

    def verifies(signed: bytes, signature: bytes, algorithm: str, public: PublicKey) -> bool:
        if public.algorithm != algorithm:
            return False
        try:
            known[algorithm].check_key(public.key)
            return known[algorithm].verify(signed, signature, public.key) is True
        except Exception:  # noqa: BLE001 - whatever the library finds wrong, it is not signed
            return False

    return verifies


def _refuse_okta_org_server(issuer: str) -> None:
    parts = urlsplit(issuer)
    if _OKTA.fullmatch(parts.hostname or "") and not parts.path.startswith("/oauth2/"):
        raise ConfigurationError(
            f"the tokens of Okta's org server {issuer} are for Okta alone, and nobody else can verify them: use a "
            "custom authorization server, as https://ORG.okta.com/oauth2/default"
        )
