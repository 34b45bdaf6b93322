"""The sample service set up from nothing in a folder of its own: real commands, a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS_TO_START = 60
WORKERS = 2


class PlaygroundError(Exception):
    """A command or the server failed; the message holds what it said."""


class Playground:
    """Databases and a signing key in ``folder``, and the environment that points at them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "FLASK_APP": "sample_flask",
            "SAMPLE_DATABASE_URL": f"sqlite:///{folder / 'directory.db'}",
            "TOKENGUARD_DATABASE_URL": f"sqlite:///{folder / 'tokens.db'}",
        }
        self.settings["TOKENGUARD_SIGNING_KEY"] = self._run(sys.executable, "-m", "tokenguard", "genkey")

    @property
    def environ(self) -> dict[str, str]:
        """The environment of everything that runs here."""
        return {**os.environ, **self.settings}

    def tokenguard(self, *arguments: str) -> str:
        """Run ``flask tokenguard …``; returns its standard output. Raises PlaygroundError if it is refused."""
        return self._run(sys.executable, "-m", "flask", "tokenguard", *arguments)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """The service under gunicorn with WORKERS workers; its URL, on a free port unless one is named."""
        with gunicorn("sample_flask:app", self.environ, port=port) as serving:
            yield serving.url

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environ, cwd=ROOT, text=True, capture_output=True)
        if done.returncode != 0:
            raise PlaygroundError(f"{' '.join(command[2:])} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()


class Serving:
    """A running server: its URL, and the lines that it has logged."""

    def __init__(self, process: subprocess.Popen[str], workers: int) -> None:
        self.log: list[str] = []
        self._process, self._workers = process, workers
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where it listens, once all its workers are up; raises PlaygroundError with its log if it does not start."""
        self._started.wait(SECONDS_TO_START)
        log = "".join(self.log)
        found = re.search(r"Listening at: (http://[0-9.]+:[0-9]+)", log)
        if found is None or self._process.poll() is not None:
            raise PlaygroundError(f"the server did not start:\n{log}")
        return found[1]

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        self._process.terminate()
        self._process.wait(timeout=30)
        self._reader.join()

    def _read(self) -> None:
        # To the end, or the server would wait for somebody to take its log.
        with self._process.stderr as lines:  # type: ignore[union-attr]
            for line in lines:
                self.log.append(line)
                if sum("Booting worker" in seen for seen in self.log) == self._workers:
                    self._started.set()
        self._started.set()


@contextmanager
def gunicorn(
    app: str, environ: dict[str, str], *, port: int = 0, workers: int = WORKERS, options: Sequence[str] = ()
) -> Iterator[Serving]:
    """``app`` under gunicorn on a loopback port (0: a free one), until the block ends."""
    where = ["--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
    command = [sys.executable, "-m", "gunicorn", *where, *options, app]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as process:
        serving = Serving(process, workers)
        try:
            yield serving
        finally:
            serving.stop()
