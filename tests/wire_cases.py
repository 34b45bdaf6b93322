"""Requests as only a hostile or a broken client sends them, and what becomes of each: data alone.

An outcome is written as :func:`tests.wire.outcome` tells it: ``401 missing_token`` is a refusal of tokenguard's, a bare
``400`` an answer that the server has given by itself, ``closed`` no answer at all. ``{token}`` stands for a good token.
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
    """A request that is whole, whatever is in its line and its headers."""
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
    # What base64 allows: none of it is another way to write the same token.
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

#: What no header may hold, or only as bytes that mean nothing.
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
        ("for the space", b"Bearer*{token}", NONE),
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

#: More than one credential, or one where none is looked for.
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
    # A server that takes "_" for "-" would let a caller past a proxy that removes or sets the real header.
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
    # A server refuses a folded line or puts a space for the fold (RFC 9112, section 5.2).
    "folded into another header": Case(NONE, (b"X: y", b" Authorization: Bearer {token}")),
    "folded": authorization(OK, b"Bearer\r\n {token}"),
    "folded behind the space": authorization(MALFORMED, b"Bearer \r\n\t{token}"),
    "a line without a colon": Case("400", (b"Authorization Bearer {token}",)),
    "a line without a name": Case("400", (b": Bearer {token}",)),
    "a name with NUL": Case("400", (b"Authorization\x00: Bearer {token}",)),
    "a name in UTF-8": Case("400", ("Аuthorization: Bearer {token}".encode(),)),
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

#: Ways to write a path that somebody might take for a guarded one. None is reached without a token.
PATHS = [
    b"/api/v1/users",
    b"/api/v1/users?",
    b"/api/v1/users?limit=1",
    b"/api/v1/users#x",
    b"/api/v1/users/",
    b"/api/v1/users//",
    b"/api/v1//users",
    b"//api/v1/users",
    b"///api/v1/users",
    b"////api////v1////users",
    b"/./api/v1/users",
    b"/api/./v1/users",
    b"/api/v1/users/.",
    b"/api/v1/users/./",
    b"/../api/v1/users",
    b"/x/../api/v1/users",
    b"/static/../api/v1/users",
    b"/api/v1/users/..",
    b"/api/v1/x/../users",
    b"/api/v1/x/..;/users",
    b"/..;/api/v1/users",
    b"/%2e/api/v1/users",
    b"/%2e%2e/api/v1/users",
    b"/api/v1/%2e%2e/v1/users",
    b"/%252e%252e/api/v1/users",
    b"/api%2fv1%2fusers",
    b"/api/v1%2Fusers",
    b"/%2fapi/v1/users",
    b"/api/v1/users%2f",
    b"/api%252fv1%252fusers",
    b"/api/v1/users%2f..%2fgroups",
    b"/api/v1/groups/../users",
    b"/api/v1/%75sers",
    b"/%61%70%69/v1/users",
    b"/api/v1/%2575sers",
    b"/api/v1/users;",
    b"/api/v1/users;x=y",
    b"/api;x=y/v1/users",
    b"/api/v1/users%3bx",
    b"/API/V1/USERS",
    b"/api/v1/Users",
    b"/api/v1/users.json",
    b"/api/v1/users%00",
    b"/api/v1/users%00.css",
    b"/api/v1/users%20",
    b"/api/v1/users%09",
    b"/api/v1/users%0a",
    b"/api/v1/users%0d%0aX:%20y",
    b"/api/v1/users%ff",
    b"/api/v1/users%c0%af",
    b"/api/v1%c0%afusers",
    b"/api/v1%ef%bc%8fusers",
    b"/api/v1/%ef%bd%95sers",
    b"/api/v1/users%",
    b"/api/v1/users%2",
    b"/api/v1/users%zz",
    b"/api/v1/users%u0041",
    b"/api\\v1\\users",
    b"/api/v1\\users",
    b"/\\api/v1/users",
    b"/api/v1/\xfcsers",
    b"/api/v1/users\xff",
    "/api/v1/ü".encode(),
    b"/api/v1/users\x00",
    b"/api/v1/users\x01",
    b"/api/v1/users\x7f",
    b"/api/v1/users/x",
    b"/api/v1/users/%2e%2e",
    b"/api/v1/users/..%2fgroups",
    b"/api/v1/users/x/lifecycle/../../",
    b"/api/v1/groups",
    b"/api/v1/groups/",
    b"/api/v1//groups",
    b"//api/v1/groups",
    b"/api/v1/%67roups",
    b"/api%2fv1%2fgroups",
    b"/api/v1/groups/x",
    b"/mounted/api/v1/users",
    b"/mounted/api/v1/groups",
    b"/mounted//api/v1/users",
    b"//mounted/api/v1/users",
    b"/mounted/../api/v1/users",
    b"/mounted%2fapi/v1/users",
    b"/%6dounted/api/v1/users",
    b"/mounted/mounted/api/v1/users",
    b"/mountedapi/v1/users",
    b"/mounted;/api/v1/users",
    b"/mounted",
    b"/mounted/",
    b"/Mounted/api/v1/users",
    b"http://localhost/api/v1/users",
    b"http://localhost//api/v1/users",
    b"http://evil.example/api/v1/users",
    b"HTTP://LOCALHOST/api/v1/users",
    b"http:///api/v1/users",
    b"http:/api/v1/users",
    b"https://localhost/api/v1/users",
    b"ftp://localhost/api/v1/users",
    b"http://[::1/api/v1/users",
    b"http://localhost:99999999/api/v1/users",
    b"//evil.example/api/v1/users",
    b"//evil.example/%2e%2e",
    b"//[/api/v1/users",
    b"/\\evil.example/api//v1/users",
    b"/%5cevil.example//api",
    b"api/v1/users",
    b"*",
    b"?",
    b"%",
    b"/",
    b"//",
    b"/api/v1/users" + b"/." * 2_000,
    b"/api/v1/users?" + b"x" * 5_000,
    b"/" + b"x" * 70_000,
]

#: What tells a server, or a framework behind a proxy, that the request is another one than its line says.
_ABOUT_THE_REQUEST = [
    b"SCRIPT_NAME: /api",
    b"Script-Name: /api",
    b"SCRIPT_NAME: /x",
    b"SCRIPT_NAME:",
    b"PATH_INFO: /api/v1/users",
    b"PATH_INFO: /",
    b"Path-Info: /",
    b"X-Original-URL: /api/v1/users",
    b"X-Rewrite-URL: /api/v1/users",
    b"X-Forwarded-Prefix: /api",
    b"X-Script-Name: /api",
    b"X-HTTP-Method-Override: OPTIONS",
    b"REMOTE_USER: admin",
    b"Remote-User: admin",
    b"X-Forwarded-For: 127.0.0.1",
    b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13",
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    b"Expect: 100-continue",
    b"Expect: x",
    b"Range: bytes=0-",
    b"If-None-Match: *",
]
REWRITTEN = {
    f"{header.decode()} to {path.decode()}": Case(outcome, (header,), b"GET " + path + b" HTTP/1.1")
    for header in _ABOUT_THE_REQUEST
    for path, outcome in [(b"/", "200 public"), (b"/api/v1/users", NONE), (b"/mounted/api/v1/users", NONE)]
}

#: Other methods and versions, without a token: none reaches a view.
LINES = [
    *(
        method + b" /api/v1/users HTTP/1.1"
        for method in [
            b"HEAD",
            b"POST",
            b"PUT",
            b"PATCH",
            b"DELETE",
            b"OPTIONS",
            b"TRACE",
            b"CONNECT",
            b"PROPFIND",
            b"QUERY",
            b"get",
            b"Get",
            b"GETX",
            b"X" * 300,
            b"G\x00T",
            b"G\xc3\x89T",
            b"__init__",
            b"dispatch",
            b"setup",
        ]
    ),
    b"GET /api/v1/users HTTP/1.0",
    b"GET /api/v1/users HTTP/0.9",
    b"GET /api/v1/users HTTP/1.2",
    b"GET /api/v1/users HTTP/2.0",
    b"GET /api/v1/users HTTP/9.9",
    b"GET /api/v1/users HTTP/1.1 HTTP/1.1",
    b"GET /api/v1/users http/1.1",
    b"GET /api/v1/users HTTP/x",
    b"GET /api/v1/users HTTP/1." + b"1" * 5_000,
    b"GET /api/v1/users",
    b"GET  /api/v1/users  HTTP/1.1",
    b"GET\t/api/v1/users\tHTTP/1.1",
    b" GET /api/v1/users HTTP/1.1",
    b"\r\nGET /api/v1/users HTTP/1.1",
    b"GET",
    b"",
    b"\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT localhost:80 HTTP/1.1",
]

_HIDDEN = b"GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Requests in which one server sees a body and another a second request. Whoever is right, no view is reached.
SMUGGLED = [
    (lines, body)
    for body in (_HIDDEN, b"0\r\n\r\n" + _HIDDEN, b"5\r\nhello\r\n0\r\n\r\n" + _HIDDEN)
    for lines in [
        (b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"),
        (b"Content-Length: 0", b"Content-Length: %d" % len(body)),
        (b"Content-Length: 0, %d" % len(body),),
        (b"Content-Length: +%d" % len(body),),
        (b"Content-Length: -1",),
        (b"Content-Length: 0x10",),
        (b"Content-Length: 1_0",),
        ("Content-Length: １０".encode(),),
        (b"Content-Length: " + b"9" * 5_000,),
        (b"Content-Length:",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding : chunked",),
        (b"Transfer-Encoding:\x0bchunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"),
        (b"Transfer_Encoding: chunked", b"Content_Length: 0"),
    ]
]
