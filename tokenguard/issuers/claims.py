"""What an issuer says of a token, in a JWT or in an answer about it: read, and checked by what it is trusted with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..clock import LONGEST, SECOND
from ..errors import InvalidToken
from ..identity import Claims
from ..scopes import ScopeCatalog
from ..secret import TOKEN_SHAPED
from ..sources import ForeignToken
from .trust import Trust

#: The end of a token without an end, in epoch microseconds.
NO_END = 1 << 62
#: The latest time that is accepted, in seconds since the epoch.
_LATEST = 100 * LONGEST
# The exact types of JSON's numbers: bool is not one of them, though a subclass of int.
_NUMBERS = frozenset({int, float})
# The claims that name a client: Okta's, RFC 9068's, OpenID Connect's.
_CLIENT_CLAIMS = frozenset({"cid", "client_id", "azp"})
# By these, issuers tell access tokens from ID and refresh tokens, which are not for a resource server.
_KINDS = {
    "token_type": {"bearer", "access", "access_token"},
    "token_use": {"access", "access_token"},
    "typ": {"bearer", "jwt", "at+jwt", "application/at+jwt"},
}
_TELLING = frozenset({*_KINDS, "events"})
# Ids are logged and compared, and RFC 6749 appendix A allows no other characters in them.
_ID = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")


def read_claims(
    claims: Mapping[str, Any],
    trusted: Trust,
    at: int,
    catalog: ScopeCatalog,
    *,
    otherwise: Callable[[Mapping[str, Any]], str],
    leeway: int,
    verify_again_at: int | None = None,
) -> ForeignToken:
    """Return the token that ``claims`` are about. Raises InvalidToken for one that must not be accepted at ``at``.

    Without a ``jti``, its id is what ``otherwise`` makes of the claims; without an ``exp``, its end is :data:`NO_END`.
    ``leeway`` is how far the clocks may differ. ``verify_again_at`` is for a token that itself says when it ends, so
    that its end never moves. ``at`` and ``verify_again_at`` are in epoch microseconds, ``leeway`` in microseconds.
    """
    client_id, token_id = _client(claims), _token_id(claims, otherwise)
    ids = {"client_id": client_id, "token_id": token_id, "issuer": trusted.issuer}
    subject = claims.get("sub")
    if subject is not None and not isinstance(subject, str):
        raise InvalidToken("the sub is malformed", **ids)
    if trusted.audiences and not _is_for(trusted.audiences, claims.get("aud")):
        raise InvalidToken("for another audience", **ids)
    if not _TELLING.isdisjoint(claims):  # most tokens have none of these
        _check_kind(claims, ids)
    if "cnf" in claims:
        raise InvalidToken("bound to a key that is not shown here", **ids)
    expires_at, begins_at, issued_at = _time(claims, "exp", NO_END), _time(claims, "nbf", at), _time(claims, "iat", at)
    if at >= expires_at + leeway:
        raise InvalidToken("expired", **ids)
    if begins_at > at + leeway or issued_at > at + leeway:
        raise InvalidToken("not valid yet", **ids)
    return ForeignToken(
        issuer=trusted.issuer,
        client_id=client_id,
        token_id=token_id,
        scopes=trusted.own_scopes(_scope_names(claims, trusted.scope_claims), catalog),
        issued_at=issued_at,
        expires_at=expires_at if verify_again_at is None else min(expires_at, verify_again_at),
        refused_at=expires_at + leeway,
        subject=subject,
        claims=Claims.taking(claims),
        ends_for_good_at=None if verify_again_at is None else expires_at + leeway,
    )


def _check_kind(claims: Mapping[str, Any], ids: Mapping[str, str]) -> None:
    for name, kinds in _KINDS.items():
        if name in claims and str(claims[name]).lower() not in kinds:
            raise InvalidToken(f"its {name} is not that of an access token", **ids)
    if "events" in claims:  # as in logout tokens: it reports something that has happened (RFC 8417 section 2.2)
        raise InvalidToken("a security event, and no access token", **ids)


def _client(claims: Mapping[str, Any]) -> str:
    named: list[Any] = [*map(claims.get, _CLIENT_CLAIMS & claims.keys())]
    if not named or not all(map(_is_id, named)):
        raise InvalidToken("names no client")
    # If an issuer lets people set one of these claims, that one must not win over the others.
    if named.count(named[0]) < len(named):
        raise InvalidToken("names more than one client")
    return str(named[0])


def _token_id(claims: Mapping[str, Any], otherwise: Callable[[Mapping[str, Any]], str]) -> str:
    if "jti" not in claims:
        return otherwise(claims)
    if not _is_id(claims["jti"]):
        raise InvalidToken("the jti is malformed")
    return str(claims["jti"])


def _is_id(value: object) -> bool:
    # An id that looks like the text of one of this service's tokens might be one: it is neither kept nor logged.
    return isinstance(value, str) and _ID.fullmatch(value) is not None and not TOKEN_SHAPED.search(value)


def _is_for(audiences: frozenset[str], named: object) -> bool:
    if isinstance(named, list):
        return all(isinstance(name, str) for name in named) and not audiences.isdisjoint(named)
    return isinstance(named, str) and named in audiences


def _time(claims: Mapping[str, Any], name: str, otherwise: int) -> int:
    """Return a NumericDate (RFC 7519 section 2) in epoch microseconds, or ``otherwise`` if the claim is missing."""
    if name not in claims:
        return otherwise
    value = claims[name]
    if type(value) not in _NUMBERS:
        raise InvalidToken(f"the {name} is malformed")
    if not 0 <= value <= _LATEST:  # NaN fails this too
        raise InvalidToken(f"the {name} is no time")
    return int(value * SECOND)


def _scope_names(claims: Mapping[str, Any], named: tuple[str, ...]) -> str | tuple[str, ...]:
    """The scopes as Okta has them (``scp``, a list; for others a text), or RFC 9068 section 2.2.3 (``scope``).

    If the operator has named the claims, only the first of those that is present counts.
    """
    if named:
        return next((_names(claims[name]) for name in named if name in claims), "")
    if "scp" not in claims:
        return _names(claims.get("scope", ""))
    names = _names(claims["scp"])
    # As with clients: if an issuer lets people set one of these claims, that one must not win over the other.
    if "scope" in claims and _each(_names(claims["scope"])) != _each(names):
        raise InvalidToken("names different scopes")
    return names


def _each(names: str | tuple[str, ...]) -> set[str]:
    return {*(names.split(" ") if isinstance(names, str) else names)} - {""}


def _names(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not {str}.issuperset(map(type, value)):
        raise InvalidToken("the scopes are malformed")
    return tuple(value)
