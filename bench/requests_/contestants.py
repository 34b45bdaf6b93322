"""The contestants: an application, the requests that it is sent, and what it must answer."""

from __future__ import annotations

import io
import sqlite3
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

#: How many requests are sent while their statements are counted, and how often.
COUNTED, COUNTS = 40, 5

#: Returns a package's contestants, given a folder for its database.
Maker = Callable[[Path], Iterator["Contestant"]]
#: A guarded application, and a function that sets what its turns need.
Guarded: TypeAlias = "tuple[WSGIApplication, Callable[[], None]]"


def environ(authorization: str) -> WSGIEnvironment:
    """Return a request as a server passes it on, from a caller behind a proxy."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/users",
        "QUERY_STRING": "",
        "RAW_URI": "/users",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "52144",
        "HTTP_HOST": "api.example.com",
        "HTTP_USER_AGENT": "billing/1.0",
        "HTTP_ACCEPT": "application/json",
        "HTTP_ACCEPT_ENCODING": "gzip",
        "HTTP_X_FORWARDED_FOR": "192.0.2.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_AUTHORIZATION": authorization,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def nothing() -> None:
    """Set nothing."""


@dataclass(frozen=True)
class Contestant:
    """One way to guard the view, under one kind of request. Requests cycle through ``tokens``."""

    name: str
    app: WSGIApplication
    tokens: Sequence[str]
    #: The scheme with which the tokens are sent.
    word: str = "Bearer"
    status: int = 200
    #: Whether answers must carry headers for caches (``private``; refusals ``no-store``), and refusals a challenge.
    marked: bool = False
    #: Sets what its turns need.
    enter: Callable[[], None] = nothing
    environs: Iterator[WSGIEnvironment] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        circle = cycle([environ(f"{self.word} {token}") for token in self.tokens])
        object.__setattr__(self, "environs", circle)

    def check(self) -> None:
        """Raise AssertionError unless it answers every request as it must."""
        self.enter()
        for _ in self.tokens:
            body, status, headers = run_wsgi_app(self.app, next(self.environs).copy(), buffered=True)
            assert status.startswith(str(self.status)), f"{self.name}: {status}, not {self.status}"
            assert self.status != 200 or b"users" in b"".join(body), self.name
            if self.marked:
                caching, challenged = ("private", False) if self.status == 200 else ("no-store", True)
                assert "Authorization" in headers.get("Vary", ""), f"{self.name}: {headers}"
                assert headers.get("Cache-Control") == caching, f"{self.name}: {headers}"
                assert ("WWW-Authenticate" in headers) is challenged, f"{self.name}: {headers}"


@dataclass(frozen=True)
class Arena:
    """Contestants that are compared: all in one framework, against the same application without a guard."""

    framework: str
    bare: Contestant
    contestants: Sequence[Contestant]


class Statements:
    """Counts the statements that SQLite runs, whatever sends them."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self.count = 0

    def watch(self, connection: Any, record: Any = None) -> None:
        """Count on this connection, too; call it with each that is opened."""
        self.connections.append(connection)

    def per_request(self, contestant: Contestant) -> float:
        """Return the contestant's statements for each request, except for those that are only sent now and then."""
        contestant.enter()
        answer_one(contestant)
        self._trace(self._counted)
        counts = [self._of_some(contestant) for _ in range(COUNTS)]
        self._trace(None)
        return statistics.median(counts) / COUNTED

    def _of_some(self, contestant: Contestant) -> int:
        self.count = 0
        for _ in range(COUNTED):
            answer_one(contestant)
        return self.count

    def _counted(self, statement: str) -> None:
        self.count += 1

    def _trace(self, callback: Callable[[str], object] | None) -> None:
        for connection in self.connections:
            connection.set_trace_callback(callback)


def answer_one(contestant: Contestant) -> None:
    """Let the contestant answer its next request."""
    run_wsgi_app(contestant.app, next(contestant.environs).copy(), buffered=True)


def gather(makers: Mapping[str, Maker], folder: Path, left_out: list[str]) -> list[Contestant]:
    """Return all contestants whose packages are installed; the others are added to ``left_out``."""
    found: list[Contestant] = []
    for name, make in makers.items():
        try:
            found += make(folder)
        except ModuleNotFoundError as error:
            left_out.append(f"{name}, since {error.name} is not installed")
    return found
