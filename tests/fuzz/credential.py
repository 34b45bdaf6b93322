"""Where the credential is, if anywhere: ``AuthScheme.credential`` against RFC 6750's grammar, read letter by letter.

Input: Authorization | query | X-API-Key | X-Second-Key | X-Forwarded-For | which of them are present, how many proxies.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from string import ascii_letters, digits
from typing import Any
from urllib.parse import unquote

from tokenguard import AuthScheme, InvalidRequest, MissingToken
from tokenguard.conditions import read_address
from tokenguard.secret import MAX_CREDENTIAL_LENGTH

from . import fields, number

DICTIONARY = (
    "Bearer ", "bearer ", "SSWS", "ssws ", "Basic ", ",", ", ", "access_token=", "%61ccess_token", "&", "|", "==",
    "\t", "\xa0", "ſ", "a.b-c_d~e+f/g=", "127.0.0.1", "::ffff:1.2.3.4", "x" * 200,
)  # fmt: skip
KEYS = ("HTTP_AUTHORIZATION", "QUERY_STRING", "HTTP_X_API_KEY", "HTTP_X_SECOND_KEY", "HTTP_X_FORWARDED_FOR")
PLAIN = AuthScheme()
SCHEMES = [AuthScheme(headers=["X-API-Key", "X-Second-Key"], proxies=count) for count in range(4)]


def test_one_input(data: bytes) -> None:
    """The credential, the query and the address of one hostile environ."""
    *values, chosen = fields(data, 6)
    choice = number(chosen)
    environ = {
        key: value for place, (key, value) in enumerate(zip(KEYS, values, strict=True)) if not choice >> place & 1
    }
    for scheme, further in ((PLAIN, []), (SCHEMES[choice % 4], ["HTTP_X_API_KEY", "HTTP_X_SECOND_KEY"])):
        expected = _expected(environ, further)
        assert _found(scheme, environ) == expected, (environ, expected)
    query = environ.get("QUERY_STRING", "")
    assert PLAIN.is_sent_in(query) == _names_a_token(query), query
    _check_address(SCHEMES[choice % 4], environ)


def _found(scheme: AuthScheme, environ: dict[str, Any]) -> tuple[str, str]:
    try:
        credential = scheme.credential(environ)
    except MissingToken:
        return "nothing", ""
    except InvalidRequest as error:
        # The caller's own text is returned nowhere: not in the message, nor in the challenge or the body.
        assert str(error) in {"malformed credential", "more than one credential"}
        refusal = scheme.refusal(error)
        assert refusal.status == 400
        assert dict(refusal.headers)["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_request"'
        return "refused", ""
    assert credential.reveal() not in repr(credential) or credential.reveal() in "<credential, not shown>"
    return "found", credential.reveal()


def _expected(environ: dict[str, str], further: list[str]) -> tuple[str, str]:
    """Return what the rules require, applied one after another."""
    bare = [environ[key].strip(" \t") for key in further if environ.get(key)]
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    ours = any(_is_ours(part) for part in authorization.split(","))
    if not bare and not ours:
        return "nothing", ""
    texts = [text if _is_token(text) else None for text in bare]
    too_long = any(len(environ[key]) > MAX_CREDENTIAL_LENGTH for key in further if key in environ)
    if ours:
        texts.append(_after_scheme(authorization.strip(" \t")))
        too_long = too_long or len(authorization) > MAX_CREDENTIAL_LENGTH
    if len(texts) > 1 or texts[0] is None or too_long or _names_a_token(environ.get("QUERY_STRING", "")):
        return "refused", ""
    return "found", texts[0]


def _is_ours(part: str) -> bool:
    word = _lower(part.lstrip(" \t"))
    return word.startswith(("ssws", "bearer ")) or word == "bearer"


def _after_scheme(text: str) -> str | None:
    """RFC 6750 section 2.1: ``"Bearer" 1*SP b64token``; Okta's SSWS also without a space."""
    if _lower(text[:7]) == "bearer ":
        rest = text[7:]
    elif _lower(text[:4]) == "ssws":
        rest = text[4:]
    else:
        return None
    rest = rest.lstrip(" ")
    return rest if _is_token(rest) else None


def _is_token(text: str) -> bool:
    """RFC 6750's b64token: ``1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="``."""
    body = text.rstrip("=")
    return bool(body) and all(character in ascii_letters + digits + "-._~+/" for character in body)


def _names_a_token(query: str) -> bool:
    return any(_lower(unquote(part.partition("=")[0], "latin-1")) == "access_token" for part in query.split("&"))


def _lower(text: str) -> str:
    """Return the text in lower case as HTTP defines it: only ASCII letters change."""
    return "".join(character.lower() if character in ascii_letters else character for character in text)


def _readings(hop: str) -> set[str]:
    """Return the hop as it is, and without its port."""
    bare, _, port = hop.rpartition(":") if not hop.endswith("]") else (hop, "", "0")
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    return {hop, bare} if all(character in digits for character in port) else {hop}


def _check_address(scheme: AuthScheme, environ: dict[str, str]) -> None:
    address = scheme.address(environ)
    if scheme.proxies:
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        assert address is None or address in _readings(hops[-scheme.proxies].strip())
    assert read_address(address) is None or isinstance(read_address(address), (IPv4Address, IPv6Address))
