"""Persistent connections to a server's workers: each stays with one worker, whose process id the view returns."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple


class Answer(NamedTuple):
    """An answer, and when its request was begun (monotonic clock)."""

    status: int
    body: bytes
    begun: float


class Connection:
    """One connection, for one request after another."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: The worker's process id, once it is known.
        self.worker = 0

    def get(self, path: str, token: str) -> Answer:
        """Ask for ``path`` with this token; raises ConnectionError when the server has gone."""
        request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        begun = time.monotonic()
        self.socket.sendall(request)
        head, _, body = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: ([0-9]+)", head)
        while length is not None and len(body) < int(length[1]):
            body += self._more()
        return Answer(int(head[9:12]), body, begun)

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _until(self, end: bytes) -> bytes:
        received = b""
        while end not in received:
            received += self._more()
        return received

    def _more(self) -> bytes:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError("the server has closed the connection")
        return received


@contextmanager
def one_to_each(port: int, workers: int) -> Iterator[list[Connection]]:
    """Open a connection to each of so many workers; ``/bare`` returns which worker answers."""
    with ExitStack() as stack:
        found: dict[int, Connection] = {}
        for _ in range(1000):
            connection = Connection(port)
            stack.callback(connection.close)
            pid = re.search(rb'"worker": *([0-9]+)', connection.get("/bare", "-").body)
            assert pid is not None
            connection.worker = int(pid[1])
            if found.setdefault(connection.worker, connection) is not connection:
                connection.close()  # the kernel chooses the worker, and chose one that is connected already
            if len(found) == workers:
                yield list(found.values())
                return
        raise RuntimeError(f"only {len(found)} of {workers} workers were reached")
