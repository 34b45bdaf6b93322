"""A real gunicorn on a free loopback port, and a client that sends exactly what it is told to."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

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
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.request("GET", path, [] if token is None else [("Authorization", f"Bearer {token}")])


@contextmanager
def gunicorn(
    app: str, environ: Mapping[str, str], *, workers: int = 2, options: Sequence[str] = ()
) -> Iterator[Server]:
    """Runs ``app`` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", f"--workers={workers}", *options, app],
        cwd=ROOT,
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    started = threading.Event()
    reader = threading.Thread(target=_read, args=(process, workers, log, started))
    reader.start()
    try:
        assert started.wait(timeout=60)
        port = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", "".join(log))
        assert port, "gunicorn did not start:\n" + "".join(log)
        yield Server(int(port[1]), log)
    finally:
        process.terminate()
        process.wait(timeout=30)
        reader.join()


def _read(process: subprocess.Popen[str], workers: int, log: list[str], started: threading.Event) -> None:
    # To the end, or the server would wait for somebody to take its log.
    with process.stderr as lines:  # type: ignore[union-attr]
        for line in lines:
            log.append(line)
            if sum("Booting worker" in line for line in log) == workers:
                started.set()
    started.set()
