"""A sample service set up from nothing in a folder of its own: real commands, a real server.

It runs both samples, and needs neither framework itself: :data:`SAMPLES` has what differs between them.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS_TO_START = 60
WORKERS = 2


class PlaygroundError(Exception):
    """A command or the server failed; the message holds its output."""


@dataclass(frozen=True)
class Sample:
    """How one of the samples is run, from the checkout's root."""

    #: The application, for gunicorn.
    app: str
    #: Its command line as one types it, and the arguments of Python for that.
    command: str
    arguments: tuple[str, ...]
    #: The command that creates the tables.
    tables: tuple[str, ...]
    #: The environment for databases in a folder.
    settings: Callable[[Path], dict[str, str]]
    #: Whether it has Django's admin.
    has_admin: bool = False


def _flask_settings(folder: Path) -> dict[str, str]:
    return {
        "FLASK_APP": "sample_flask",
        "SAMPLE_DATABASE_URL": f"sqlite:///{folder / 'directory.db'}",
        "TOKENGUARD_DATABASE_URL": f"sqlite:///{folder / 'tokens.db'}",
    }


def _django_settings(folder: Path) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "sample_django.settings",
        "DJANGO_DATABASE": str(folder / "directory.db"),
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "DJANGO_ALLOWED_HOSTS": "127.0.0.1 localhost",
        # As in production, except for what needs HTTPS.
        "DJANGO_DEBUG": "0",
        "DJANGO_HTTPS": "0",
    }


SAMPLES = {
    "flask": Sample(
        app="sample_flask:app",
        command="flask",
        arguments=("-m", "flask"),
        tables=("tokenguard", "init"),
        settings=_flask_settings,
    ),
    "django": Sample(
        app="sample_django.wsgi:application",
        command="sample_django/manage.py",
        # Whole, for the lines of make run: another terminal starts in another folder.
        arguments=(str(ROOT / "sample_django" / "manage.py"),),
        tables=("migrate",),
        settings=_django_settings,
        has_admin=True,
    ),
}


def chosen_sample(arguments: Sequence[str]) -> Sample:
    """Return the sample that a command line names, Flask's if it names none; raises PlaygroundError."""
    name = "".join(arguments) or "flask"
    if name not in SAMPLES:
        raise PlaygroundError(f"there is no sample {name!r}, only {' and '.join(SAMPLES)}")
    return SAMPLES[name]


class Playground:
    """Databases and keys in ``folder``, and the environment that points at them."""

    def __init__(self, folder: Path, sample: Sample = SAMPLES["flask"]) -> None:
        self.folder = folder
        self.sample = sample
        self.settings = sample.settings(folder)
        self.settings["TOKENGUARD_SIGNING_KEY"] = self._run("-m", "tokenguard", "genkey")

    @property
    def environ(self) -> dict[str, str]:
        """The environment of everything that runs here."""
        return {**os.environ, **self.settings}

    def run(self, *arguments: str, **environ: str) -> str:
        """Run the sample's ``flask …`` or ``manage.py …``; returns its standard output.

        Raises PlaygroundError if the command fails.
        """
        return self._run(*self.sample.arguments, *arguments, **environ)

    def tokenguard(self, *arguments: str) -> str:
        """Run the sample's ``… tokenguard …`` in the same way."""
        return self.run("tokenguard", *arguments)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """Serve the sample under gunicorn with WORKERS workers; yields its URL, on a free port unless one is named."""
        with gunicorn(self.sample.app, self.environ, port=port) as serving:
            yield serving.url

    def _run(self, *arguments: str, **environ: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env={**self.environ, **environ}, cwd=ROOT, text=True, capture_output=True)
        if done.returncode != 0:
            raise PlaygroundError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()


class Serving:
    """A running server: its URL, and the lines that it has logged."""

    def __init__(self, process: subprocess.Popen[str], listening: str, ready: str, workers: int) -> None:
        self.log: list[str] = []
        self._process, self._listening, self._ready, self._workers = process, listening, ready, workers
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        """Its URL, once all its workers are up; raises PlaygroundError with its log if it does not start."""
        self._started.wait(SECONDS_TO_START)
        log = "".join(self.log)
        found = re.search(rf"{self._listening} (http://[0-9.]+:([0-9]+))", log)
        if found is None or not self._answers(int(found[2])):
            raise PlaygroundError(f"the server did not start:\n{log}")
        return found[1]

    def stop(self) -> None:
        """Stop the server, and wait until it is gone."""
        self._process.terminate()
        self._process.wait(timeout=30)
        self._reader.join()

    def _answers(self, port: int) -> bool:
        # uvicorn's workers say that they are ready a moment before they listen.
        while self._process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return True
            time.sleep(0.05)
        return False

    def _read(self) -> None:
        # Read to the end, or a full pipe would block the server.
        with self._process.stdout as lines:  # type: ignore[union-attr]
            for line in lines:
                self.log.append(line)
                ready = sum(self._ready in seen for seen in self.log) == self._workers
                if ready and any(self._listening in seen for seen in self.log):
                    self._started.set()
        self._started.set()


@contextmanager
def gunicorn(
    app: str, environ: dict[str, str], *, port: int = 0, workers: int = WORKERS, options: Sequence[str] = ()
) -> Iterator[Serving]:
    """Serve ``app`` under gunicorn on a loopback port (0: a free one), until the block ends."""
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", str(workers), *options, app]
    with run_server(command, environ, "Listening at:", "Booting worker", workers) as serving:
        yield serving


@contextmanager
def uvicorn(
    app: str, environ: dict[str, str], *, port: int = 0, workers: int = WORKERS, options: Sequence[str] = ()
) -> Iterator[Serving]:
    """Serve ``app``, an ASGI application, under uvicorn in the same way."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    # By default uvicorn trusts X-Forwarded-For from anybody on this machine.
    command = ["uvicorn", *where, "--no-proxy-headers", "--no-access-log", *options, app]
    with run_server(command, environ, "Uvicorn running on", "startup complete", workers) as serving:
        yield serving


@contextmanager
def run_server(
    command: Sequence[str], environ: dict[str, str], listening: str, ready: str, workers: int
) -> Iterator[Serving]:
    """Run the server ``python -m command`` until the block ends.

    ``listening`` is what it logs before its URL, and ``ready`` is what each of its ``workers`` logs.
    """
    whole = [sys.executable, "-m", *command]
    # Some servers log where they listen to standard output, some to standard error.
    out, err = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(whole, cwd=ROOT, env=environ, stdout=out, stderr=err, text=True) as process:
        serving = Serving(process, listening, ready, workers)
        try:
            yield serving
        finally:
            serving.stop()
