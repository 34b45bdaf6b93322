"""A Flask service and a Django service on one database, both running: each accepts and revokes the other's tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sample_flask.playground import gunicorn

from .conftest import KEY
from .server import Server

ROOT = Path(__file__).parent.parent
MANAGE = [sys.executable, "-m", "django", "tokenguard"]
FLASK = [sys.executable, "-m", "flask", "--app", "tests.services.flask_service", "tokenguard"]


class Shared:
    """One database, the two services on it, and each one's command line."""

    def __init__(self, url: str) -> None:
        self.environ = {
            **os.environ,
            "TOKENGUARD_DATABASE_URL": url,
            "TOKENGUARD_SIGNING_KEY": KEY,
            "TOKENGUARD_STALENESS": "0",
            "DJANGO_SETTINGS_MODULE": "tests.services.django_settings",
        }
        self.servers: list[Server] = []

    def run(self, side: list[str], *arguments: str) -> str:
        done = subprocess.run([*side, *arguments], cwd=ROOT, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def statuses(self, token: str, path: str = "/read") -> list[int]:
        """Return each service's answer, asking often enough to reach both of its workers."""
        answers = [{server.get(path, token).status for _ in range(6)} for server in self.servers]
        assert [len(statuses) for statuses in answers] == [1, 1]
        return [statuses.pop() for statuses in answers]

    def seen(self, *arguments: str) -> Any:
        """Return what both command lines print, which must be the same."""
        flask, django = [self.run(side, *arguments, "--json") for side in (FLASK, MANAGE)]
        assert flask == django
        return [json.loads(line) for line in flask.splitlines()] if arguments[0] == "events" else json.loads(flask)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    shared = Shared(request.getfixturevalue(f"{request.param}_url"))
    first, then = (FLASK, MANAGE) if request.param == "sqlite" else (MANAGE, FLASK)
    shared.run(first, "init")
    shared.run(then, "init")
    with ExitStack() as running:
        for app in ("tests.services.flask_service:create_app()", "django.core.wsgi:get_wsgi_application()"):
            serving = running.enter_context(gunicorn(app, shared.environ))
            shared.servers.append(Server(int(serving.url.rpartition(":")[2]), serving.log))
        yield shared


def test_each_accepts_and_revokes_the_others_tokens(shared: Shared) -> None:
    shared.run(FLASK, "client", "add", "billing", "--scopes", "users:manage")
    of_flask = shared.run(FLASK, "issue", "billing", "--scopes", "users:read")
    of_django = shared.run(MANAGE, "issue", "billing", "--scopes", "users:read", "--expires-in", "90d")
    assert shared.statuses(of_flask) == shared.statuses(of_django) == [200, 200]
    assert shared.statuses(of_flask, "/manage") == [403, 403]

    shared.run(MANAGE, "revoke", of_flask.split("_")[1])
    assert shared.statuses(of_flask) == [401, 401]
    rotated = shared.run(FLASK, "rotate", of_django.split("_")[1], "--overlap", "0")
    assert shared.statuses(of_django) == [401, 401]
    assert shared.statuses(rotated) == [200, 200]
    shared.run(MANAGE, "client", "disable", "billing")
    assert shared.statuses(rotated) == [401, 401]
    shared.run(FLASK, "client", "enable", "billing")
    assert shared.statuses(rotated) == [200, 200]

    assert {token["state"] for token in shared.seen("list")} == {"revoked", "rotated", "active"}
    assert [event["kind"] for event in shared.seen("events")] == [
        *["client.registered", "token.issued", "token.issued", "token.revoked", "token.rotated", "token.issued"],
        *["client.disabled", "client.enabled"],
    ]
    assert shared.seen("show", rotated.split("_")[1])["last_used_at"] is not None
