"""The samples as the tests use them: each a directory that can be reset, and clients of it."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from flask.testing import FlaskClient

from sample_flask import create_app
from sample_flask.playground import SAMPLES, Playground, Serving, gunicorn, uvicorn
from sample_flask.scopes import SCOPES
from tokenguard import Issuer, ScopeCatalog, SigningKeys, TokenFormat
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.testing import as_client

from .server import Answer, Server

EVERYTHING = "okta.users.manage okta.groups.read"


class Api(Protocol):
    """Sends requests to a sample, with a token or without."""

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer: ...


@dataclass
class Client:
    """The requests of a client, in the form in which tests write them."""

    api: Api
    root: str

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> Answer:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: Any) -> Answer:
        return self.request("PUT", path, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self.request("DELETE", path, **more)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        sent: object = None,
    ) -> Answer:
        """Send a request, with ``sent`` as JSON; the path may be a URL that an answer contained."""
        path = path.removeprefix(self.root) + (f"?{urlencode(query)}" if query else "")
        headers = dict(headers or {})
        if body is not None or sent is not None:
            headers["Content-Type"] = "application/json"
        return self.api.request(method, path, headers, json.dumps(sent).encode() if sent is not None else body)


class Sample(Protocol):
    """One of the samples, running."""

    #: Where its URLs begin.
    root: str

    def client(self, scopes: str = "") -> Client:
        """Return a client whose token has these scopes, or for no scopes one without a token."""

    def client_with(self, token: str) -> Client:
        """Return a client that sends this token."""

    def reset(self) -> None:
        """Restore the directory to what it was at first."""

    def log(self) -> str: ...


@dataclass
class _FlaskApi:
    client: FlaskClient

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        response = self.client.open(path, method=method, headers=headers, data=body)
        return Answer.of(response.status_code, response.headers, response.data)


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class FlaskSample:
    """The Flask sample in this process, a new application for each test."""

    root = "http://localhost"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = _Lines()
        self._start()

    def reset(self) -> None:
        self.close()
        for old in self._folder.iterdir():
            old.unlink()
        self._start()

    def _start(self) -> None:
        self.app = create_app(
            {
                "TESTING": True,
                "TOKENGUARD_SIGNING_KEY": "a key for tests alone of 32 bytes",
                "TOKENGUARD_DATABASE_URL": "memory://",
                "SAMPLE_DATABASE_URL": f"sqlite:///{self._folder / 'd.db'}",
            }
        )
        self.issuer = self.app.extensions["tokenguard"].issuer
        self.app.logger.handlers[:] = [self._log]
        self.app.logger.setLevel("INFO")

    def close(self) -> None:
        self.app.extensions["sample_directory"].close()

    def client(self, scopes: str = "") -> Client:
        return Client(_FlaskApi(self.test_client(scopes)), self.root)

    def test_client(self, scopes: str = "") -> FlaskClient:
        """Return Flask's own test client, with a token or without as for :meth:`client`."""
        return as_client(self.app, scopes=scopes, client=f"tests {scopes}") if scopes else self.app.test_client()

    def client_with(self, token: str) -> Client:
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return Client(_FlaskApi(client), self.root)

    def log(self) -> str:
        return "\n".join(self._log.lines)


@dataclass
class _ServedApi:
    server: Server
    token: str

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        credential = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.server.request(method, path, list({**(headers or {}), **credential}.items()), body)


@contextmanager
def issuer_on(playground: Playground) -> Iterator[Issuer]:
    """The granting side of either sample, in this process: the sample's command line takes a second each time."""
    file = playground.settings.get("DJANGO_DATABASE")
    url = f"sqlite:///{file}" if file else playground.settings["TOKENGUARD_DATABASE_URL"]
    with closing(SQLAlchemyStore(url)) as store:
        tokens = TokenFormat(SigningKeys(playground.settings["TOKENGUARD_SIGNING_KEY"]))
        yield Issuer(store, tokens, catalog=ScopeCatalog(SCOPES))


class DjangoSample:
    """The Django sample under a real server."""

    def __init__(self, playground: Playground, serving: Serving, issuer: Issuer) -> None:
        self.playground = playground
        self.root = serving.url
        self.server = Server(int(self.root.rpartition(":")[2]), serving.log)
        self._tokens = {"": ""}
        self._issuer = issuer
        with self.database() as database:
            self._users = database.execute("SELECT * FROM directory_user").fetchall()

    def client(self, scopes: str = "") -> Client:
        if scopes not in self._tokens:
            client = self._issuer.register(f"tests {scopes}", scopes, actor="tests")
            self._tokens[scopes] = self._issuer.issue(client.id, scopes, actor="tests").text.reveal()
        return self.client_with(self._tokens[scopes])

    def client_with(self, token: str) -> Client:
        return Client(_ServedApi(self.server, token), self.root)

    def reset(self) -> None:
        with self.database() as database:
            database.execute("DELETE FROM directory_user")
            database.executemany(f"INSERT INTO directory_user VALUES ({','.join('?' * 8)})", self._users)

    def log(self) -> str:
        self.client().get("/")  # the log arrives through a pipe: a request gives it a moment
        return "".join(self.server.log)

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        path = self.playground.settings["DJANGO_DATABASE"]
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            yield connection


def _gunicorn(environ: dict[str, str]) -> AbstractContextManager[Serving]:
    return gunicorn("sample_django.wsgi:application", environ)


def _uvicorn(environ: dict[str, str]) -> AbstractContextManager[Serving]:
    return uvicorn("sample_django.asgi:application", environ)


SERVERS = {"gunicorn": _gunicorn, "uvicorn": _uvicorn}


@contextmanager
def django_sample(folder: Path, server: str) -> Iterator[DjangoSample]:
    """Run the Django sample on a new database under ``gunicorn`` or ``uvicorn``; warnings are errors there too."""
    playground = Playground(folder, SAMPLES["django"])
    playground.settings["PYTHONWARNINGS"] = "error"
    # Every worker must see at once what another has done to a token.
    playground.settings["TOKENGUARD_STALENESS"] = "0"
    playground.run("migrate")
    with SERVERS[server](playground.environ) as serving:
        with issuer_on(playground) as issuer:
            yield DjangoSample(playground, serving, issuer)
        # Where Python cannot raise a warning, as for a file that was not closed, it still logs it.
        log = "".join(serving.log)
        assert "Warning:" not in log, log


@contextmanager
def flask_sample(folder: Path) -> Iterator[FlaskSample]:
    """The Flask sample, in this process."""
    sample = FlaskSample(folder)
    yield sample
    sample.close()
