"""A client of a real server that sends exactly what it is told to."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @classmethod
    def of(cls, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
        """What a framework's own test client got."""
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

    def request(
        self, method: str, path: str, headers: Sequence[tuple[str, str | bytes]] = (), body: bytes | None = None
    ) -> Answer:
        """Sends ``headers`` as they are, duplicates and all."""
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

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.request("GET", path, [] if token is None else [("Authorization", f"Bearer {token}")])
