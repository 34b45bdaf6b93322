"""What a service's own tests get: clients with a token, a service in memory, and the pytest fixture.

Most of it runs as it would for a user: a small project in a folder of its own, with its tests in their own process.
"""

from __future__ import annotations

import configparser
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import werkzeug.test
from flask import Flask, redirect
from flask.testing import FlaskClient

from tokenguard import (
    Conditions,
    ConfigurationError,
    InvalidToken,
    IssuanceError,
    Issuer,
    Secret,
    TokenGuardMiddleware,
)
from tokenguard.clock import DAY
from tokenguard.flask import TokenGuard, current_identity, require_scopes
from tokenguard.testing import BearerOptions, IssueOptions, MemoryService, as_client, bearer

from .conftest import StoppedClock
from .services.django_settings import database

ROOT = Path(__file__).parent.parent
SCOPES = {"users:read": "List users", "groups:read": "List groups"}


# In this process


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["tokenguard.identity"].client_name.encode()]


@pytest.fixture
def service() -> MemoryService:
    return MemoryService(SCOPES)


@pytest.fixture
def guarded(service: MemoryService) -> TokenGuardMiddleware:
    return TokenGuardMiddleware(hello, service.guard, "users:read")


def create_app(**config: Any) -> Flask:
    app = Flask("service")
    app.config.from_mapping(SECRET_KEY="dev", TESTING=True, TOKENGUARD_DATABASE_URL="memory://")
    app.config.from_mapping(config, TOKENGUARD_SCOPES=SCOPES)
    TokenGuard(app)

    @app.get("/users")
    @require_scopes("users:read")
    def users() -> str:
        return current_identity.client_name

    @app.get("/old")
    def old() -> Any:
        return redirect("/users")

    return app


def test_a_wsgi_client_sends_the_token(guarded: TokenGuardMiddleware) -> None:
    client = as_client(guarded, scopes="users:read", client="billing")
    assert client.get("/").text == "billing"
    assert client.post("/elsewhere", json={}).text == "billing"
    assert as_client(guarded, scopes="groups:read").get("/").status_code == 403
    assert werkzeug.test.Client(guarded).get("/").status_code == 401


def test_a_header_of_the_requests_own_takes_its_place(guarded: TokenGuardMiddleware) -> None:
    for target in (guarded, create_app()):
        client = as_client(target, scopes="users:read")
        other = bearer(target, scopes="groups:read")
        path = "/users"
        assert client.get(path).status_code == 200
        assert client.get(path, headers=other).status_code == 403
        assert client.get(path, headers={"Authorization": "Bearer nonsense"}).status_code == 401


def test_a_client_that_is_given_is_equipped_and_the_last_token_counts(guarded: TokenGuardMiddleware) -> None:
    for client in (werkzeug.test.Client(guarded), create_app().test_client()):
        assert as_client(client, scopes="users:read") is client
        assert client.get("/users").status_code == 200
        assert as_client(client, scopes="groups:read") is client
        assert client.get("/users").status_code == 403
        assert as_client(client, scopes="users:read") is client
        assert client.get("/users").status_code == 200


def test_every_client_is_another_caller(guarded: TokenGuardMiddleware, service: MemoryService) -> None:
    rate = Conditions.parse(rate="1/minute")
    for _ in range(3):
        client = as_client(guarded, scopes="users:read", conditions=rate)
        assert [client.get("/").status_code for _ in range(2)] == [200, 429]
    assert len(service.store.clients()) == len(service.store.records()) == 3


@pytest.mark.parametrize("years", [1, -1])
def test_the_next_test_may_be_at_an_earlier_time(clock: StoppedClock, years: int) -> None:
    """As where a test freezes the time: what it leaves behind must not decide whether the next test passes."""
    memory = MemoryService(SCOPES, clock=clock)
    app = Flask("service")
    app.config.from_mapping(SECRET_KEY="dev", TESTING=True, TOKENGUARD_DATABASE_URL="memory://")
    guard = TokenGuard(app, clock=clock)
    app.add_url_rule("/", view_func=require_scopes("users:read")(lambda: "here"))
    for target in (TokenGuardMiddleware(hello, memory.guard, "users:read"), app):
        begun = clock.micros
        for moved in (0, years * 365 * DAY, 0):
            clock.micros = begun + moved
            assert as_client(target, scopes="users:read", expires_in=60).get("/").status_code == 200
    with app.app_context():
        assert guard.store.now() == memory.store.now() == clock.micros  # the stores have no clock of their own


def test_a_token_that_expires_in_one_test_works_in_the_next(clock: StoppedClock) -> None:
    """As where a fixture issues it for a module, and one test of that freezes the time."""
    memory = MemoryService(SCOPES, clock=clock)
    app = Flask("service")
    app.config.from_mapping(SECRET_KEY="dev", TESTING=True, TOKENGUARD_DATABASE_URL="memory://")
    TokenGuard(app, clock=clock)
    app.add_url_rule("/", view_func=require_scopes("users:read")(lambda: "here"))
    for target in (TokenGuardMiddleware(hello, memory.guard, "users:read"), app):
        client = as_client(target, scopes="users:read", expires_in=60)
        for moved, status in ((0, 200), (DAY, 401), (-DAY, 200)):
            clock.micros += moved
            assert client.get("/").status_code == status


def test_a_client_that_exists_is_taken_as_it_is(service: MemoryService, guarded: TokenGuardMiddleware) -> None:
    service.issuer.register("billing", "users:read", actor="me")
    for _ in range(2):
        assert as_client(guarded, scopes="users:read", client="billing").get("/").text == "billing"
    with pytest.raises(IssuanceError, match="'billing' may not have 'groups:read'"):
        as_client(guarded, scopes="groups:read", client="billing")
    service.issuer.disable("billing", actor="me")
    with pytest.raises(IssuanceError, match="disabled"):
        as_client(guarded, scopes="users:read", client="billing")


def test_a_scope_that_the_catalogue_does_not_have(service: MemoryService) -> None:
    for target in (service, service.guard, create_app()):
        with pytest.raises(IssuanceError, match="no scope 'users:raed'"):
            bearer(target, scopes="users:raed")


def test_what_else_is_given_goes_to_the_issuer() -> None:
    clock = StoppedClock()
    service = MemoryService(clock=clock)
    client = as_client(TokenGuardMiddleware(hello, service.guard), scopes="a b", expires_in=60, name="nightly")
    assert client.get("/").status_code == 200
    assert [record.token.name for record in service.store.records()] == ["nightly"]
    clock.move(60)
    assert client.get("/").status_code == 401


def test_the_types_have_all_that_the_issuer_takes() -> None:
    taken = inspect.signature(Issuer.issue).parameters.keys() - {"self", "client", "scopes", "actor"}
    assert taken == IssueOptions.__annotations__.keys()
    assert BearerOptions.__annotations__.keys() == taken | {"scopes", "client", "issuer"}


def test_what_the_policy_asks_for_need_not_be_said() -> None:
    strict = {"TOKENGUARD_REQUIRE_EXPIRY": True, "TOKENGUARD_REQUIRE_NAME": True}
    for policy in (strict, {"TOKENGUARD_MAX_LIFETIME": 60}, {"TOKENGUARD_MAX_LIFETIME": "90d"}):
        app = create_app(**policy)
        assert as_client(app, scopes="users:read").get("/users").status_code == 200
        assert app.extensions["tokenguard"].store.records()[0].token.expires_at is not None
    app = create_app()
    bearer(app, scopes="users:read")
    assert app.extensions["tokenguard"].store.records()[0].token.expires_at is None


def test_tokens_of_a_memory_service_are_worth_nothing_anywhere_else() -> None:
    one, other = MemoryService(), MemoryService()
    text = bearer(one, scopes="a")["Authorization"].removeprefix("Bearer ")
    assert one.guard.authenticate(Secret(text)).scopes
    other.guard.store = one.store
    with pytest.raises(InvalidToken) as refused:
        other.guard.authenticate(Secret(text))
    assert "signature" in refused.value.reason


def test_an_application_that_hides_its_middleware(service: MemoryService, guarded: TokenGuardMiddleware) -> None:
    def around(environ: Any, start_response: Any) -> Any:
        return guarded(environ, start_response)

    with pytest.raises(TypeError, match="cannot tell how function is guarded"):
        as_client(around, scopes="users:read")
    client = as_client(around, issuer=service.issuer, scopes="users:read", client="billing")
    assert client.get("/").text == "billing"


def test_what_is_no_application_gets_a_header_instead(service: MemoryService) -> None:
    with pytest.raises(TypeError, match=r"not MemoryService: .* bearer\(\) gives the header"):
        as_client(service, scopes="users:read")  # type: ignore[call-overload]
    assert service.store.clients() == []
    assert bearer(service, scopes="users:read")["Authorization"].startswith("Bearer tg_")


def test_who_has_no_django_is_asked_for_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.apps", None)
    with pytest.raises(TypeError, match="so give the application"):
        as_client(scopes="users:read")


def test_flasks_own_client_on_whatever_store_the_application_has(sqlite_url: str) -> None:
    app = create_app(TOKENGUARD_DATABASE_URL=sqlite_url)
    app.extensions["tokenguard"].store.upgrade()

    class OwnClient(FlaskClient):
        pass

    app.test_client_class = OwnClient
    client = as_client(app, scopes="users:read", client="billing")
    assert isinstance(client, OwnClient)
    assert client.get("/old", follow_redirects=True).text == "billing"
    with client:
        client.get("/users")
        assert current_identity.client_name == "billing"


def test_an_application_that_is_not_being_tested_gets_no_token() -> None:
    app = create_app(TESTING=False, TOKENGUARD_SIGNING_KEY="k" * 32)
    for target in (app, app.test_client()):
        with pytest.raises(ConfigurationError, match="set TESTING = True"):
            as_client(target, scopes="users:read")
    assert app.extensions["tokenguard"].store.clients() == []
    with pytest.raises(ConfigurationError, match=r"call TokenGuard\(app\)"):
        as_client(Flask("bare"), scopes="users:read")


def test_without_an_application_it_wants_djangos_tests() -> None:
    with pytest.raises(ConfigurationError, match=r"only while Django's tests run.*give it: as_client\(app, …\)"):
        as_client(scopes="users:read")


def test_loading_it_loads_no_framework() -> None:
    code = "import sys, json, tokenguard.testing; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    unwanted = {"flask", "django", "sqlalchemy", "alembic", "click", "rich", "pytest"}
    assert unwanted.isdisjoint(name.partition(".")[0] for name in loaded)


# In projects of their own


@dataclass
class Project:
    """A folder with a project, whose tests are run as its owner would: warnings are errors."""

    folder: Path
    #: The entry points as ``pip install`` leaves them, wherever this checkout is installed.
    installed: Path

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        foreign = r"TOKENGUARD_|FLASK_|DJANGO_|PYTEST_"
        environ = {name: value for name, value in os.environ.items() if not re.match(foreign, name)}
        environ["PYTHONPATH"] = os.pathsep.join([str(self.installed), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.folder,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )

    def pytest(self, *arguments: str, **outcomes: int) -> str:
        """Run pytest, with every plugin that is installed; returns its output."""
        done = self.run("-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments)
        counted = re.findall(r"(\d+) (passed|failed|error)", done.stdout.splitlines()[-1])
        assert {outcome: int(count) for count, outcome in counted} == outcomes, done.stdout
        return done.stdout

    def manage(self, *arguments: str) -> str:
        """Run ``manage.py``, which must succeed; returns its output."""
        done = self.run("manage.py", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found = Project(tmp_path / "project", tmp_path / "installed")
    info = found.installed / "entry_points_of_this_checkout-0.dist-info"
    for folder in (found.folder, info):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entry-points-of-this-checkout\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]{setup['options.entry_points']['pytest11']}\n")
    return found


FLASK_SERVICE = """
from flask import Flask
from tokenguard.clock import DAY
from tokenguard.flask import TokenGuard, current_identity, require_scopes

def create_app(**config):
    app = Flask(__name__)
    app.config.from_mapping(config, SECRET_KEY="dev", TOKENGUARD_DATABASE_URL="memory://")
    TokenGuard(app)

    @app.get("/users")
    @require_scopes("users:read")
    def users():
        return {"caller": current_identity.client_name}

    return app
"""


def test_pytest_in_a_flask_project(project: Project) -> None:
    project.write(
        service=FLASK_SERVICE,
        conftest="""
import django.apps  # as by a package that works with either framework
import pytest
from service import create_app

@pytest.fixture
def app():
    return create_app(TESTING=True)
""",
        test_service="""
import pytest
from service import create_app

@pytest.mark.parametrize("time", [1, 2])
def test_the_fixtures_application(app, as_client, time):
    assert as_client(scopes="users:read", client="billing").get("/users").json == {"caller": "billing"}
    assert as_client(scopes="groups:read").get("/users").status_code == 403
    assert len(app.extensions["tokenguard"].store.clients()) == 2

def test_another(as_client):
    other = create_app(TESTING=True)
    assert as_client(other, scopes="users:read").get("/users").status_code == 200
    assert as_client(other.test_client(), scopes="users:read").get("/users").status_code == 200
""",
    )
    project.pytest(passed=3)


def test_pytest_without_an_application_to_be_found(project: Project) -> None:
    project.write(test_none="def test(as_client):\n    as_client(scopes='a')\n")
    assert "fixture 'app' not found" in project.pytest(failed=1)


def test_unittest_in_a_flask_project(project: Project) -> None:
    project.write(
        service=FLASK_SERVICE,
        test_service="""
import unittest
from service import create_app
from tokenguard.testing import as_client

class Tests(unittest.TestCase):
    def test_users(self):
        client = as_client(create_app(TESTING=True), scopes="users:read", client="billing")
        self.assertEqual(client.get("/users").json, {"caller": "billing"})
""",
    )
    done = project.run("-m", "unittest", "test_service")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("options", [[], ["--ds=settings"]])
def test_a_project_that_has_nothing_to_do_with_it(project: Project, options: list[str]) -> None:
    """Neither framework is loaded, nor what makes the clients; a project's own fixture of the same name wins."""
    project.write(
        settings="INSTALLED_APPS = []",
        test_own="""
import sys
import pytest

@pytest.fixture
def as_client():
    return "mine"

def test(as_client, request):
    assert request.config.pluginmanager.has_plugin("tokenguard")
    assert as_client == "mine"
    assert not list(request.node.iter_markers())
    assert {"flask", "sqlalchemy", "tokenguard.django", "tokenguard.testing"}.isdisjoint(sys.modules)
""",
    )
    project.pytest(*options, passed=1)


MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os
SECRET_KEY = "of this project alone"
INSTALLED_APPS = ["rest_framework", "tokenguard.django"]
MIDDLEWARE = ["tokenguard.django.TokenGuardMiddleware"]
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "real.sqlite3",
        "TEST": {"MIGRATE": "WITHOUT_MIGRATIONS" not in os.environ},
    }
}
TOKENGUARD = {"SCOPES": {"users:read": "List users", "groups:read": "List groups"}}
"""
URLS = """
from django.http import JsonResponse
from django.urls import path
from tokenguard.django import require_scopes

@require_scopes("users:read")
def users(request):
    return JsonResponse({"caller": request.identity.client_name})

@require_scopes("users:read")
async def users_async(request):
    return JsonResponse({"caller": request.identity.client_name})

urlpatterns = [path("users", users), path("async", users_async)]
"""
DJANGO_TESTS = """
import time
import unittest
from unittest.mock import patch
from urllib.request import Request, urlopen

from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import AsyncClient, LiveServerTestCase, RequestFactory, TestCase, TransactionTestCase
from django.test.utils import override_settings
from rest_framework.test import APIClient

from tokenguard.django import TokenGuardMiddleware, get_issuer, get_store, token_issued
from tokenguard.testing import as_client, bearer
from urls import users

NONSENSE = {"Authorization": "Bearer nonsense"}


class InATransaction(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.reports = as_client(scopes="users:read", client="reports")

    def test_tokens_are_gone_with_the_test(self):
        client = as_client(scopes="users:read", client="billing")
        self.assertEqual(client.get("/users").json(), {"caller": "billing"})
        self.assertEqual(client.get("/users", headers=NONSENSE).status_code, 401)
        self.assertEqual([client.name for client in get_store().clients()], ["billing", "reports"])

    test_tokens_are_gone_with_the_test_again = test_tokens_are_gone_with_the_test

    def test_a_request_costs_one_query_the_first_time_and_later(self):
        for client in (self.reports, as_client(scopes="users:read")):
            for _ in range(2):
                with self.assertNumQueries(1):
                    self.assertEqual(client.get("/users").status_code, 200)

    def test_the_next_test_may_be_at_an_earlier_time(self):
        real = time.time_ns
        for years in (0, 2, 0):
            moved = lambda: real() + years * 365 * 86_400 * 10**9
            with patch("time.time_ns", moved), patch("tokenguard.shortcut.time_ns", moved):
                client = as_client(scopes="users:read", expires_in=60)
                self.assertEqual(client.get("/users").status_code, 200)

    def test_a_token_that_expires_in_one_test_works_in_the_next(self):
        client = as_client(scopes="users:read", expires_in=60)
        with override_settings(DEBUG=True):
            self.assertEqual(client.get("/users").status_code, 200)
        real = time.time_ns
        for days, status in ((0, 200), (1, 401), (0, 200)):
            moved = lambda: real() + days * 86_400 * 10**9
            with patch("time.time_ns", moved), patch("tokenguard.shortcut.time_ns", moved):
                self.assertEqual(client.get("/users").status_code, status)

    def test_scopes(self):
        self.assertEqual(as_client(scopes="groups:read").get("/users").status_code, 403)
        self.assertEqual(self.client.get("/users").status_code, 401)

    def test_clients_that_are_given(self):
        for client in (self.client, APIClient(), APIClient(enforce_csrf_checks=True)):
            self.assertIs(as_client(client, scopes="users:read", client="billing"), client)
            self.assertEqual(client.get("/users").json(), {"caller": "billing"})

    def test_a_request_factory_and_the_view_alone(self):
        request = as_client(RequestFactory(), scopes="users:read").get("/users")
        self.assertEqual(TokenGuardMiddleware(users)(request).status_code, 200)

    def test_what_waits_for_a_commit_is_captured(self):
        as_client(scopes="users:read", client="billing")
        transaction.on_commit(self.fail)  # the project's, of before
        issued = []
        hear = lambda token, **kwargs: issued.append(token)
        token_issued.connect(hear)
        with self.captureOnCommitCallbacks(execute=True):
            token = get_issuer().issue("billing", "users:read", actor="tests").token
            self.assertEqual(issued, [])
        self.assertEqual(issued, [token])

    async def test_an_async_client(self):
        client = await sync_to_async(lambda: as_client(self.async_client, scopes="users:read", client="billing"))()
        for path in ("/users", "/async"):
            self.assertEqual((await client.get(path)).json(), {"caller": "billing"})
            self.assertEqual((await client.get(path, headers=NONSENSE)).status_code, 401)

    def test_an_async_client_made_before(self):
        self.assertEqual(as_client(AsyncClient(), scopes="users:read").defaults.keys(), {"AUTHORIZATION"})


class WithoutATransaction(TransactionTestCase):
    def test_tokens_are_flushed(self):
        client = as_client(scopes="users:read", client="billing")
        self.assertEqual(client.get("/users").json(), {"caller": "billing"})
        self.assertEqual([client.name for client in get_store().clients()], ["billing"])

    test_tokens_are_flushed_again = test_tokens_are_flushed


class FromSerializedData(WithoutATransaction):
    serialized_rollback = True


class OverHTTP(LiveServerTestCase):
    def test_a_header(self):
        request = Request(self.live_server_url + "/users", headers=bearer(scopes="users:read"))
        with urlopen(request) as answer:
            self.assertEqual(answer.status, 200)
"""


@pytest.fixture
def django_project(project: Project) -> Project:
    project.write(manage=MANAGE, settings=SETTINGS, urls=URLS)
    return project


def nothing_is_left(project: Project) -> bool:
    """Return whether the project's own database, its developer's, has not been touched."""
    return not (project.folder / "real.sqlite3").exists()


@pytest.mark.usefixtures("children_not_measured")
@pytest.mark.parametrize("migrations", [True, False])
def test_manage_py_test(django_project: Project, migrations: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not migrations:
        monkeypatch.setenv("WITHOUT_MIGRATIONS", "1")
    django_project.write(tests=DJANGO_TESTS)
    for order in ([], ["--reverse"], ["--parallel", "2"]):
        said = django_project.manage("test", "tests", *order)
        assert "Ran 16 tests" in said
        assert "could not be recorded" not in said
    assert nothing_is_left(django_project)


@pytest.mark.usefixtures("children_not_measured")
def test_manage_py_test_on_postgresql(django_project: Project, postgresql_url: str) -> None:
    django_project.write(
        tests=DJANGO_TESTS, settings=f"{SETTINGS}\nDATABASES = {{'default': {database(postgresql_url)}}}\n"
    )
    assert "Ran 16 tests" in django_project.manage("test", "tests")


@pytest.mark.parametrize("options", [[], ["--no-migrations"]])
def test_pytest_django(django_project: Project, options: list[str]) -> None:
    django_project.write(
        test_classes=DJANGO_TESTS,
        test_functions="""
import pytest
from rest_framework.test import APIClient
from tokenguard.django import get_store

@pytest.mark.parametrize("time", [1, 2])
def test_the_database_may_be_used(as_client, time):
    assert as_client(scopes="users:read", client="billing").get("/users").json() == {"caller": "billing"}
    assert len(get_store().clients()) == 1

@pytest.fixture
def api(as_client):
    return as_client(APIClient(), scopes="users:read", client="billing")

def test_with_rest_framework(api):
    assert api.get("/users").json() == {"caller": "billing"}

@pytest.mark.django_db(transaction=True)
def test_a_mark_of_its_own(as_client, request):
    assert as_client(scopes="users:read").get("/users").status_code == 200
    assert len(list(request.node.iter_markers("django_db"))) == 1

def test_a_fixture_that_says_more(as_client, live_server):
    assert as_client(scopes="users:read").get("/users").status_code == 200
""",
    )
    said = django_project.pytest("--ds=settings", *options, passed=21)
    assert "could not be recorded" not in said
    assert nothing_is_left(django_project)


@pytest.mark.parametrize("first", ["django", "tokenguard"])
def test_tests_with_the_fixture_run_before_those_that_empty_the_tables(django_project: Project, first: str) -> None:
    """As Django orders them, so that they find what migrations have written, whichever plugin is loaded first."""
    django_project.write(
        test_order="""
import pytest
from django.db import connection

ran = []

@pytest.mark.django_db(transaction=True)
def test_that_empties_the_tables():
    ran.append("emptied")

def test_in_a_transaction(as_client):
    assert connection.in_atomic_block
    assert ran == []
"""
    )
    django_project.pytest("-p", first, "--ds=settings", passed=2)


def test_nothing_is_left_of_an_async_test(django_project: Project) -> None:
    django_project.write(
        conftest="""
import asyncio
import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):  # what a plugin for async tests does
    async def run():
        await pyfuncitem.function(pyfuncitem.funcargs["async_api"])
        # Django itself does not close a database in memory, and Python 3.13 warns of that of the other thread.
        await sync_to_async(lambda: BaseDatabaseWrapper.close(connection))()

    asyncio.run(run())
    return True
""",
        test_async="""
import pytest
from asgiref.sync import sync_to_async
from tokenguard.django import get_store
from tokenguard.testing import as_client

@pytest.fixture
def async_api(async_client, as_client):
    return as_client(async_client, scopes="users:read")

async def test_async(async_api):
    await sync_to_async(lambda: as_client(async_api, scopes="users:read"))()
    assert (await async_api.get("/async")).status_code == 200
    assert await sync_to_async(lambda: len(get_store().clients()))() == 2

async def test_another(async_api):
    await test_async(async_api)
""",
    )
    django_project.pytest("--ds=settings", passed=2)
    assert nothing_is_left(django_project)


FOREIGN = """
import pytest

class Line(pytest.Item):
    def runtest(self):
        assert not list(self.iter_markers())

class Lines(pytest.File):
    def collect(self):
        yield Line.from_parent(self, name="line")

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".txt":
        return Lines.from_parent(parent, path=file_path)
"""


def test_what_is_no_function_has_no_fixtures(django_project: Project) -> None:
    """As the tests of other plugins, which read them from a file."""
    django_project.write(conftest=FOREIGN)
    (django_project.folder / "test.txt").touch()
    django_project.pytest("--ds=settings", passed=1)


def test_without_pytest_django_nothing_is_marked_for_it(django_project: Project) -> None:
    django_project.write(
        conftest="""
import os
import django

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
""",
        test_one="def test(as_client, request):\n    assert not list(request.node.iter_markers())\n",
    )
    django_project.pytest("-p", "no:django", passed=1)


def test_the_fixture_alone_makes_the_test_database(django_project: Project) -> None:
    django_project.write(test_one="def test(as_client):\n    as_client(scopes='users:read')\n")
    django_project.pytest("--ds=settings", passed=1)
    assert nothing_is_left(django_project)


MISUSE = {
    "simple": (
        "from django.test import SimpleTestCase as Base",
        "Database queries to 'default' are not allowed in SimpleTestCase subclasses. Either subclass TestCase",
    ),
    "unittest": ("from unittest import TestCase as Base", "only while Django's tests run"),
}


@pytest.mark.parametrize("kind", MISUSE)
def test_what_is_said_where_there_is_no_test_database(django_project: Project, kind: str) -> None:
    line, answer = MISUSE[kind]
    django_project.write(
        tests=f"""
{line}
from tokenguard.testing import as_client

class Tests(Base):
    def test(self):
        as_client(scopes="users:read")
"""
    )
    if kind == "simple":
        done = django_project.run("manage.py", "test", "tests")
    else:
        code = "import os, django, unittest; os.environ['DJANGO_SETTINGS_MODULE'] = 'settings'; django.setup(); "
        done = django_project.run("-c", code + "unittest.main('tests')")
    assert done.returncode == 1
    assert answer in done.stdout
    assert nothing_is_left(django_project)


@pytest.mark.usefixtures("children_not_measured")
def test_a_django_service_that_is_not_being_tested_gets_no_token(django_project: Project) -> None:
    django_project.manage("migrate", "--skip-checks")
    code = "from tokenguard.testing import as_client\nas_client(scopes='users:read')"
    done = django_project.run("manage.py", "shell", "-c", code)
    assert done.returncode == 1
    assert "tokens for tests are issued only while Django's tests run" in done.stdout
    assert json.loads(django_project.manage("tokenguard", "client", "list", "--json")) == []
