"""One exchange with a server that does whatever it likes: it ends, in time and within its bounds."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tokenguard import ConfigurationError, Secret, TemporarilyUnavailable
from tokenguard.clock import now
from tokenguard.issuers import opaque
from tokenguard.issuers.https import Received, Unreachable, checked_endpoint, exchange
from tokenguard.issuers.opaque import MAX_BYTES, IntrospectedIssuer, IntrospectionSource
from tokenguard.scopes import ScopeCatalog

from .idp import Idp

YES = b'{"active": true, "client_id": "nightly", "scope": "users:read"}'


class Hostile:
    """A server that sends its pieces, one after the other, to each client; ``sent`` has what it received."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/introspect"


@contextmanager
def hostile(pieces: Callable[[], Iterator[bytes]], *, first: bool = True) -> Iterator[Hostile]:
    """Run a server that sends these pieces; ``first``: whether it reads the request before it sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Hostile(listening.getsockname()[1])

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connected, _ = listening.accept()
                    server.connections += 1
                    with connected, suppress(OSError):
                        if first:
                            server.sent.append(_whole_request(connected))
                        for piece in pieces():
                            connected.sendall(piece)
                            if not piece and server.over.wait(0.02):
                                break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


def _whole_request(connected: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connected.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connected.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def once(data: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([data])


def drip(before: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    """Send a piece every now and then, without an end: no read has to wait for long."""

    def pieces() -> Iterator[bytes]:
        yield before
        while True:
            yield piece
            yield b""

    return pieces


def endless(before: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield before
        while True:
            yield piece

    return pieces


#: Seconds for the limit that is not under test: without the one that is, a test would not end.
NEVER = 3600


def ask(
    server: Hostile,
    url: str | None = None,
    body: bytes | None = b"token=x",
    *,
    timeout: float = NEVER,
    deadline: float = 0.2,
) -> Received:
    return exchange(url or server.url, {"Accept": "*/*"}, body, timeout=timeout, deadline=deadline, max_bytes=1000)


@contextmanager
def accepting_nobody() -> Iterator[Hostile]:
    """A server that is too busy to accept connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as waiting:
        for _ in range(2):
            first = waiting.enter_context(socket.socket())
            first.setblocking(False)
            first.connect_ex(listening.getsockname())
        yield Hostile(listening.getsockname()[1])


def test_an_answer_is_received_whole() -> None:
    with hostile(once(answer(YES))) as server:
        assert ask(server, body=None) == (200, YES)
        assert ask(server) == (200, YES)
    assert server.sent[0].startswith(b"GET /introspect HTTP/1.1\r\n")
    assert server.sent[1].startswith(b"POST /introspect HTTP/1.1\r\n")
    assert server.sent[1].endswith(b"\r\n\r\ntoken=x")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTILE: dict[str, Callable[[], Iterator[bytes]]] = {
    "one byte too many": once(answer(b" " * 1001)),
    "a length that it says and does not send": once(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n{}"),
    "without an end": endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
    "chunks without an end": endless(CHUNKED, b"400\r\n" + b" " * 1024 + b"\r\n"),
    "one chunk that is too long": once(CHUNKED + b"ffffffffff\r\n{}"),
    "chunks that are none": once(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunks that break off": once(CHUNKED + b"2\r\n{}\r\n"),
    "a body that breaks off": once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"),
    "a body in drips": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b" "),
    "chunks in drips": drip(CHUNKED, b"1\r\n \r\n"),
    "headers in drips": drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "a status in drips": drip(b"", b"H"),
    "informational answers without an end": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "all of an answer and then drips": drip(b"HTTP/1.1 200 OK\r\n\r\n" + YES, b" "),
    "silence": drip(b"", b""),
    "very many headers": once(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n{}"),
    "a very long header": once(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}"),
    "no HTTP": once(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "nothing": once(b""),
    "a negative length": once(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + b" " * 2000),
}


LATE = {name for name in HOSTILE if "drips" in name} | {"informational answers without an end", "silence"}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_server_does_it_comes_to_an_end(name: str) -> None:
    with hostile(HOSTILE[name]) as server, pytest.raises(Unreachable) as failed:
        ask(server)
    assert "token=x" not in str(failed.value)
    # An exchange that ran into a limit is told apart from one that was cut short.
    assert (type(failed.value) is Unreachable) == (name in LATE)


def test_a_server_that_drips_while_hands_are_shaken_is_hung_up_on() -> None:
    # A TLS record that never ends: each read returns a byte.
    with hostile(drip(b"\x16\x03\x03\x40\x00", b"\x02"), first=False) as server, pytest.raises(Unreachable):
        ask(server, f"https://localhost:{server.port}/introspect")


@pytest.mark.parametrize(
    "served", [accepting_nobody, lambda: hostile(HOSTILE["silence"])], ids=["connecting", "reading"]
)
def test_each_part_is_waited_for_no_longer_than_is_said(served: Callable[[], AbstractContextManager[Hostile]]) -> None:
    with served() as server, pytest.raises(Unreachable, match="TimeoutError"):
        ask(server, timeout=0.2, deadline=NEVER)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_nobody_can_connect_to_is_told_apart_from_one_that_hangs_up(scheme: str) -> None:
    with hostile(once(b""), first=False) as server:
        port = server.port if scheme == "https" else 9  # a server without TLS, and no server at all
        with pytest.raises(Unreachable) as failed:
            ask(server, f"{scheme}://localhost:{port}/introspect")
    assert type(failed.value) is Unreachable


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_no_redirect_is_followed(status: str) -> None:
    with (
        hostile(once(answer(YES))) as elsewhere,
        hostile(once(answer(YES, status, f"Location: {elsewhere.url}"))) as server,
    ):
        assert ask(server).status == int(status[:3])
    assert (server.connections, elsewhere.connections) == (1, 0)


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with hostile(once(answer(YES))) as server:
        assert ask(server).status == 200


def test_a_certificate_has_to_be_of_that_host(served_idp: tuple[Idp, Path]) -> None:
    idp, certificate = served_idp
    context = ssl.create_default_context(cafile=str(certificate))
    url = f"{idp.base}/nothing"
    given = {"timeout": 5.0, "deadline": 5.0, "max_bytes": 1000, "context": context}
    assert exchange(url, {}, **given).status == 404  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="SSLCertVerificationError"):
        exchange(url.replace("localhost", "127.0.0.1"), {}, **given)  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="SSLCertVerificationError"):
        exchange(url, {}, **given | {"context": None})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com/introspect",
        "http://127.0.0.1/introspect",  # where the issuer is not on this machine
        "https://login.example.com/introspect#x",
        "https://login.example.com/in\r\nX: y",
        "https://login.example.com/?a b",
        "ftp://login.example.com/",
    ],
)
def test_only_https_will_do(url: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_endpoint("the URL", url, "https://login.example.com")


def test_an_issuer_on_this_machine_needs_no_https() -> None:
    assert checked_endpoint("the URL", "http://localhost/x?a=b", "http://localhost") == "http://localhost/x?a=b"


# An introspection endpoint that is such a server


def source(server: Hostile) -> IntrospectionSource:
    return IntrospectionSource(
        [IntrospectedIssuer("http://localhost", server.url, client_id="directory", client_secret="secret", timeout=1)]
    )


CATALOG = ScopeCatalog({"users:read": "Read users"})


@pytest.mark.parametrize("without", ["timeout", "deadline"])
def test_each_limit_ends_the_question_without_the_other(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opaque, "exchange", lambda *asked, **limits: exchange(*asked, **limits | {without: NEVER}))
    with hostile(HOSTILE["silence"]) as server:
        trusted = IntrospectedIssuer("http://localhost", server.url, bearer_token="x")
        trusted.timeout = 0.2  # type: ignore[assignment]
        with pytest.raises(TemporarilyUnavailable):
            IntrospectionSource([trusted]).verify(Secret("opaque"), now(), CATALOG)


def test_a_yes_over_the_wire() -> None:
    with hostile(once(answer(YES))) as server:
        assert source(server).verify(Secret("opaque"), now(), CATALOG).client_id == "nightly"
    (request,) = server.sent
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b"token=opaque&token_type_hint=access_token"
    assert b"opaque" not in head
    assert b"Content-Type: application/x-www-form-urlencoded" in head


@pytest.mark.parametrize(
    "body",
    [
        b" " * MAX_BYTES + YES,
        b'{"active": true, "client_id": "nightly", "x": "' + b"x" * MAX_BYTES + b'"}',
        YES[:-1],
        YES + YES,
        b"\xff\xfe" + YES,
        YES.decode().encode("utf-16"),
    ],
)
def test_too_much_or_too_little_of_a_yes_is_none(body: bytes) -> None:
    with hostile(once(answer(body))) as server, pytest.raises(TemporarilyUnavailable):
        source(server).verify(Secret("opaque"), now(), CATALOG)


def test_a_redirect_takes_neither_the_token_nor_the_credentials_along() -> None:
    with (
        hostile(once(answer(YES))) as elsewhere,
        hostile(once(answer(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}"))) as server,
        pytest.raises(TemporarilyUnavailable),
    ):
        source(server).verify(Secret("opaque"), now(), CATALOG)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "poison",
    [answer(YES + b" " * MAX_BYTES), b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", b"no HTTP\r\n"],
    ids=["too long", "hangs up", "breaks off", "no HTTP"],
)
def test_what_a_server_does_about_one_token_keeps_nobody_else_from_theirs(poison: bytes) -> None:
    answers = iter([poison, answer(YES)])
    with hostile(lambda: iter([next(answers)])) as server:
        asking = source(server)
        with pytest.raises(TemporarilyUnavailable):
            asking.verify(Secret("poison"), now(), CATALOG)
        assert asking.verify(Secret("another"), now(), CATALOG).client_id == "nightly"
