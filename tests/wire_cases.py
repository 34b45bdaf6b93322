"""Requests with headers that only a hostile or a broken client sends, and the outcome of each: data alone.

An outcome is written as :func:`tests.wire.outcome` returns it: ``401 missing_token`` is a refusal by tokenguard, a bare
``400`` an answer of the server itself, ``closed`` no answer at all. ``{token}`` stands for a good token.
"""

from __future__ import annotations

from dataclasses import dataclass

NONE, MALFORMED, INVALID, OK = "401 missing_token", "400 invalid_request", "401 invalid_token", "200"
USERS = b"/api/v1/users?limit=1"
GET = b"GET " + USERS + b" HTTP/1.1"


@dataclass(frozen=True)
class Case:
    """A request: its line, the header lines besides Host, its body, and the outcome."""

    outcome: str
    headers: tuple[bytes, ...] = ()
    line: bytes = GET
    body: bytes = b""

    def sent(self, token: bytes) -> bytes:
        """The bytes of the request."""
        return request(self.line, *self.headers, body=self.body).replace(b"{token}", token)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a complete request, whatever is in its line and its headers."""
    return b"\r\n".join([line, b"Host: localhost", *headers, b"Connection: close", b"", body])


def authorization(outcome: str, value: bytes) -> Case:
    return Case(outcome, (b"Authorization: " + value,))


def query(outcome: str, added: bytes, *headers: bytes) -> Case:
    return Case(outcome, headers, b"GET " + USERS + added + b" HTTP/1.1")


def post(kind: bytes, body: bytes) -> Case:
    headers = (b"Content-Type: " + kind, b"Content-Length: %d" % len(body.replace(b"{token}", b"x" * 95)))
    return Case(NONE, headers, b"POST /api/v1/users HTTP/1.1", body)


BEARER = b"Authorization: Bearer {token}"
KEY = b"X-API-Key: {token}"
FORM = b"application/x-www-form-urlencoded"

#: What is sent where a token belongs.
CREDENTIALS = {
    "no credential": Case(NONE),
    "an empty value": authorization(NONE, b""),
    "Basic": authorization(NONE, b"Basic {token}"),
    "Digest": authorization(NONE, b'Digest username="{token}"'),
    "Token, which is no scheme of ours": authorization(NONE, b"Token {token}"),
    "the bare token": authorization(NONE, b"{token}"),
    "Bearer and no space": authorization(NONE, b"Bearer{token}"),
    "Bearer and a tab": authorization(NONE, b"Bearer\t{token}"),
    "Bearer and a colon": authorization(NONE, b"Bearer: {token}"),
    "Bearer-": authorization(NONE, b"Bearer- {token}"),
    "Bearer": authorization(OK, b"Bearer {token}"),
    "bearer": authorization(OK, b"bearer {token}"),
    "BEARER and spaces": authorization(OK, b"BEARER    {token}"),
    "SSWS": authorization(OK, b"SSWS {token}"),
    "SSWS and no space": authorization(OK, b"ssws{token}"),
    "white space around": authorization(OK, b" \t Bearer {token} \t "),
    "no space behind the colon": Case(OK, (b"AUTHORIZATION:Bearer {token}",)),
    "Bearer and nothing": authorization(MALFORMED, b"Bearer"),
    "Bearer and spaces alone": authorization(MALFORMED, b"Bearer    "),
    "a tab behind the space": authorization(MALFORMED, b"Bearer \t{token}"),
    "two tokens": authorization(MALFORMED, b"Bearer {token} {token}"),
    "something behind the token": authorization(MALFORMED, b"Bearer {token} x"),
    "something before the token": authorization(MALFORMED, b"Bearer x {token}"),
    "quoted": authorization(MALFORMED, b'Bearer "{token}"'),
    "a parameter": authorization(MALFORMED, b"Bearer token={token}"),
    "the challenge sent back": authorization(MALFORMED, b'Bearer realm="api", error="invalid_token"'),
    "percent-encoded": authorization(MALFORMED, b"Bearer %74{token}"),
    "markup": authorization(MALFORMED, b"Bearer <script>alert(1)</script>"),
    "a quote and a query": authorization(MALFORMED, b"Bearer ' OR 1=1 --"),
    "a format": authorization(MALFORMED, b"Bearer %s%n{0.__class__}"),
    # Characters that base64 allows: none of them may give another spelling of the same token.
    "padded": authorization(INVALID, b"Bearer {token}="),
    "padded twice": authorization(INVALID, b"Bearer {token}=="),
    "padding alone": authorization(MALFORMED, b"Bearer ="),
    "padding inside": authorization(MALFORMED, b"Bearer {token}=x"),
    "a dot behind": authorization(INVALID, b"Bearer {token}."),
    "a dot before": authorization(INVALID, b"Bearer .{token}"),
    "a slash behind": authorization(INVALID, b"Bearer {token}/"),
    "a plus behind": authorization(INVALID, b"Bearer {token}+"),
    "a tilde behind": authorization(INVALID, b"Bearer {token}~"),
    "a dash before": authorization(INVALID, b"Bearer -{token}"),
    "twice without a space": authorization(INVALID, b"Bearer {token}{token}"),
    "one character": authorization(INVALID, b"Bearer x"),
    "a JWT that nobody signed": authorization(INVALID, b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."),
    "as long as a credential may be": authorization(INVALID, b"Bearer " + b"x" * 8100),
    "longer than that": authorization(MALFORMED, b"Bearer " + b"x" * 8190),
    "70 kB": authorization(MALFORMED, b"Bearer " + b"x" * 70_000),
    "70 kB of another scheme": authorization(NONE, b"Basic " + b"x" * 70_000),
    "70 kB of spaces": authorization(MALFORMED, b"Bearer " + b" " * 70_000 + b"{token}"),
}

#: Bytes that a header may not hold, or may hold only as bytes without a meaning.
BYTES = {
    "NUL": b"\x00",
    "SOH": b"\x01",
    "backspace": b"\x08",
    "vertical tab": b"\x0b",
    "form feed": b"\x0c",
    "escape": b"\x1b",
    "DEL": b"\x7f",
    "bare CR": b"\r",
    "latin-1 next line": b"\x85",
    "latin-1 no-break space": b"\xa0",
    "latin-1": b"\xfc",
    "UTF-8": "ü".encode(),
    "UTF-8 no-break space": "\u00a0".encode(),
    "UTF-8 line separator": "\u2028".encode(),
    "UTF-8 zero width space": "\u200b".encode(),
    "UTF-8 byte order mark": "\ufeff".encode(),
    "UTF-8 right to left": "\u202e".encode(),
    "UTF-8 fullwidth digit": "１".encode(),
    "UTF-8 Cyrillic letter": "а".encode(),
    "UTF-8 long s": "ſ".encode(),
    "UTF-8 dotless i": "ı".encode(),
    "UTF-8 beyond the BMP": "😀".encode(),
    "UTF-8 cut off": b"\xe2\x80",
    "UTF-8 overlong": b"\xc0\xaf",
    "UTF-8 surrogate": b"\xed\xa0\x80",
    "comma": b",",
    "semicolon": b";",
}
CREDENTIALS |= {
    f"{name} {where}": authorization(outcome, value.replace(b"*", bad))
    for name, bad in BYTES.items()
    for where, value, outcome in [
        ("before the token", b"Bearer *{token}", MALFORMED),
        ("behind the token", b"Bearer {token}*", MALFORMED),
        # Servers join two headers of one name with a comma, so this reads as two, the first a Bearer without a token.
        ("for the space", b"Bearer*{token}", MALFORMED if bad == b"," else NONE),
    ]
}
CREDENTIALS |= {
    f"{name}, which looks like a scheme": authorization(NONE, scheme.encode() + b" {token}")
    for name, scheme in {
        "fullwidth Bearer": "Ｂｅａｒｅｒ",
        "Cyrillic Bearer": "Веаrеr",
        "Bearer with an accent": "Bearér",
        "Bearer that is bold": "𝐁𝐞𝐚𝐫𝐞𝐫",
        "SSWS of long s": "ſſWſ",
    }.items()
}

#: More than one credential, or a credential in a place where none is read.
PLACES = {
    "two headers, the same": Case(MALFORMED, (BEARER, BEARER)),
    "two headers, one in capitals": Case(MALFORMED, (BEARER, BEARER.upper().replace(b"{TOKEN}", b"{token}"))),
    "two headers, one bad": Case(MALFORMED, (BEARER, b"Authorization: Bearer x")),
    "two headers, the bad one first": Case(MALFORMED, (b"Authorization: Bearer x", BEARER)),
    "Bearer and Basic": Case(MALFORMED, (BEARER, b"Authorization: Basic eDp5")),
    "Basic and Bearer": Case(MALFORMED, (b"Authorization: Basic eDp5", BEARER)),
    "two in one header": authorization(MALFORMED, b"Bearer {token}, Bearer {token}"),
    "two in one header without a space": authorization(MALFORMED, b"Bearer {token},Bearer {token}"),
    "Basic and Bearer in one header": authorization(MALFORMED, b"Basic eDp5, Bearer {token}"),
    "a comma behind": authorization(MALFORMED, b"Bearer {token},"),
    "a comma before": authorization(MALFORMED, b", Bearer {token}"),
    "an empty header before": Case(MALFORMED, (b"Authorization:", BEARER)),
    "fifty headers": Case(MALFORMED, (BEARER,) * 50),
    "the further header": Case(OK, (KEY,)),
    "the further header in capitals": Case(OK, (b"X-API-KEY: {token}",)),
    "the further header, empty": Case(NONE, (b"X-API-Key:",)),
    "the further header, twice": Case(MALFORMED, (KEY, KEY)),
    "the further header with a scheme": Case(MALFORMED, (b"X-API-Key: Bearer {token}",)),
    "the further header, bad": Case(INVALID, (b"X-API-Key: x",)),
    "the further header, 70 kB": Case(MALFORMED, (b"X-API-Key: " + b"x" * 70_000,)),
    "both headers": Case(MALFORMED, (BEARER, KEY)),
    "both headers, one bad": Case(MALFORMED, (BEARER, b"X-API-Key: x")),
    "both headers, the other one bad": Case(MALFORMED, (b"Authorization: Bearer x", KEY)),
    "the further header beside Basic": Case(OK, (KEY, b"Authorization: Basic eDp5")),
    # A server that reads "_" as "-" would let a caller past a proxy that removes or sets the real header.
    "X_API_Key": Case(NONE, (b"X_API_Key: {token}",)),
    "X-API_Key": Case(NONE, (b"X-API_Key: {token}",)),
    "X_API_Key beside Bearer": Case(OK, (BEARER, b"X_API_Key: x")),
    "X_API_Key beside a bad X-API-Key": Case(INVALID, (b"X_API_Key: {token}", b"X-API-Key: x")),
    "HTTP_AUTHORIZATION": Case(NONE, (b"HTTP_AUTHORIZATION: Bearer {token}",)),
    "HTTP-AUTHORIZATION": Case(NONE, (b"HTTP-AUTHORIZATION: Bearer {token}",)),
    "X-Authorization": Case(NONE, (b"X-Authorization: Bearer {token}",)),
    "X-Forwarded-Authorization": Case(NONE, (b"X-Forwarded-Authorization: Bearer {token}",)),
    "Proxy-Authorization": Case(NONE, (b"Proxy-Authorization: Bearer {token}",)),
    "a cookie": Case(NONE, (b"Cookie: access_token={token}; Authorization=Bearer {token}",)),
    "an identity of one's own": Case(NONE, (b"tokenguard.identity: admin", b"Tokenguard-Outcome: 1")),
    "white space before the colon": Case("400", (b"Authorization : Bearer {token}",)),
    "a tab before the colon": Case("400", (b"Authorization\t: Bearer {token}",)),
    # A server refuses a folded line or replaces the fold with a space (RFC 9112, section 5.2).
    "folded into another header": Case(NONE, (b"X: y", b" Authorization: Bearer {token}")),
    "folded": authorization(OK, b"Bearer\r\n {token}"),
    "folded behind the space": authorization(MALFORMED, b"Bearer \r\n\t{token}"),
    "a line without a colon": Case("400", (b"Authorization Bearer {token}",)),
    "a line without a name": Case("400", (b": Bearer {token}",)),
    "a name with NUL": Case("400", (b"Authorization\x00: Bearer {token}",)),
    "a name in UTF-8": Case("400", ("Аuthorization: Bearer {token}".encode(),)),
    "an expectation": Case(NONE, (b"Expect: 100-continue",)),
    "a trailer": Case(
        NONE,
        (b"Transfer-Encoding: chunked", b"Trailer: Authorization"),
        b"POST /api/v1/users HTTP/1.1",
        b"0\r\n" + BEARER + b"\r\n\r\n",
    ),
    "a thousand headers": Case(NONE, tuple(b"X-%d: y" % number for number in range(1000))),
    "access_token in the query": query(NONE, b"&access_token={token}"),
    "access_token in the query, encoded": query(NONE, b"&%61ccess%5Ftoken={token}"),
    "access_token in the query and a bad header": query(
        MALFORMED, b"&access_token={token}", b"Authorization: Bearer x"
    ),
    "access_token in the query and in the header": query(MALFORMED, b"&access_token={token}", BEARER),
    "access_token, encoded, and the header": query(MALFORMED, b"&%61ccess%5Ftoken=x", BEARER),
    "access_token without a value and the header": query(MALFORMED, b"&access_token", BEARER),
    "access_token in the query and the further header": query(MALFORMED, b"&access_token=x", KEY),
    "another name in the query": query(OK, b"&my_access_token=x", BEARER),
    "token in the query": query(NONE, b"&token={token}&api_key={token}&Authorization=Bearer+{token}"),
    "a token in a form": post(FORM, b"access_token={token}"),
    "a token in JSON": post(b"application/json", b'{"access_token": "{token}"}'),
    "a token in a form's file": post(
        b"multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="access_token"\r\n\r\n{token}\r\n--x--\r\n',
    ),
}
