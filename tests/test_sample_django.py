"""The Django sample: what the suite of the directory does not ask of both samples."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest

from sample_django import settings
from sample_flask.playground import ROOT, SAMPLES, Playground

from .samples import EVERYTHING, SERVERS, Client, DjangoSample, django_sample
from .server import Answer, Server
from .test_sample_directory import ADA, GUARDED, TOKENS, USERS, assert_error, body, profile

PRODUCTION = {
    "DJANGO_SECRET_KEY": "a secret key that only the tests know 0123456789 abcdefghijklmnopqrstuvwxyz",
    "TOKENGUARD_SIGNING_KEY": "a signing key that only the tests know, 1",
    "DJANGO_ALLOWED_HOSTS": "directory.example",
}


def python(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python with only these settings of the sample in its environment; every warning is an error."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TOKENGUARD_"))}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=cwd, env={**ours, **environ}, text=True, capture_output=True)


manage = partial(python, str(ROOT / "sample_django" / "manage.py"))


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoSample]:
    with django_sample(tmp_path_factory.mktemp("sample"), request.param) as sample:
        yield sample


@pytest.fixture
def sample(running: DjangoSample) -> DjangoSample:
    running.reset()
    return running


@pytest.fixture
def api(sample: DjangoSample) -> Client:
    return sample.client(EVERYTHING)


class TestProject:
    def test_it_is_fit_for_production(self, tmp_path: Path) -> None:
        done = manage("check", "--deploy", "--fail-level", "WARNING", cwd=tmp_path, **PRODUCTION)
        assert done.returncode == 0, done.stderr
        assert "no issues" in done.stdout

    def test_the_static_files_are_gathered_for_a_web_server(self, tmp_path: Path) -> None:
        folder = tmp_path / "static"
        done = manage("collectstatic", cwd=tmp_path, DJANGO_STATIC_ROOT=str(folder), **PRODUCTION)
        assert done.returncode == 0, done.stderr
        assert (folder / "tokenguard" / "copy.js").exists()

    def test_times_are_told_as_by_the_command_line(self) -> None:
        assert settings.TIME_ZONE == "UTC"

    def test_it_is_developed_without_any_preparation(self, tmp_path: Path) -> None:
        for arguments in (("check",), ("migrate",), ("tokenguard", "client", "add", "billing", "--scopes", "*")):
            done = manage(*arguments, cwd=tmp_path, DJANGO_DEBUG="1")
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "sample_django.db").exists()

    def test_its_own_tests_pass(self, tmp_path: Path) -> None:
        done = manage("test", "sample_django", cwd=tmp_path, DJANGO_DEBUG="1")
        assert done.returncode == 0, done.stderr
        assert "Ran 3 tests" in done.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "TOKENGUARD_SIGNING_KEY"])
    @pytest.mark.parametrize("kind", ["wsgi", "asgi"])
    def test_without_a_key_it_does_not_start(self, tmp_path: Path, kind: str, missing: str) -> None:
        environ = {name: value for name, value in PRODUCTION.items() if name != missing}
        done = python("-c", f"import sample_django.{kind}", cwd=tmp_path, PYTHONPATH=str(ROOT), **environ)
        assert done.returncode != 0
        assert missing.partition("_")[2] in done.stderr.splitlines()[-1]

    def test_no_migration_is_missing(self, tmp_path: Path) -> None:
        done = manage("makemigrations", "--check", "--dry-run", cwd=tmp_path, **PRODUCTION)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_migrations_go_back_and_forth(self, tmp_path: Path) -> None:
        for arguments in (("migrate",), ("migrate", "directory", "zero"), ("migrate",)):
            done = manage(*arguments, cwd=tmp_path, **PRODUCTION)
            assert done.returncode == 0, done.stderr

    def test_the_guarded_paths_are_all_there_are(self, tmp_path: Path) -> None:
        code = """
import json
from django.urls import get_resolver
from tokenguard.django.requirements import patterns
print(json.dumps({
    str(pattern.pattern): [name for name in pattern.callback.view_class.http_method_names
                           if name not in ("options", "head") and hasattr(pattern.callback.view_class, name)]
    for pattern in patterns(get_resolver().url_patterns) if hasattr(getattr(pattern, "callback", None), "view_class")
}))"""
        done = manage("shell", "--no-imports", "-c", code, cwd=tmp_path, **PRODUCTION)
        found = {
            "/" + re.sub("<[a-z_]+>", "x", path): {name.upper() for name in methods}
            for path, methods in json.loads(done.stdout).items()
            if path.startswith("api/")
        }
        assert found.pop(f"{TOKENS}/current") == {"DELETE"}
        assert found == {path: set(methods) for path, methods in GUARDED.items()}

    def test_an_unused_token_ends_after_thirty_days_as_at_okta(self, tmp_path: Path) -> None:
        playground = Playground(tmp_path, SAMPLES["django"])
        playground.run("migrate")
        playground.tokenguard("client", "add", "billing", "--scopes", "*")
        token = playground.tokenguard("issue", "billing", "--scopes", "okta.users.read")
        shown = json.loads(playground.tokenguard("show", token.split("_")[1], "--json"))
        assert shown["idle_timeout"] == "30d"


class TestHostileInput:
    @pytest.mark.parametrize("host", ["", "a b", "<script>", "[", "evil.example", "x" * 300])
    def test_a_host_that_is_not_ours(self, api: Client, host: str) -> None:
        assert_error(api.get(USERS, headers={"Host": host}), 400, "E0000001")

    @pytest.mark.parametrize(("size", "statuses"), [(1_000, (200, 400)), (17_000, (413, 400))])
    def test_chunked_bodies(self, api: Client, size: int, statuses: tuple[int, int]) -> None:
        # Django's WSGI handler takes a body without a length for an empty one.
        data = profile().ljust(size)
        chunked = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
        answer = api.request("POST", USERS, headers={"Transfer-Encoding": "chunked"}, body=chunked)
        assert answer.status in statuses
        assert body(answer)

    def test_a_fault_of_ours_is_told_in_the_same_form(self, sample: DjangoSample, api: Client) -> None:
        with sample.database() as database:
            database.execute("ALTER TABLE directory_user RENAME TO elsewhere")
        try:
            answer = api.get(ADA)
        finally:
            with sample.database() as database:
                database.execute("ALTER TABLE elsewhere RENAME TO directory_user")
        assert_error(answer, 500, "E0000009")
        assert b"directory_user" not in answer.body
        assert any("no such table: directory_user" in sample.log() for _ in range(200))


@dataclass
class Browser:
    """Sends the cookies that it was given."""

    server: Server
    cookies: SimpleCookie

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        sent = {**(headers or {}), "Cookie": self.cookies.output([], header="", sep=";").strip()}
        answer = self.server.request(method, path, list(sent.items()), body)
        for cookie in answer.headers.get_all("Set-Cookie", []):
            self.cookies.load(cookie)
        return answer


@pytest.fixture(scope="module")
def account(running: DjangoSample) -> dict[str, str]:
    """What somebody fills in to log in who may do everything in the admin."""
    account = {"username": "admin", "password": secrets.token_urlsafe()}
    options = ("--noinput", "--username", account["username"], "--email", "admin@example.com")
    running.playground.run("createsuperuser", *options, DJANGO_SUPERUSER_PASSWORD=account["password"])
    return account


@pytest.fixture
def browser(sample: DjangoSample, account: dict[str, str]) -> Browser:
    """A browser that has just logged in to the admin."""
    browser = Browser(sample.server, SimpleCookie())
    page = browser.request("GET", "/admin/login/").body.decode()
    csrf = re.findall('name="csrfmiddlewaretoken" value="(.*?)"', page)[0]
    form = urlencode({"csrfmiddlewaretoken": csrf, **account}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.request("POST", "/admin/login/?next=/admin/", kind, form).status == 302
    return browser


class TestAdmin:
    def test_its_style_is_served(self, sample: DjangoSample) -> None:
        answer = sample.client().get("/static/admin/css/base.css")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/css")
        unchanged = {"If-Modified-Since": answer.headers["Last-Modified"]}
        assert sample.client().get("/static/admin/css/base.css", headers=unchanged).status == 304

    @pytest.mark.parametrize(
        "name", ["", "admin", "admin/../../settings.py", "/etc/passwd", "%00", "..%2f", "x" * 2000]
    )
    def test_nothing_else_is(self, sample: DjangoSample, name: str) -> None:
        assert_error(sample.client().get(f"/static/{name}"), 404, "E0000007")

    def test_whoever_logs_in_sees_the_directory_and_the_tokens(self, browser: Browser) -> None:
        page = browser.request("GET", "/admin/").body.decode()
        for found in ("/admin/directory/user/", "/admin/directory/group/"):
            assert found in page

    def test_the_directory_is_only_looked_at(self, browser: Browser) -> None:
        listed = browser.request("GET", "/admin/directory/user/?q=ada.abbott")
        assert "ada.abbott@example.com" in listed.body.decode()
        assert browser.request("GET", "/admin/directory/user/add/").status == 403

    def test_a_session_is_no_token_and_a_token_no_session(self, browser: Browser, api: Client) -> None:
        assert browser.request("GET", USERS).status == 401
        assert api.get("/admin/").status == 302
