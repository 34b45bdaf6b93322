"""Real servers: one for an application of the test's own, and a client of any that sends exactly what it is given."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-5][0-9][0-9] [\t -~\x80-\xff]*\r\n")
_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*\r\n")


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve the application on a real port; yields its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """Return the answer that a framework's own test client received."""
        found = http.client.HTTPMessage()
        for name, value in headers:
            found.add_header(name, value)
        return cls(status, found, body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    port: int
    log: list[str]
    #: Seconds for which it may leave raw bytes unanswered before the client shuts down its sending side.
    patience: float = 0.5

    def request(
        self, method: str, path: str, headers: Sequence[tuple[str, str | bytes]] = (), body: bytes | None = None
    ) -> Answer:
        """Send a request with ``headers`` as they are, duplicates included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            given = {name.lower() for name, _ in headers}
            connection.putrequest(method, path, skip_accept_encoding=True, skip_host="host" in given)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None and "transfer-encoding" not in given:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def send(self, data: bytes) -> list[Answer]:
        """Send exactly these bytes and return the answers that came until the connection was closed.

        An answer without a status line has the status 0. Raises MalformedAnswer for what is not HTTP.
        """
        received = self._exchange(data).removeprefix(_CONTINUE)
        return list(_answers(received, data.partition(b" ")[0].decode("latin-1")))

    def _exchange(self, data: bytes) -> bytes:
        received = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            # The server may close before it has read everything: what it sent until then is an answer too.
            with suppress(ConnectionError):
                connection.sendall(data)
            connection.settimeout(self.patience)
            is_waiting = False
            with suppress(ConnectionError):
                while True:
                    try:
                        more = connection.recv(65536)
                    except TimeoutError:
                        assert not is_waiting, f"it neither answers nor closes: {data[:500]!r}"
                        is_waiting = True
                        connection.settimeout(30)
                        connection.shutdown(socket.SHUT_WR)
                        continue
                    if not more:
                        break
                    received += more
        return bytes(received)

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.request("GET", path, [] if token is None else [("Authorization", f"Bearer {token}")])


class MalformedAnswer(Exception):
    """A server has sent something that is not HTTP (RFC 9112)."""


class _Stream(io.BytesIO):
    """A socket to http.client that stays open, although http.client closes it after each answer."""

    def makefile(self, mode: str) -> _Stream:
        return self

    def close(self) -> None:
        pass


def _answers(received: bytes, method: str) -> Iterator[Answer]:
    stream = _Stream(received)
    while (start := stream.tell()) < len(received):
        if not received.startswith(b"HTTP/", start):
            yield Answer(0, http.client.HTTPMessage(), stream.read())
            return
        line = _STATUS_LINE.match(received, start)
        if line is None or _FIELD_LINES.match(received, line.end()) is None:
            raise MalformedAnswer(received[start : start + 500])
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            yield Answer(response.status, response.headers, response.read())
        except http.client.HTTPException as error:
            raise MalformedAnswer(received[start : start + 500]) from error
