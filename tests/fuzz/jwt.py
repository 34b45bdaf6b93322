"""Another issuer's token: ``JWTSource`` against its rules, read one by one. Every signature counts as correct.

Input: header | claims | signature, each encoded here; without a signature the first is the whole text, as it is.
"""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64encode
from string import ascii_letters, digits
from typing import Any

from tokenguard import InvalidToken, ScopeCatalog, Scopes, Secret
from tokenguard.clock import LONGEST, SECOND
from tokenguard.issuers.jwks import PublicKey
from tokenguard.issuers.jwt import JWTSource, TrustedIssuer
from tokenguard.secret import MAX_CREDENTIAL_LENGTH, TOKEN_SHAPED
from tokenguard.sources import ForeignToken

from . import fields

ISSUER, AUDIENCE, AT, LEEWAY = "https://idp.example/a", "api", 1_900_000_000, 60
DICTIONARY = (
    '{"alg":"RS256","kid":"one"}', '"typ":"at+jwt"', '"typ":"JWT"', '"crit":["exp"]', '"jwk":{}', '"alg":"none"',
    f'{{"iss":"{ISSUER}","aud":"api","exp":1900000001,"cid":"c"}}', '"aud":["api","x"]', '"jti":"j"', '"sub":"s"',
    '"nbf":1900000061', '"iat":1900000060', '"exp":1e300', '"exp":true', '"exp":1899999940', '"client_id":"c"',
    '"azp":"c"', '"cnf":{}', '"scp":["users:read","x"]', '"scope":"users:read users:write"', "null", "NaN", "[]",
    '"typ":"ID"', '"typ":"Bearer"', '"token_use":"id"', '"token_type":"access"', '"events":{}',
    "|", ",", '"', "{", "}", "\\u0000", "\\ud800", " ", "é", ".", "-", "_", "=",
)  # fmt: skip
CATALOG = ScopeCatalog({"users:read": "Read", "users:write": "Write"})
REFUSED = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc")
KINDS = {
    "token_type": ("bearer", "access", "access_token"),
    "token_use": ("access", "access_token"),
    "typ": ("bearer", "jwt", "at+jwt", "application/at+jwt"),
}
PRINTABLE = frozenset(map(chr, range(0x20, 0x7F)))


class _Keys:
    """The keys of an issuer that has only one."""

    def find(self, kid: str | None) -> PublicKey:
        if kid != "one":
            raise InvalidToken("the issuer has no such key")
        return PublicKey("RS256", None)


SOURCE = JWTSource([TrustedIssuer(ISSUER, AUDIENCE, algorithms=["RS256"], leeway=LEEWAY)])
SOURCE._issuers[ISSUER] = (SOURCE._issuers[ISSUER][0], _Keys())  # type: ignore[assignment]
SOURCE._verifies = lambda signed, signature, algorithm, public: algorithm == public.algorithm


def test_one_input(data: bytes) -> None:
    """One token."""
    header, claims, signature = fields(data, 3)
    plain = [part.encode("utf-8", "surrogateescape") for part in (header, claims, signature)]
    text = ".".join(_encoded(part) for part in plain) if signature else header
    assert SOURCE.takes(text) == _has_shape(text)
    found = _read(text)
    expected = _expected(*map(_object, plain[:2])) if signature and len(text) <= MAX_CREDENTIAL_LENGTH else None
    assert (found is None) == (expected is None), (found, expected)
    if found is not None and expected is not None:
        scopes, client_id = expected
        assert (found.issuer, found.client_id, found.scopes) == (ISSUER, client_id, Scopes(scopes))
        assert len(found.local_client_id) == len(found.local_token_id) == 16
        assert set(found.token_id) <= PRINTABLE


def _read(text: str) -> ForeignToken | None:
    try:
        return SOURCE.verify(Secret(text), AT * SECOND, CATALOG)
    except InvalidToken as error:
        # Nothing of the text is returned to its sender.
        assert error.detail == InvalidToken.detail
        return None


def _has_shape(text: str) -> bool:
    parts = text.split(".")
    letters = ascii_letters + digits + "-_"
    good = len(parts) == 3 and bool(parts[0]) and bool(parts[1]) and all(c in letters for part in parts for c in part)
    return good and len(text) <= MAX_CREDENTIAL_LENGTH


def _expected(header: dict[str, Any] | None, claims: dict[str, Any] | None) -> tuple[set[str], str] | None:
    """Return the scopes and the client, or None if any rule refuses the token."""
    if header is None or claims is None or claims.get("iss") != ISSUER:
        return None
    typ, aud = header.get("typ"), claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    ids = [claims[name] for name in ("cid", "client_id", "azp") if name in claims]
    values = [claims[name] for name in ("scp", "scope") if name in claims] or [""]
    named = [value.split(" ") if isinstance(value, str) else value for value in values]
    rules = [
        header.get("alg") == "RS256" and header.get("kid") == "one",
        not any(name in header for name in REFUSED),
        all(isinstance(header.get(name, ""), str) for name in ("kid", "typ", "cty", "x5t", "x5t#S256")),
        typ is None or (isinstance(typ, str) and typ.lower() in ("jwt", "at+jwt", "application/at+jwt")),
        all(isinstance(name, str) for name in audiences) and AUDIENCE in audiences,
        bool(ids) and all(_is_id(name) and name == ids[0] for name in ids),
        "jti" not in claims or _is_id(claims["jti"]),
        claims.get("sub") is None or isinstance(claims["sub"], str),
        "cnf" not in claims and "events" not in claims,
        all(str(claims[name]).lower() in kinds for name, kinds in KINDS.items() if name in claims),
        "exp" in claims and _is_time(claims["exp"]) and int(claims["exp"] * SECOND) > (AT - LEEWAY) * SECOND,
        *(
            _is_time(claims[n]) and int(claims[n] * SECOND) <= (AT + LEEWAY) * SECOND
            for n in ("nbf", "iat")
            if n in claims
        ),
        all(isinstance(scopes, list) and all(isinstance(name, str) for name in scopes) for scopes in named),
    ]
    if not all(rules) or {name for name in named[0] if name} != {name for name in named[-1] if name}:
        return None
    return {name for name in named[0] if name in ("users:read", "users:write")}, ids[0]


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_none)
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _none(text: str) -> None:
    raise ValueError


def _is_id(value: Any) -> bool:
    plain = isinstance(value, str) and 0 < len(value) <= 255 and set(value) <= PRINTABLE and value == value.strip(" ")
    return plain and TOKEN_SHAPED.search(value) is None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 100 * LONGEST


def _encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")
