"""Who takes part: an application, the requests it is sent, and what it must answer."""

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

#: Makes a package's contestants, given a folder for its database.
Maker = Callable[[Path], Iterator["Contestant"]]
#: A guarded application, and what has to be set before its turns.
Guarded: TypeAlias = "tuple[WSGIApplication, Callable[[], None]]"


def environ(authorization: str) -> WSGIEnvironment:
    """A request as a server hands it over, from a caller behind a proxy."""
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
    """Nothing has to be set."""


@dataclass(frozen=True)
class Contestant:
    """One way to guard the view, under one kind of request. Requests go through ``tokens`` in a circle."""

    name: str
    app: WSGIApplication
    tokens: Sequence[str]
    #: What the tokens are sent as.
    word: str = "Bearer"
    status: int = 200
    #: Whether the answer must tell caches that it is for this caller, or none for them, and a refusal its challenge.
    marked: bool = False
    #: What has to be set before its turns.
    enter: Callable[[], None] = nothing
    environs: Iterator[WSGIEnvironment] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        circle = cycle([environ(f"{self.word} {token}") for token in self.tokens])
        object.__setattr__(self, "environs", circle)

    def check(self) -> None:
        """Raises AssertionError unless it answers every request as it must."""
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
    """What is compared with each other: all in one framework, against the same application without a guard."""

    framework: str
    bare: Contestant
    contestants: Sequence[Contestant]


class Statements:
    """Counts what SQLite is asked to do, by whatever way."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self.count = 0

    def watch(self, connection: Any, record: Any = None) -> None:
        """To be called with each connection that is opened."""
        self.connections.append(connection)

    def per_request(self, contestant: Contestant) -> float:
        """Statements for each request that the contestant answers, but for what is done once in a while."""
        contestant.enter()
        _answer_one(contestant)
        self._trace(self._counted)
        counts = [self._of_some(contestant) for _ in range(COUNTS)]
        self._trace(None)
        return statistics.median(counts) / COUNTED

    def _of_some(self, contestant: Contestant) -> int:
        self.count = 0
        for _ in range(COUNTED):
            _answer_one(contestant)
        return self.count

    def _counted(self, statement: str) -> None:
        self.count += 1

    def _trace(self, callback: Callable[[str], object] | None) -> None:
        for connection in self.connections:
            connection.set_trace_callback(callback)


def _answer_one(contestant: Contestant) -> None:
    run_wsgi_app(contestant.app, next(contestant.environs).copy(), buffered=True)


def gather(makers: Mapping[str, Maker], folder: Path, left_out: list[str]) -> list[Contestant]:
    """All contestants whose packages are installed; ``left_out`` is told of the others."""
    found: list[Contestant] = []
    for name, make in makers.items():
        try:
            found += make(folder)
        except ModuleNotFoundError as error:
            left_out.append(f"{name}, since {error.name} is not installed")
    return found
