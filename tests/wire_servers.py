"""The samples under each server that can run them, and tokens for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sample_flask.playground import ROOT, SAMPLES, Serving, gunicorn, run_server, uvicorn
from sample_flask.scopes import SCOPES
from tokenguard import Conditions, Issuer, ScopeCatalog, SigningKeys, TokenFormat
from tokenguard.clock import now
from tokenguard.sqlalchemy import SQLAlchemyStore

from .conftest import KEY
from .server import Server
from .services.common import HEADERS, RESOURCE

FLASK, DJANGO = "tests.services.mounted_flask", "tests.services.mounted_django"


@dataclass(frozen=True)
class Pair:
    """A sample and a server, and how to start the sample under the server."""

    sample: str
    server: str
    command: tuple[str, ...] = ()
    listening: str = ""

    @property
    def name(self) -> str:
        return f"{self.sample} under {self.server}"

    @property
    def speaks_http_09(self) -> bool:
        """Whether its answer to an unreadable request line has no status line, as that of Python's http.server."""
        return self.server in ("werkzeug", "runserver")


PAIRS = [
    Pair("flask", "gunicorn", (f"{FLASK}:create_app()",)),
    Pair("flask", "waitress", ("waitress", "--listen=127.0.0.1:0", "--call", f"{FLASK}:create_app"), "Serving on"),
    Pair("flask", "werkzeug", ("flask", "--app", FLASK, "run", "--port", "0"), "Running on"),
    Pair("flask", "uvicorn", (f"{FLASK}:create_asgi_app", "--factory")),
    Pair("django", "gunicorn", (f"{DJANGO}:application",)),
    Pair("django", "waitress", ("waitress", "--listen=127.0.0.1:0", f"{DJANGO}:application"), "Serving on"),
    Pair("django", "runserver", ("django", "runserver", "--noreload", "127.0.0.1:0"), "development server at"),
    Pair("django", "uvicorn", (f"{DJANGO}:asgi_application",)),
]

#: Seconds to wait for servers that drop even a complete request once its sender has shut down its side.
_PATIENCE = {"uvicorn": 5.0, "waitress": 3.0}


@dataclass
class Databases:
    """A sample's databases in a folder, with an issuer of its tokens."""

    sample: str
    folder: Path
    environ: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        settings = SAMPLES[self.sample].settings(self.folder)
        if self.sample == "django":
            settings["DJANGO_SETTINGS_MODULE"] = "tests.services.mounted_settings"
        self.environ = {
            **os.environ,
            **settings,
            "TOKENGUARD_SIGNING_KEY": KEY,
            "TOKENGUARD_HEADERS": " ".join(HEADERS),
            "TOKENGUARD_RESOURCE": RESOURCE,
            "PYTHONUNBUFFERED": "1",
        }
        if self.sample == "django":
            migrate = [sys.executable, *SAMPLES["django"].arguments, "migrate", "--verbosity", "0"]
            subprocess.run(migrate, env=self.environ, cwd=ROOT, check=True)
        name = "directory.db" if self.sample == "django" else "tokens.db"
        self.store = SQLAlchemyStore(f"sqlite:///{self.folder / name}")
        self.store.upgrade()
        self.issuer = self.issuer_at()
        self.issuer.register("tests", "*", actor="tests")

    def issuer_at(self, micros: int | None = None) -> Issuer:
        """Return an issuer whose clock stands at that time (microseconds); without one, it is the real clock."""
        clock = now if micros is None else lambda: micros
        return Issuer(self.store, TokenFormat(SigningKeys(KEY)), catalog=ScopeCatalog(SCOPES), clock=clock)

    def issue(self, scopes: str = "okta.users.read", conditions: Conditions | None = None) -> str:
        """Issue a token and return its text."""
        given = conditions or Conditions()
        return self.issuer.issue("tests", scopes, conditions=given, actor="tests").text.reveal()

    def close(self) -> None:
        self.store.close()


@dataclass
class Target:
    """A running pair."""

    pair: Pair
    databases: Databases
    server: Server

    @cached_property
    def token(self) -> bytes:
        """A good token, which may read users."""
        return self.databases.issue().encode()


@contextmanager
def opened(sample: str, folder: Path) -> Iterator[Databases]:
    databases = Databases(sample, folder)
    try:
        yield databases
    finally:
        databases.close()


@contextmanager
def started(pair: Pair, databases: Databases) -> Iterator[Target]:
    """Run the pair with one worker until the block ends."""
    with _serve(pair, databases.environ) as serving:
        server = Server(int(serving.url.rpartition(":")[2]), serving.log, _PATIENCE.get(pair.server, 0.2))
        assert server.get("/").status == 200  # the first request is slow, since much is created on first use
        yield Target(pair, databases, server)


def _serve(pair: Pair, environ: dict[str, str]) -> AbstractContextManager[Serving]:
    if pair.server in ("gunicorn", "uvicorn"):
        serve = gunicorn if pair.server == "gunicorn" else uvicorn
        return serve(pair.command[0], environ, workers=1, options=pair.command[1:])
    return run_server(pair.command, environ, pair.listening, pair.listening, 1)
