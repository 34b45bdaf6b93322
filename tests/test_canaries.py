"""Canaries: texts and keys that must never come out again, sent through everything that shows something to somebody.

``pytest -s tests/test_canaries.py`` reports at the end how many were sent through how many channels.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from django import VERSION as django_version  # noqa: N811
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template.base import Template
from django.test import Client as Browser
from django.test import RequestFactory, override_settings
from django.test.utils import instrumented_test_render
from django.urls import path
from flask import Flask
from werkzeug.debug import DebuggedApplication
from werkzeug.serving import make_server
from werkzeug.test import Client as WsgiClient

from sample_flask.playground import gunicorn
from tokenguard import (
    ConfigurationError,
    Guard,
    Issuer,
    MemoryStore,
    Policy,
    Secret,
    SigningKeys,
    StoreUnavailable,
    TokenFormat,
    TokenGuardMiddleware,
)
from tokenguard.cli import command_tree
from tokenguard.config import Options
from tokenguard.django import TokenGuardMiddleware as DjangoMiddleware
from tokenguard.django import conf, get_issuer, require_token, token_authenticated, token_issued, token_refused
from tokenguard.django.revocation import revoke_token
from tokenguard.endpoints import FORM
from tokenguard.flask import TokenGuard, require_scopes, revocation_blueprint
from tokenguard.sqlalchemy import SQLAlchemyStore

from .canaries import (
    KEY,
    OLD_KEY,
    OPTIONS,
    SECRET_KEY,
    SHORT_KEY,
    Away,
    Canaries,
    drawn,
    emailing_errors,
    environ_with,
    failing,
    fails,
    logged_at_debug,
    raised,
    sent_as,
    shown,
    told_of_ours,
    told_of_running,
)
from .conftest import django_alias
from .django_tables import migrate
from .redis_server import redis_running
from .services.common import CATALOG
from .test_django_admin import CLIENTS, TOKENS, Site, default_database, filled, migrated, text_of  # noqa: F401

# Before Django 6 an entry includes a name.
ADMINS: list[Any] = ["root@example.com"] if django_version >= (6,) else [("root", "root@example.com")]


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    yield (found := Canaries())
    print(f"\ncanaries: {len(found.texts)} texts through {len(found.channels)} channels, 0 found")  # noqa: T201 - shown with -s only


def make_flask(**options: Any) -> Flask:
    app = Flask("canaries")
    given = {"SIGNING_KEY": KEY, "OLD_SIGNING_KEYS": [OLD_KEY], "HEADERS": ["X-API-Key"], "DATABASE_URL": "memory://"}
    app.config |= {f"TOKENGUARD_{word}": value for word, value in (given | options).items()}
    app.secret_key = SECRET_KEY
    TokenGuard(app)
    app.register_blueprint(revocation_blueprint())
    app.add_url_rule("/read", "read", require_scopes("a")(lambda: "x"))
    app.add_url_rule("/fails", "fails", require_scopes("a")(fails))
    return app


def issuer_of(app: Flask) -> Issuer:
    issuer: Issuer = app.extensions["tokenguard"].issuer
    if issuer.store.client("billing") is None:
        issuer.register("billing", "*", actor="tests")
    return issuer


def issue(issuer: Issuer, scopes: str = "a", **more: Any) -> str:
    return issuer.issue("billing", scopes, actor="tests", **more).text.reveal()


# Logs


def test_the_logs_of_all_libraries_at_debug(canaries: Canaries, tmp_path: Path) -> None:
    database = tmp_path / "tokens.db"
    heard: list[str] = []
    with redis_running(tmp_path, "canaries") as redis, logged_at_debug() as log:
        app = make_flask(DATABASE_URL=f"sqlite:///{database}", PUSH_URL=redis.url, RATE_LIMIT_URL=redis.url)
        hooks = app.extensions["tokenguard"].requests.hooks
        for event in ("authenticated", "refused"):
            getattr(hooks, event).append(lambda environ, **told: heard.append(repr((told, environ))))
        for event in ("issued", "rotated", "revoked"):
            getattr(hooks, event).append(lambda **told: heard.append(repr(told)))
        app.extensions["tokenguard"].store.upgrade()
        issuer = issuer_of(app)
        good, revoked, rotated, lacking = issue(issuer), issue(issuer), issue(issuer), issue(issuer, "b")
        issuer.revoke(revoked.split("_")[1], actor="tests")
        texts = [good, revoked, rotated, issuer.rotate(rotated.split("_")[1], actor="tests").text.reveal(), lacking]
        answers = ask_flask(app, canaries.variants(*texts))
    canaries.look_at("logs: Flask, Werkzeug, SQLAlchemy, Alembic, redis, limits", log.getvalue(), "401 invalid_token")
    for library in ("werkzeug", "sqlalchemy.engine", "alembic", "tokenguard"):
        assert f"\n{library}" in log.getvalue(), library
    canaries.look_at("the answers to requests, headers and all", answers, "invalid_token")
    # Receivers get the environ with the request's own headers: a text may be there under their names, and nowhere else.
    own = re.compile(r"'HTTP_(AUTHORIZATION|X_API_KEY)': '[^']*'")
    canaries.look_at("hooks' arguments", own.sub("", "\n".join(heard)), "tokenguard.outcome")
    issuer.store.close()  # type: ignore[attr-defined]
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    canaries.look_at("the files of the database", files, "token.rotated")


def ask_flask(app: Flask, texts: list[str]) -> str:
    """Send each text in each way, over HTTP to Werkzeug's own server; returns all the answers."""
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said = ""
    form = {"Content-Type": FORM}
    try:
        connection = HTTPConnection("127.0.0.1", server.port)
        for text in texts:
            asked = [("GET", "/read", None, headers) for headers in sent_as(text)]
            asked += [("GET", "/fails", None, sent_as(text)[0]), ("POST", "/revoke", f"token={text}", form)]
            for method, url, body, headers in asked:
                connection.request(method, url, body, headers)
                answer = connection.getresponse()
                said += f"{answer.status} {answer.getheaders()} {answer.read()!r}\n"
        connection.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return said


def test_gunicorn_at_debug(canaries: Canaries, tmp_path: Path) -> None:
    store = SQLAlchemyStore(f"sqlite:///{tmp_path / 'tokens.db'}")
    store.upgrade()
    issuer = Issuer(store, TokenFormat(SigningKeys(KEY)))
    issuer.register("billing", "*", actor="tests")
    environ = {"TOKENGUARD_DATABASE_URL": str(store.url), "TOKENGUARD_SIGNING_KEY": KEY}
    texts = canaries.variants(issue(issuer), issue(issuer))
    options = ["--log-level", "debug", "--access-logfile", str(tmp_path / "access.log")]
    service = "tests.services.flask_service:create_app()"
    with gunicorn(service, {**os.environ, **environ}, workers=1, options=options) as serving:
        connection = HTTPConnection(serving.url.removeprefix("http://"))
        for text in texts:
            for headers in sent_as(text):
                connection.request("GET", "/read", None, headers)
                connection.getresponse().read()
            connection.request("GET", "/read", None, {f"X-{text}": "a header that is no name (:"})
            connection.getresponse().read()
        connection.close()
    store.close()
    canaries.look_at("gunicorn's log at debug", "".join(serving.log), "GET /read")
    canaries.look_at("gunicorn's access log", (tmp_path / "access.log").read_text(), '"GET /read HTTP/1.1" 401')


# Error pages and reports


@pytest.mark.parametrize(("place", "url"), [("view", "/fails"), ("guard", "/read")])
def test_werkzeugs_debugger(canaries: Canaries, place: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_flask()
    app.debug = True
    app.config["PROPAGATE_EXCEPTIONS"] = True
    text = canaries.variants(issue(issuer_of(app)))[0]
    if place == "guard":
        monkeypatch.setattr(Guard, "look_up", fails)
    debugged, errors = WsgiClient(DebuggedApplication(app, evalex=True)), io.StringIO()
    page = debugged.get(url, headers={"Authorization": f"Bearer {text}"}, errors_stream=errors)
    canaries.look_at(f"Werkzeug's debugger, an error in the {place}", page.text, "RuntimeError: of the view")
    canaries.look_at(f"Werkzeug's traceback, an error in the {place}", errors.getvalue(), "RuntimeError: of the view")


def view_that_fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("of the view")


def view_that_betrays(request: HttpRequest) -> HttpResponse:
    credential = request.headers["Authorization"]
    raise RuntimeError(f"with {credential}")


async def async_view_that_fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("of the view")


urlpatterns = [
    path("fails", require_token(view_that_fails)),
    path("fails-async", require_token(async_view_that_fails)),
    path("betrays", require_token(view_that_betrays)),
    path("revoke", revoke_token),
]


@pytest.fixture
def django(sqlite_url: str) -> Iterator[Callable[..., Any]]:
    """Sends a request to a Django project, and returns the answer."""
    middleware = ["tokenguard.django.TokenGuardMiddleware"]
    project = {"ROOT_URLCONF": __name__, "MIDDLEWARE": middleware, "DEBUG_PROPAGATE_EXCEPTIONS": False}
    with django_alias(sqlite_url) as alias:
        options = {**OPTIONS, "USING": alias, "HEADERS": ["X-API-Key", "X-Credential"]}
        with override_settings(TOKENGUARD=options, ADMINS=ADMINS, **project):
            migrate(alias)
            get_issuer().register("billing", "*", actor="tests")
            yield Browser(raise_request_exception=False).generic


def of_django(canaries: Canaries) -> str:
    return canaries.variants(issue(get_issuer()))[0]


#: Where the error happens: the URL, and a text that every report of it contains.
PLACES = {
    "view": ("/fails", "of the view"),
    "async view": ("/fails-async", "of the view"),
    "guard": ("/fails", "of the view"),
    "settings": ("/fails", "CACHE_SIZ"),
    "routers": ("/fails", "of the view"),
    "revocation": ("/revoke", "of the view"),
}


@pytest.mark.parametrize("place", PLACES)
def test_djangos_debug_page_and_error_email(
    canaries: Canaries, django: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, (url, sign) = of_django(canaries), PLACES[place]
    django("GET", "/nowhere")  # Django loads its middleware now, before anything is wrong
    backend = "django.core.mail.backends.locmem.EmailBackend"
    # From 6.1 on Django warns about the old setting.
    settings: dict[str, Any] = (
        {"EMAIL_BACKEND": backend} if django_version < (6, 1) else {"MAILERS": {"default": {"BACKEND": backend}}}
    )
    if place == "guard":
        monkeypatch.setattr(Guard, "look_up", fails)
    elif place == "revocation":
        monkeypatch.setattr("tokenguard.django.revocation.respond", fails)
    elif place == "settings":
        settings["TOKENGUARD"] = {**OPTIONS, "CACHE_SIZ": 5}
    elif place == "routers":
        settings |= {"TOKENGUARD": OPTIONS, "DATABASE_ROUTERS": [SimpleNamespace(db_for_write=fails)]}
    mail.outbox = []
    with emailing_errors():
        for debug, accept, headers in product((True, False), ("text/html", "text/plain"), sent_as(text)):
            with override_settings(DEBUG=debug, **settings):
                if place != "revocation":
                    answer = django("GET", url, headers={**headers, "Accept": accept})
                elif debug:
                    continue  # in debug mode Django shows whatever is posted
                else:
                    answer = django("POST", url, f"token={text}", content_type=FORM)
            assert answer.status_code == 500
            if debug:
                canaries.look_at(f"Django's debug page as {accept}, {place}", answer.content, sign)
    assert mail.outbox
    for message in mail.outbox:
        canaries.look_at(f"Django's error e-mail, {place}", f"{message.subject} {message.body}", sign)
        canaries.look_at(f"Django's error e-mail with HTML, {place}", message.alternatives[0][0], sign)  # type: ignore[attr-defined]


def test_djangos_error_pages_with_our_reporter_hide_what_the_view_betrays(canaries: Canaries, django: Any) -> None:
    text = of_django(canaries)
    headers = {"Authorization": f"Bearer {text}", "X-Forwarded-Credential": text}
    for debug_with, hidden in (("django.views.debug", False), ("tokenguard.django.reporting", True)):
        with override_settings(DEBUG=True, DEFAULT_EXCEPTION_REPORTER=f"{debug_with}.ExceptionReporter"):
            for accept in ("text/html", "text/plain"):
                page = django("GET", "/betrays", headers=headers | {"Accept": accept}).content.decode()
                if hidden:
                    canaries.look_at(f"Django's debug page with our reporter as {accept}", page, "_(not shown)")
                else:
                    assert text in page  # Django's own reporter cannot know of it


# Tracebacks with local variables, as error reporters and some log formatters show them


AWAY: list[Callable[[], BaseException]] = [
    lambda: StoreUnavailable("connection refused"),
    lambda: RuntimeError("a mistake"),
    lambda: SystemExit("the worker's time is over"),
]


@pytest.mark.parametrize("error", AWAY, ids=["away", "mistake", "exit"])
def test_errors_while_a_token_is_verified(canaries: Canaries, error: Callable[[], BaseException]) -> None:
    store, tokens = Away(), TokenFormat(SigningKeys(KEY, old=[OLD_KEY]))
    issuer = Issuer(store, tokens)
    issuer.register("billing", "*", actor="tests")
    secrets = [Secret(text) for text in canaries.variants(issue(issuer))]
    guard = Guard(store, tokens)
    store.error = error
    for index, secret in enumerate(secrets):
        seen = raised(lambda secret=secret: guard.authenticate(secret))  # type: ignore[misc]
        sign = type(seen).__name__ if index else str(error())  # the first is valid, so the store is asked in any case
        channel = f"traceback of Guard.authenticate, {type(error()).__name__}"
        canaries.look_at(channel, shown(seen) + (drawn(seen) if index < 2 else ""), sign)


@pytest.fixture
def requests_by(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> tuple[Away, dict[str, Callable[[], object]]]:
    """What sends a good token, by framework, and the store that is then asked, however often it has failed."""
    monkeypatch.setattr("tokenguard.breaker.PAUSE", 0.0)
    store = Away()
    app = Flask("canaries")
    app.config |= {"TOKENGUARD_SIGNING_KEY": KEY, "TESTING": True}
    TokenGuard(app, store=store)
    app.add_url_rule("/read", "read", require_scopes("a")(lambda: "x"))
    text = canaries.variants(issue(issuer_of(app)))[0]
    service = app.extensions["tokenguard"]
    middleware = TokenGuardMiddleware(lambda environ, start_response: [], service.requests.guard)
    monkeypatch.setattr("tokenguard.django.conf.chosen_store", lambda *aliases: store)
    request = RequestFactory().get("/read", headers={"Authorization": f"Bearer {text}"})
    return store, {
        "Flask": lambda: app.test_client().get("/read", headers={"Authorization": f"Bearer {text}"}),
        "WSGI": lambda: middleware(environ_with(text), fails),
        "Django": lambda: DjangoMiddleware(view_that_fails)(request),
        "Django on an event loop": lambda: asyncio.run(DjangoMiddleware(async_view_that_fails)(request)),  # type: ignore[arg-type]
    }


@pytest.mark.parametrize("error", AWAY[1:], ids=["mistake", "exit"])
def test_errors_that_leave_a_framework_show_no_credential_of_ours(
    canaries: Canaries,
    error: Callable[[], BaseException],
    requests_by: tuple[Away, dict[str, Callable[[], object]]],
) -> None:
    store, calls = requests_by
    store.error = error
    for name, call in calls.items():
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY}):
            seen = raised(call)
        assert str(seen) == str(error())
        channel = f"our frames in a traceback, {name}, {type(seen).__name__}"
        canaries.look_at(channel, told_of_ours(seen), "look_up")


def test_our_functions_that_run_while_something_is_logged(
    canaries: Canaries, requests_by: tuple[Away, dict[str, Callable[[], object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some log handlers collect their variables, and hide only those that are called like a header."""
    store, calls = requests_by
    seen: list[str] = []
    monkeypatch.setattr(logging.getLogger("tokenguard"), "error", lambda *of: seen.append(told_of_running()))
    store.error = AWAY[0]
    for name, call in calls.items():
        with override_settings(TOKENGUARD={"SIGNING_KEY": KEY}), suppress(RuntimeError):  # of the view in Django
            call()
        canaries.look_at(f"our functions that run while something is logged, {name}", seen.pop(), "look_up")


def test_errors_of_options_keys_and_issuing(canaries: Canaries) -> None:
    store, tokens = Away(), TokenFormat(SigningKeys(KEY, old=[OLD_KEY]))
    issuer = Issuer(store, tokens, policy=Policy(max_active_tokens=1))
    issuer.register("billing", "*", actor="tests")
    text = canaries.variants(issue(issuer))[0]
    token_id = text.split("_")[1]

    def of_flask(**options: Any) -> Callable[[], object]:
        return lambda: make_flask(**options)

    calls: dict[str, Callable[[], object]] = {
        "an unknown option": lambda: Options.read({**OPTIONS, "KEYS": 1}),
        "a wrong option": lambda: Options.read({**OPTIONS, "PROXIES": "many"}),
        "a short key": lambda: Options.read({"SIGNING_KEY": SHORT_KEY}),
        "a short old key": lambda: Options.read({**OPTIONS, "OLD_SIGNING_KEYS": SHORT_KEY}),
        "a wrong prefix": lambda: Options.read({**OPTIONS, "PREFIX": "TG"}).token_format(),
        "a short key in code": lambda: SigningKeys(SHORT_KEY),
        "a short old key in code": lambda: SigningKeys(KEY, old=[SHORT_KEY]),
        "the policy": lambda: issuer.issue("billing", "a", actor="tests"),
        "the store, while issuing": lambda: failing(store, lambda: issuer.issue("billing", "a", actor="tests")),
        "the store, while rotating": lambda: failing(store, lambda: issuer.rotate(token_id, actor="tests")),
    }
    for name, call in calls.items():
        seen = raised(call)
        # Variables in a caller's own frames are not ours: only the frames of the package are looked at.
        canaries.look_at(f"our frames in a traceback, {name}", told_of_ours(seen), type(seen).__name__)
        canaries.look_at(f"the message, {name}", f"{seen} {seen!r} {seen.args}", "")
    # A text passed where it does not belong is in variables, like any argument; it must not be in messages, or be kept.
    misplaced: dict[str, Callable[[], object]] = {
        "a client": lambda: issuer.issue(text, "a", actor="tests"),
        "a client's name": lambda: issuer.register(text, "a", actor="tests"),
        "a client's id": lambda: issuer.register("x", "a", actor="tests", client_id=text),
        "a name": lambda: issuer.issue("billing", "a", name=text, actor="tests"),
        "a scope": lambda: issuer.register("x", [text], actor="tests"),
        "an id": lambda: issuer.revoke(text, actor="tests"),
        "an actor": lambda: issuer.revoke(token_id, actor=text),
        "a reason": lambda: issuer.revoke(token_id, actor="tests", reason=text),
    }
    for name, call in misplaced.items():
        seen = raised(call)
        canaries.look_at(f"the message, a text for {name}", f"{seen} {seen!r} {seen.args}", type(seen).__name__)
    assert isinstance(raised(of_flask(SIGNING_KEY=SHORT_KEY)), ConfigurationError)
    for options in ({"SIGNING_KEY": SHORT_KEY}, {"CACHE_SIZ": 5}):
        seen = raised(of_flask(**options))
        canaries.look_at("our frames in a traceback, Flask's start", told_of_ours(seen), "init_app")


# What operators see


def test_the_command_line(canaries: Canaries, tmp_path: Path) -> None:
    store, options = MemoryStore(), Options.read({**OPTIONS, "DATABASE_URL": "memory://"})
    tree, issuer = command_tree(lambda: (options, store)), options.issuer(store)
    issuer.register("billing", "*", actor="tests")
    good = issue(issuer, name="nightly")
    texts = canaries.variants(good)
    token_id = good.split("_")[1]
    (tmp_path / "leak").write_text("\n".join(texts))
    # Whatever a command asks for, somebody gives it the text of a token.
    scopes = ["--scopes", "a"]
    commands = [
        ["list"], ["list", "--json"], ["list", "--client", good], ["list", good], ["list", f"--{good}"], ["show", good],
        ["show", token_id], ["inspect"], ["inspect", "--json"], ["events"], ["events", "--json"], ["doctor"], ["init"],
        ["events", "--token", good], ["events", "--kind", good], ["events", "--since", good], ["client", "list"],
        ["client", "show", "billing"], ["client", "add", good, *scopes], ["client", "add", "x", "--scopes", good],
        ["client", "set-scopes", "billing", good], ["client", "set-conditions", "billing", "--network", good],
        ["client", "disable", good], ["client", "enable", good], ["issue", good, *scopes], ["genkey"], ["pattern"],
        ["issue", "billing", *scopes, "--expires-in", good], ["issue", "billing", *scopes, "--name", good],
        ["issue", "billing", "--scopes", good], ["rotate", good], ["rotate", token_id, "--overlap", good], [good],
        ["revoke", good], ["revoke", token_id, "--reason", good], ["prune", "--older-than", good],
        ["pattern", "--for", good], ["scan", str(tmp_path)], ["scan", good], ["scan", "--json", "-"],
        ["scan", "--revoke", "-"],
    ]  # fmt: skip
    for command in commands:
        name = " ".join(word for word in command if word.isascii() and good not in word and str(tmp_path) not in word)
        done = CliRunner().invoke(tree, command, input=good)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        canaries.look_at(f"tokenguard {name}", done.output, "")
    # The token's text is the only line on standard output, and is nowhere else.
    for command in (["issue", "billing", "--scopes", "a"], ["rotate", issue(issuer).split("_")[1]]):
        done = CliRunner().invoke(tree, command)
        canaries.variants(done.stdout.strip())
        canaries.look_at(f"tokenguard {command[0]}, standard error", done.stderr, "Its text is shown only once")
        assert re.fullmatch(r"\w+\n", done.stdout)
    canaries.look_at("events", store.events(1000), "token.issued")
    canaries.look_at("records", [store.records(), store.clients(), options], token_id)
    assert json.loads(CliRunner().invoke(tree, ["list", "--json"]).stdout)


def test_djangos_admin_signals_and_logs(
    canaries: Canaries,
    migrated: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Template, "_render", instrumented_test_render)  # answers have the context of their templates
    heard: list[str] = []
    settings = {**OPTIONS, "SCOPES": CATALOG}

    def hear(**told: Any) -> None:
        environ = told.pop("environ", None)
        heard.append(repr((told, {k: v for k, v in (environ or {}).items() if k.startswith("tokenguard.")})))

    database = tmp_path / "admin.db"
    shutil.copy(migrated, database)
    signals = (token_issued, token_refused, token_authenticated)
    for signal in signals:
        signal.connect(hear)
    try:
        with logged_at_debug() as log, default_database(database), override_settings(TOKENGUARD=settings, DEBUG=True):
            site = Site()
            browser = site.browser("all")
            client = site.client()
            data = filled(browser, f"{TOKENS}add/?client={client}", scopes=["users:read"])
            answer = browser.post(f"{TOKENS}add/", data)
            (text,) = text_of(answer.content.decode())
            token_id = text.split("_")[1]
            texts = canaries.variants(text)
            rotation = filled(browser, f"{TOKENS}{token_id}/rotate/", confirmed="yes")
            (successor,) = text_of(browser.post(f"{TOKENS}{token_id}/rotate/", rotation).content.decode())
            for given in canaries.variants(*texts, successor):
                for headers in sent_as(given):
                    browser.get("/read", headers=headers)
            urls = [TOKENS, CLIENTS, f"{TOKENS}{token_id}/change/", f"{CLIENTS}{client}/change/", "/admin/"]
            pages = [browser.get(url) for url in urls]
            searched = browser.get(f"{TOKENS}?q={text}").request
            kept = [list(LogEntry.objects.values()), [session.get_decoded() for session in Session.objects.all()]]
            state = [browser.cookies.output(), answer.headers, answer.wsgi_request.get_full_path()]
            found = conf.built()
            assert found is not None
            if found.requests.guard.usage is not None:
                found.requests.guard.usage.write(everything=True)
            connections["default"].close()
    finally:
        for signal in signals:
            signal.disconnect(hear)
    assert searched
    for page in pages:
        canaries.look_at("Django's admin, pages", page.content, "<html")
    canaries.look_at("Django's admin, LogEntry and sessions", kept, token_id)
    canaries.look_at("Django's admin, cookies, headers and URL", state, "sessionid")
    canaries.look_at("logs: Django", re.sub(r"q=\w+", "", log.getvalue()), "django.db.backends")
    canaries.look_at("Django's signals", "\n".join(heard), "token_id")
    canaries.look_at("the files of Django's database", database.read_bytes(), "token.issued")
