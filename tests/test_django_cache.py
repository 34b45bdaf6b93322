"""What a Django process caches of tokens: with the project's transactions, with its settings, on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command
from django.db import close_old_connections, connections, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext, setup_test_environment, teardown_test_environment
from django.urls import path

from tokenguard import Guard, InvalidToken, Secret, SigningKeys, StoreUnavailable, Token, TokenFormat
from tokenguard.django import get_issuer, get_store, models, require_scopes, token_revoked
from tokenguard.django.conf import service
from tokenguard.django.store import DjangoStore

from .conftest import KEY, django_project, mistyped, run_together
from .services.common import CATALOG

#: No feed is due while a test runs, so that a change known at once can be told from one that is known in time.
SETTINGS = {"SCOPES": CATALOG, "SIGNING_KEY": KEY, "USING": "of_this_test", "STALENESS": 3600}


def users(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.identity.client_name)  # type: ignore[attr-defined]


async def users_async(request: HttpRequest) -> HttpResponse:
    return users(request)


async def whether_connected() -> AsyncIterator[str]:
    yield str(await sync_to_async(lambda: connections["of_this_test"].connection is not None)())


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(whether_connected())


async def stream_without_connection(request: HttpRequest) -> StreamingHttpResponse:
    await sync_to_async(close_old_connections)()
    return StreamingHttpResponse(whether_connected())


async def issue_async(request: HttpRequest) -> HttpResponse:
    with pytest.raises(SynchronousOnlyOperation):
        issue()
    return HttpResponse(await sync_to_async(issue)())


urlpatterns = [
    path("users", require_scopes("users:read")(users)),
    path("users-async", require_scopes("users:read")(users_async)),
    path("issue", require_scopes("users:read")(issue_async)),
    path("stream", require_scopes("users:read")(stream)),
    path("stream-without-connection", require_scopes("users:read")(stream_without_connection)),
]
pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
def project(alias: str) -> Iterator[None]:
    with django_project(alias, __name__, "tokenguard.django.TokenGuardMiddleware", **SETTINGS):
        get_issuer().register("billing", "users:manage groups:read", actor="tests")
        yield


def issue() -> str:
    return get_issuer().issue("billing", "users:read", actor="tests").text.reveal()


def revoke(text: str) -> None:
    get_issuer().revoke(text.split("_")[1], actor="tests")


def ask(text: str, url: str = "/users") -> int:
    status: int = Client().get(url, headers={"Authorization": f"Bearer {text}"}).status_code
    return status


# Transactions of the project


def test_a_revocation_is_known_at_once_in_the_process_that_made_it() -> None:
    text = issue()
    assert (ask(text), ask(text)) == (200, 200)
    revoke(text)
    assert ask(text) == 401


def test_what_is_read_in_a_transaction_is_not_remembered(alias: str) -> None:
    """A token issued in a transaction is valid inside it, and was never issued once it is rolled back."""
    with transaction.atomic(using=alias):
        text = issue()
        assert (ask(text), ask(text)) == (200, 200)
        transaction.set_rollback(True, using=alias)
    assert ask(text) == 401


def test_a_revocation_that_is_undone_changes_nothing(alias: str) -> None:
    known, unknown = issue(), issue()
    assert ask(known) == 200
    with transaction.atomic(using=alias):
        revoke(known)
        revoke(unknown)
        assert ask(unknown) == 401  # as read inside the transaction
        transaction.set_rollback(True, using=alias)
    assert (ask(known), ask(unknown)) == (200, 200)


def test_a_revocation_counts_from_the_commit_of_the_outermost_block(alias: str) -> None:
    text = issue()
    assert ask(text) == 200
    with transaction.atomic(using=alias):
        with transaction.atomic(using=alias):
            revoke(text)
        assert ask(text) == 200  # for other processes it is not revoked either
    assert ask(text) == 401


def test_a_savepoint_that_is_undone_takes_its_revocation_along(alias: str) -> None:
    text, other = issue(), issue()
    assert (ask(text), ask(other)) == (200, 200)
    with transaction.atomic(using=alias):
        revoke(other)
        with suppress(KeyError), transaction.atomic(using=alias):
            revoke(text)
            raise KeyError
    assert (ask(text), ask(other)) == (200, 401)


def test_what_the_project_does_after_a_commit_may_fail_and_the_revocation_is_known_all_the_same(alias: str) -> None:
    first, second, undone = issue(), issue(), issue()
    heard: list[str] = []

    def hear(token: Token, **kwargs: Any) -> None:
        heard.append(token.id)

    def fail() -> None:
        heard.append("the project")
        raise OSError("the mail server is away")

    def act() -> None:
        transaction.on_commit(fail, using=alias)
        revoke(first)
        with suppress(KeyError), transaction.atomic(using=alias):
            revoke(undone)
            raise KeyError
        with transaction.atomic(using=alias):
            revoke(second)
        assert heard == []

    assert [ask(text) for text in (first, second, undone)] == [200, 200, 200]
    token_revoked.connect(hear)
    try:
        with pytest.raises(OSError, match="mail server"), transaction.atomic(using=alias):
            act()
    finally:
        token_revoked.disconnect(hear)
    assert heard == [first.split("_")[1], second.split("_")[1], "the project"]
    assert [ask(text) for text in (first, second, undone)] == [401, 401, 200]


def test_a_token_that_was_revoked_does_not_come_back_in_a_transaction(alias: str) -> None:
    text = issue()
    assert ask(text) == 200
    revoke(text)
    with transaction.atomic(using=alias):
        assert (ask(text), ask(text)) == (401, 401)
    assert ask(text) == 401


def test_without_autocommit_nothing_is_remembered(alias: str) -> None:
    text = issue()
    transaction.set_autocommit(False, using=alias)
    try:
        assert ask(text) == 200
        assert len(service().requests.guard.cache) == 0
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)
    assert ask(text) == 200
    assert len(service().requests.guard.cache) == 1


def test_a_use_in_a_transaction_is_not_undone_with_it(alias: str) -> None:
    text = issue()
    with transaction.atomic(using=alias):
        assert ask(text) == 200
        transaction.set_rollback(True, using=alias)
    assert ask(text) == 200
    assert sum(get_store().use_by_day(text.split("_")[1]).values()) == 2


def test_atomic_requests_are_no_obstacle(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections[alias].settings_dict, "ATOMIC_REQUESTS", True)
    text = issue()
    assert ask(text) == 200
    with CaptureQueriesContext(connections[alias]) as queries:
        assert ask(text) == 200
    assert [query["sql"] for query in queries if "tokenguard" in query["sql"]] == []


def test_whether_there_is_a_transaction_is_told_without_a_connection(alias: str) -> None:
    store = DjangoStore(alias)
    connections[alias].close()
    assert not store.in_transaction
    assert connections[alias].connection is None
    with transaction.atomic(using=alias):
        assert store.in_transaction
    with override_settings():
        connections[alias].close()
        connections[alias].settings_dict["AUTOCOMMIT"] = False
        assert store.in_transaction
        connections[alias].settings_dict["AUTOCOMMIT"] = True


# Settings


def test_with_other_settings_nothing_of_the_former_is_remembered() -> None:
    text = issue()
    assert ask(text) == 200
    for changed in (
        {"SCOPES": {"users:manage": "Create and change users"}},
        {"STALENESS": 0},
        {"SIGNING_KEY": "another key than that: 0123456789abcdef"},
        {"USING": "default"},
    ):
        with override_settings(TOKENGUARD=SETTINGS | changed):
            assert len(service().requests.guard.cache) == 0
    settings.TOKENGUARD = SETTINGS | {"SIGNING_KEY": "another key than that: 0123456789abcdef"}
    assert ask(text) == 401
    settings.TOKENGUARD = dict(SETTINGS)
    assert ask(text) == 200


def test_a_token_of_one_database_is_none_of_another(alias: str, tmp_path: Path) -> None:
    text = issue()
    assert ask(text) == 200
    connections.databases["another"] = connections[alias].settings_dict | {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "another.db"),
        "OPTIONS": {},
    }
    try:
        call_command("migrate", "tokenguard", database="another", verbosity=0)
        with override_settings(TOKENGUARD=SETTINGS | {"USING": "another"}):
            assert ask(text) == 401
        assert ask(text) == 200
    finally:
        connections["another"].close()
        del connections["another"], connections.databases["another"]


class ByTenant:
    """A database router that chooses by the tenant of the request."""

    tenant = "of_this_test"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return self.tenant


def test_no_tenants_token_is_let_in_for_another(alias: str, caplog: pytest.LogCaptureFixture) -> None:
    router = ByTenant()
    with override_settings(TOKENGUARD=SETTINGS | {"USING": None, "STALENESS": 0}, DATABASE_ROUTERS=[router]):
        text = issue()
        assert ask(text) == 200
        router.tenant = "default"
        assert ask(text) == 503
        assert "the database routers named 'of_this_test' for the tokens, and then 'default'" in caplog.text
        with pytest.raises(StoreUnavailable, match="a service keeps its tokens in one database"):
            issue()
        router.tenant = alias
        assert ask(text) == 503
    with override_settings(TOKENGUARD=SETTINGS | {"USING": None}, DATABASE_ROUTERS=[router]):
        assert ask(text) == 200  # other settings, another service


def test_other_routers_are_another_service(alias: str) -> None:
    with override_settings(TOKENGUARD=SETTINGS | {"USING": None}):
        default = service()
        with override_settings(DATABASE_ROUTERS=[ByTenant()]):
            assert get_store().using == alias  # type: ignore[attr-defined]
        assert service().store.using == "default" == default.store.using  # type: ignore[attr-defined]


# Tests of a project


@pytest.fixture
def tests_run(project: None) -> Iterator[None]:
    setup_test_environment()
    yield
    teardown_test_environment()


@pytest.mark.usefixtures("tests_run")
def test_while_the_tests_of_a_project_run_each_request_is_one_query(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = issue()
    for _ in range(3):
        with CaptureQueriesContext(connections[alias]) as queries:
            assert ask(text) == 200
        assert len(queries) == 1
    with monkeypatch.context() as down:
        down.setattr(DjangoStore, "standing", _unavailable)
        assert ask(text) == 503
    assert ask(text) == 200  # one test's outage does not affect the next test
    models.Event._base_manager.using(alias).all().delete()  # as when the next test begins
    assert ask(text) == 200
    revoke(text)
    assert ask(text) == 401


def _unavailable(*args: Any, **kwargs: Any) -> None:
    raise StoreUnavailable("of the test")


# Threads


def test_no_thread_lets_a_token_in_that_another_has_revoked(alias: str) -> None:
    texts = [issue() for _ in range(10)]
    revoked: set[str] = set()
    wrong: list[str] = []
    go_on = threading.Event()

    def asking() -> None:
        try:
            while not go_on.is_set():
                for text in texts:
                    known = text in revoked  # before the request begins
                    if ask(text) == 200 and known:
                        wrong.append(text)
        finally:
            connections[alias].close()

    def revoking() -> None:
        try:
            for text in texts:
                revoke(text)
                revoked.add(text)
        finally:
            go_on.set()
            connections[alias].close()

    run_together([asking, asking, asking, revoking])
    assert wrong == []
    assert [ask(text) for text in texts] == [401] * 10


def test_a_guard_of_the_projects_own_knows_its_tokens_and_their_revocation() -> None:
    """As a consumer of Django Channels asks it."""
    guard = Guard(get_store(), TokenFormat(SigningKeys(KEY)), catalog=CATALOG)
    text = issue()
    assert [guard.authenticate(Secret(text)).client_name for _ in range(2)] == ["billing", "billing"]
    revoke(text)
    with pytest.raises(InvalidToken, match="revoked"):
        guard.authenticate(Secret(text))


# The event loop


async def _get(text: str | None, url: str = "/users-async") -> int:
    status, _ = await _exchange(text, url)
    return status


async def _exchange(text: str | None, url: str) -> tuple[int, bytes]:
    headers = [(b"host", b"testserver")] + ([(b"authorization", f"Bearer {text}".encode())] if text else [])
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "headers": headers}
    asked = scope | {"path": url, "query_string": b"", "client": ("192.0.2.1", 1), "server": ("testserver", 80)}
    communicator = ApplicationCommunicator(ASGIHandler(), asked)
    await communicator.send_input({"type": "http.request", "body": b""})
    started = await communicator.receive_output(30)
    sent = await communicator.receive_output(30)
    await communicator.wait(30)
    return started["status"], sent["body"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class that makes a method of the store wait: a call sets ``reached``, and goes on once ``opened`` is set."""

    class Gate:
        def __init__(self, name: str) -> None:
            self.reached, self.opened = threading.Event(), threading.Event()
            real = getattr(DjangoStore, name)

            def waiting(*args: Any, **kwargs: Any) -> Any:
                self.reached.set()
                assert self.opened.wait(30)
                return real(*args, **kwargs)

            monkeypatch.setattr(DjangoStore, name, waiting)

    return Gate


async def _while_others_wait(gate: Any, waiting: str, answered: list[str | None]) -> list[int]:
    """Send a request that the slow store holds, and the others meanwhile; the status of the first is returned last."""
    held = asyncio.ensure_future(_get(waiting))
    while not gate.reached.is_set():
        await asyncio.sleep(0)
    statuses = [await _get(text) for text in answered]
    assert not held.done()
    gate.opened.set()
    return [*statuses, await held]


def test_a_store_that_is_slow_keeps_no_other_request_waiting(slow: Any) -> None:
    known, unknown = issue(), issue()
    assert ask(known) == 200
    forged = mistyped(known)
    gate = slow("standing")
    assert asyncio.run(_while_others_wait(gate, unknown, [known, None, forged, known])) == [200, 401, 401, 200, 200]


def test_a_feed_that_is_slow_keeps_no_other_request_waiting(slow: Any) -> None:
    """The feed is read in a thread, and meanwhile other requests go on with what is cached."""
    with override_settings(TOKENGUARD=SETTINGS | {"STALENESS": 86_400}):
        text = issue()
        assert ask(text) == 200
        cache = service().requests.guard.cache
        cache.good_until = float("-inf")  # as after half of the staleness
        gate = slow("feed")
        assert asyncio.run(_while_others_wait(gate, text, [text, None, text])) == [200, 401, 200, 200]


def test_writing_down_a_use_keeps_no_other_request_waiting(slow: Any) -> None:
    first, other = issue(), issue()
    assert ask(other) == 200
    gate = slow("record_uses")

    async def answers() -> list[int]:
        held = asyncio.ensure_future(_get(first))
        while not gate.reached.is_set():
            await asyncio.sleep(0)
        found = [await _get(other), await _get(None)]
        gate.opened.set()
        return [*found, await held]

    assert asyncio.run(answers()) == [200, 401, 200]


def test_a_token_that_is_known_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    text = issue()
    assert ask(text) == 200
    monkeypatch.setattr("tokenguard.django.middleware.sync_to_async", None)
    assert asyncio.run(_get(text)) == 200


def test_a_stream_keeps_the_connection_that_its_token_was_looked_up_on_unless_the_view_gives_it_back() -> None:
    assert asyncio.run(_exchange(issue(), "/stream")) == (200, b"True")
    assert asyncio.run(_exchange(issue(), "/stream-without-connection")) == (200, b"False")


def test_an_async_view_issues_a_token_in_a_thread() -> None:
    _, text = asyncio.run(_exchange(issue(), "/issue"))
    assert ask(text.decode()) == 200
    assert len(get_store().records()) == 2
