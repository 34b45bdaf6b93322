"""The Flask sample: what the suite of the directory does not ask of both samples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sample_flask import seed
from sample_flask.directory import Directory
from sample_flask.lifecycle import deleted

from .samples import EVERYTHING, FlaskSample, flask_sample
from .test_sample_directory import ADA, GUARDED, TOKENS, USERS, profile

ROOT = Path(__file__).parent.parent


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[FlaskSample]:
    with flask_sample(tmp_path) as sample:
        yield sample


@pytest.fixture
def api(sample: FlaskSample) -> FlaskClient:
    return sample.test_client(EVERYTHING)


def test_the_guarded_paths_are_all_there_are(sample: FlaskSample) -> None:
    found: dict[str, set[str]] = {}
    for rule in sample.app.url_map.iter_rules():
        if ".not_" in rule.endpoint:  # these answer the methods that a path does not have
            continue
        path = re.sub("<[a-z_]+>", "x", rule.rule)
        found.setdefault(path, set()).update((rule.methods or set()) - {"OPTIONS", "HEAD"})
    assert found.pop("/") == {"GET"}
    assert found.pop(f"{TOKENS}/current") == {"DELETE"}
    assert found == {path: set(methods) for path, methods in GUARDED.items()}


def test_an_unused_token_ends_after_thirty_days_as_at_okta(sample: FlaskSample) -> None:
    owner = sample.issuer.register("tests", "okta.users.read", actor="tests")
    token = sample.issuer.issue(owner.id, "okta.users.read", actor="tests").token
    assert token.idle_timeout == 30 * 86_400 * 1_000_000


class TestHostileInput:
    @pytest.mark.parametrize("host", ["", "a b", "<script>", "[", "evil.example:99999999"])
    def test_a_strange_host_is_as_good_as_any(self, api: FlaskClient, host: str) -> None:
        for path in (USERS, ADA):
            assert api.get(path, headers={"Host": host}).status_code == 200

    def test_a_host_that_cannot_be(self, api: FlaskClient) -> None:
        assert _error(api.get(USERS, headers={"Host": "x" * 300})) == (400, "E0000001")

    def test_only_the_hosts_that_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAMPLE_TRUSTED_HOSTS", "directory.example www.directory.example")
        with flask_sample(tmp_path) as sample:
            api = sample.test_client(EVERYTHING)
            assert _error(api.get(USERS)) == (400, "E0000001")
            assert api.get(USERS, headers={"Host": "www.directory.example"}).status_code == 200

    @pytest.mark.parametrize(("size", "status"), [(1_000, 200), (16_384, 200), (16_385, 413), (17_000, 413)])
    def test_chunked_bodies(self, api: FlaskClient, size: int, status: int) -> None:
        environ = {"wsgi.input": BytesIO(profile().ljust(size)), "wsgi.input_terminated": True}
        assert api.post(USERS, environ_overrides=environ).status_code == status

    def test_a_body_that_stops_short(self, api: FlaskClient) -> None:
        answer = api.post(USERS, data=profile(), environ_overrides={"CONTENT_LENGTH": "5000"})
        assert _error(answer) == (400, "E0000003")

    def test_a_fault_of_ours_is_told_in_the_same_form(
        self, sample: FlaskSample, api: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample.app.config["PROPAGATE_EXCEPTIONS"] = False
        monkeypatch.setattr(Directory, "user", lambda self, key: 1 / 0)
        answer = api.get(ADA)
        assert _error(answer) == (500, "E0000009")
        assert b"division" not in answer.data


def _error(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    return answer.status_code, answer.json["errorCode"]


# Reports that it is ready, waits for a line, and then starts the service.
START = """
import sys
from sample_flask.directory import Directory
print("ready", flush=True)
sys.stdin.readline()
directory = Directory(sys.argv[1])
print(len(directory.users(1000).items), len(directory.groups(1000).items))
"""


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str], line: str = "") -> str:
    out, err = process.communicate(line, timeout=60)
    assert process.returncode == 0, err
    return out


class TestStart:
    def test_processes_that_start_at_once_fill_the_directory_once(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        workers = [run("-c", START, url, cwd=tmp_path) for _ in range(4)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        assert [output(worker) for worker in workers] == [f"{seed.PEOPLE} 12\n"] * 4

    def test_a_start_that_stopped_halfway(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        with monkeypatch.context() as patched:
            patched.setattr(seed, "groups", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                Directory(url)
        directory = Directory(url)
        assert len(directory.users(1000).items) == seed.PEOPLE
        directory.close()

    def test_what_was_changed_survives_a_restart(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/d.db"
        for expected in (seed.PEOPLE, 0):
            directory = Directory(url)
            assert len(directory.users(1000).items) == expected
            for user in directory.users(1000).items:
                directory.change_user(user.id, deleted)
            directory.close()

    def test_only_sqlite_will_do(self) -> None:
        with pytest.raises(ValueError, match="SAMPLE_DATABASE_URL"):
            Directory("postgresql://localhost/directory")

    def test_the_people_are_the_same_everywhere(self) -> None:
        first, *_, last = seed.people()
        assert (first["id"], last["id"]) == ("00uvPEReAvQ5AtGf3Sg5", "00uh23Kk50Dv8wHRq3Hn")
        assert len({person["login_key"] for person in seed.people()}) == seed.PEOPLE

    def test_importing_opens_no_database_and_loads_no_framework(self, tmp_path: Path) -> None:
        shared = "lifecycle, okta, people, playground, scopes, seed"
        output(
            run("-c", f"from sample_flask import {shared}; import sys; assert 'flask' not in sys.modules", cwd=tmp_path)
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ("-c", "import sample_flask; assert sample_flask.app is sample_flask.app"),
            ("-m", "flask", "--app", "sample_flask", "routes"),
            ("-m", "flask", "--app", "sample_flask:create_app", "routes"),
            ("-m", "gunicorn", "--check-config", "sample_flask:app"),
            ("-m", "gunicorn", "--check-config", "sample_flask:create_app()"),
        ],
        ids=" ".join,
    )
    def test_the_application_is_found(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        environ = {"TOKENGUARD_SIGNING_KEY": "k" * 40, "TOKENGUARD_DATABASE_URL": "memory://"}
        output(run(*arguments, cwd=tmp_path, **environ))
        assert (tmp_path / "sample_directory.db").exists()
