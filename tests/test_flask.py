"""The Flask extension beyond the contract: handlers, classes, blueprints, options."""

from __future__ import annotations

import gc
import logging
import traceback
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    jsonify,
    make_response,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.sansio.app import App
from flask.views import MethodView, View
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.test import Client as Caller
from werkzeug.test import EnvironBuilder

from tokenguard import (
    AuthError,
    Client,
    Conditions,
    ConfigurationError,
    Identity,
    InvalidValue,
    MemoryStore,
    PolicyViolation,
    Token,
    TokenGuardError,
    TokenGuardMiddleware,
)
from tokenguard.clock import SECOND
from tokenguard.errors import MissingToken
from tokenguard.flask import (
    Refused,
    TokenGuard,
    current_identity,
    get_identity,
    require_scopes,
    require_token,
    token_authenticated,
    token_issued,
    token_refused,
    token_revoked,
    token_rotated,
)
from tokenguard.testing import as_client

from .canaries import told_of_ours
from .conftest import KEY, OTHER_KEY, StoppedClock
from .services.common import CATALOG


def make_app(guard: TokenGuard | None = None, *, around: Callable[[Flask], None] | None = None, **config: Any) -> Flask:
    """A guarded application; ``around`` is called with it before it is guarded."""
    app = Flask(__name__)
    if around is not None:
        around(app)
    app.config.update({"TOKENGUARD_SIGNING_KEY": KEY, "TOKENGUARD_DATABASE_URL": "memory://"})
    app.config.update({"TOKENGUARD_SCOPES": CATALOG} | config)
    (guard or TokenGuard()).init_app(app)
    return app


def bearer(app: Flask, scopes: str = "users:read") -> dict[str, str]:
    issuer = app.extensions["tokenguard"].issuer
    if not app.extensions["tokenguard"].store.clients():
        issuer.register("billing", "*", actor="tests")
    text = issuer.issue("billing", scopes, actor="tests").text
    return {"Authorization": f"Bearer {text.reveal()}"}


@pytest.fixture
def app() -> Flask:
    return make_app()


# Views


def test_class_based_views_and_methods(app: Flask) -> None:
    class Users(MethodView):
        decorators = [require_scopes("users:read")]  # noqa: RUF012

        def get(self, name: str) -> str:
            return f"{name} for {current_identity.client_name}"

        @require_scopes("users:manage")
        def post(self, name: str) -> str:
            return "changed"

    class Plain(View):
        decorators = [require_token]  # noqa: RUF012

        def dispatch_request(self) -> str:
            return current_identity.client_id

    app.add_url_rule("/users/<name>", view_func=Users.as_view("users"))
    app.add_url_rule("/plain", view_func=Plain.as_view("plain"))
    client = app.test_client()
    assert client.get("/users/ann").status_code == 401
    assert client.get("/users/ann", headers=bearer(app)).text == "ann for billing"
    assert client.post("/users/ann", headers=bearer(app)).status_code == 403
    assert client.post("/users/ann", headers=bearer(app, "users:manage")).text == "changed"
    assert client.get("/plain").status_code == 401
    assert client.get("/plain", headers=bearer(app)).status_code == 200


def test_async_methods_and_names_are_kept(app: Flask) -> None:
    class Users(MethodView):
        @require_scopes("users:read")
        async def get(self) -> str:
            """Says who."""
            return current_identity.client_name

    assert Users.get.__name__ == "get"
    assert Users.get.__doc__ == "Says who."
    app.add_url_rule("/users", view_func=Users.as_view("users"))
    assert app.test_client().get("/users").status_code == 401
    assert app.test_client().get("/users", headers=bearer(app)).text == "billing"


def test_a_class_cannot_be_decorated_by_mistake() -> None:
    for decorator, text in ((require_scopes("users:read"), r"require_scopes\(…\)"), (require_token, "require_token")):
        with pytest.raises(TypeError, match=rf"guard the class Users with decorators = \[{text}\]"):
            decorator(type("Users", (MethodView,), {}))


def test_a_streamed_answer_is_authorised_before_its_first_byte(app: Flask) -> None:
    ran = []

    @app.get("/stream")
    @require_scopes("users:read")
    def stream() -> Response:
        def lines() -> Any:
            ran.append(1)
            yield current_identity.client_name

        return Response(stream_with_context(lines()))

    assert app.test_client().get("/stream").status_code == 401
    assert ran == []
    assert app.test_client().get("/stream", headers=bearer(app)).text == "billing"


def test_a_blueprint_is_guarded_whole_with_those_nested_in_it() -> None:
    guard = TokenGuard()
    outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__, url_prefix="/inner")
    assert guard.protect(outer, "users:read") is outer
    outer.add_url_rule("/", view_func=lambda: "outer")
    inner.add_url_rule("/", view_func=lambda: "inner")
    inner.add_url_rule("/more", "more", require_scopes("users:manage")(lambda: "more"))
    outer.register_blueprint(inner)
    app = make_app(guard)
    app.register_blueprint(outer)
    app.add_url_rule("/", view_func=lambda: "public")
    client = app.test_client()
    for path in ("/outer/", "/outer/inner/", "/outer/inner/more"):
        assert client.get(path).status_code == 401
        assert client.options(path).status_code == 401
    assert client.get("/").text == "public"
    assert client.get("/outer/inner/", headers=bearer(app)).text == "inner"
    assert client.get("/outer/inner/more", headers=bearer(app)).status_code == 403
    assert client.get("/outer/inner/more", headers=bearer(app, "users:manage")).text == "more"


def test_a_preflight_never_runs_a_view_that_handles_options_itself(app: Flask) -> None:
    @app.route("/own", methods=["OPTIONS", "GET"])
    @require_token
    def own() -> str:
        return "ran"

    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    answer = app.test_client().options("/own", headers=headers)
    assert (answer.status_code, answer.text) == (200, "")
    assert "GET" in answer.headers["Allow"]
    assert app.test_client().options("/own").status_code == 401
    assert app.test_client().get("/own", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "ask",
    [
        lambda: require_scopes(),
        lambda: require_scopes("users:*"),
        lambda: require_scopes("users:read users:manage"),
        lambda: require_scopes(["users:read"]),  # type: ignore[arg-type]
        lambda: require_scopes(any_of="users:read"),
        lambda: TokenGuard().protect(Blueprint("b", __name__), any_of=()),
    ],
)
def test_a_view_that_asks_for_nonsense_fails_when_it_is_defined(ask: Any) -> None:
    with pytest.raises(InvalidValue):
        ask()


def test_what_is_no_view_is_not_guarded() -> None:
    with pytest.raises(TypeError, match=r"expected a view, not 'users:read': to require scopes, write @require_scopes"):
        require_token("users:read")  # type: ignore[arg-type]


def test_a_blueprint_may_ask_for_a_token_alone() -> None:
    guard = TokenGuard()
    blueprint = guard.protect(Blueprint("b", __name__))
    blueprint.add_url_rule("/", view_func=lambda: "in")
    app = make_app(guard)
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert [client.get("/").status_code, client.get("/", headers=bearer(app, "groups:read")).status_code] == [401, 200]


def test_a_scope_that_the_catalogue_does_not_have_is_the_developers_error(app: Flask) -> None:
    app.add_url_rule("/typo", "typo", view_func=require_scopes("users:raed")(lambda: "never"))
    app.testing = True
    with pytest.raises(
        ConfigurationError,
        match=r"view 'typo'.* 'users:raed' is not in the catalogue, which has users:read, users:manage, groups:read",
    ):
        app.test_client().get("/typo", headers=bearer(app))


# The identity


def test_the_identity_outside_a_request_and_without_a_token(app: Flask) -> None:
    assert not current_identity
    assert get_identity() is None
    with pytest.raises(RuntimeError, match="there is no current_identity"):
        current_identity.client_id  # noqa: B018

    @app.get("/open")
    def open_() -> str:
        return current_identity.client_name if current_identity else "nobody"

    client = app.test_client()
    assert client.get("/open").text == "nobody"
    assert client.get("/open", headers={"Authorization": "Bearer x"}).text == "nobody"
    assert client.get("/open", headers=bearer(app)).text == "billing"


def test_only_an_answer_that_asked_depends_on_the_credential(app: Flask) -> None:
    app.add_url_rule("/plain", view_func=lambda: "plain")
    app.add_url_rule("/who", "who", lambda: str(bool(get_identity())))
    client = app.test_client()
    assert "Vary" not in client.get("/plain", headers=bearer(app)).headers
    assert client.get("/who").headers["Vary"] == "Authorization"


def test_applications_do_not_know_each_others_tokens() -> None:
    guard = TokenGuard()
    first, second = make_app(guard), make_app(guard)
    for app in (first, second):
        app.add_url_rule("/", view_func=require_token(lambda: "in"))
    headers = bearer(first)
    assert first.test_client().get("/", headers=headers).status_code == 200
    assert second.test_client().get("/", headers=headers).status_code == 401


def test_without_the_extension_a_guarded_view_is_an_error_and_not_open() -> None:
    app = Flask(__name__)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert app.test_client().get("/").status_code == 500


def test_the_issuer_is_at_hand_for_an_applications_own_pages(app: Flask) -> None:
    guard = TokenGuard()
    with app.app_context():
        assert guard.issuer.register("from a page", "users:read", actor="page").enabled


# Error handlers


def test_a_handler_for_the_status_restyles_and_the_challenge_stays(app: Flask) -> None:
    app.add_url_rule("/", view_func=require_scopes("users:manage")(lambda: "in"))

    @app.errorhandler(401)
    def unauthorized(error: Unauthorized) -> Any:
        return jsonify(ours=True, says=error.description), 401

    @app.errorhandler(403)
    def forbidden(error: Refused) -> Any:
        return jsonify(needs=error.error.scopes), 403, {"Cache-Control": "no-cache"}

    refused = app.test_client().get("/")
    assert refused.json == {"ours": True, "says": MissingToken.detail}
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert refused.headers["Cache-Control"] == "no-store"
    assert refused.headers["Vary"] == "Authorization"
    lacking = app.test_client().get("/", headers=bearer(app))
    assert lacking.json == {"needs": ["users:manage"]}
    assert 'scope="users:manage"' in lacking.headers["WWW-Authenticate"]
    assert lacking.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("own", "vary", "challenges"),
    [
        ([("Vary", "Origin")], "Origin, Authorization", []),
        ([("Vary", "Origin"), ("Vary", "Accept, authorization")], "Origin, Accept, authorization", []),
        ([("Vary", "*")], "*", []),
        ([("WWW-Authenticate", 'Basic realm="old"')], "Authorization", ['Basic realm="old"']),
        (
            [("WWW-Authenticate", "Digest x=y, Basic"), ("www-authenticate", "Negotiate")],
            "Authorization",
            ["Digest x=y, Basic", "Negotiate"],
        ),
        ([("WWW-Authenticate", 'Bearer realm="mine"')], "Authorization", []),
        ([("WWW-Authenticate", 'Basic, bearer realm="mine"')], "Authorization", []),
    ],
)
def test_what_a_handler_says_to_others_stays_beside_the_challenge(
    app: Flask, own: list[tuple[str, str]], vary: str, challenges: list[str]
) -> None:
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    app.register_error_handler(401, lambda error: Response("no", 401, own))
    refused = app.test_client().get("/")
    assert refused.headers.getlist("Vary") == [vary]
    assert refused.headers.getlist("WWW-Authenticate") == [*challenges, 'Bearer realm="api"']
    assert refused.headers.getlist("Cache-Control") == ["no-store"]


def test_a_refusal_is_the_same_where_werkzeug_keeps_headers_in_another_way(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    monkeypatch.setattr("tokenguard.wsgi._HEADERS_ARE_A_LIST", True)
    known = app.test_client().get("/")
    assert known.status_code == 401
    monkeypatch.setattr("tokenguard.wsgi._HEADERS_ARE_A_LIST", False)
    assert [*app.test_client().get("/").headers] == [*known.headers]


def test_what_is_added_to_a_refusal_stays(app: Flask) -> None:
    """As Flask-CORS does it."""
    app.add_url_rule("/", view_func=require_token(lambda: "in"))

    @app.after_request
    def vary(response: Response) -> Response:
        response.vary.add("Origin")
        return response

    assert app.test_client().get("/").headers.getlist("Vary") == ["Authorization, Origin"]


@pytest.mark.parametrize("handled", [Refused, HTTPException, Exception])
def test_a_handler_by_class_sees_every_refusal(app: Flask, handled: type[Exception]) -> None:
    app.add_url_rule("/", view_func=require_scopes("users:manage")(lambda: "in"))
    app.register_error_handler(handled, lambda error: (error.error.code, error.code))
    client = app.test_client()
    assert client.get("/").text == "missing_token"
    assert client.get("/", headers={"Authorization": "Bearer a b"}).text == "invalid_request"
    assert client.get("/", headers={"Authorization": "Bearer ab"}).text == "invalid_token"
    assert client.get("/", headers=bearer(app)).text == "insufficient_scope"


def test_an_application_that_handles_all_exceptions_itself_sees_every_refusal(app: Flask) -> None:
    """As Flask-RESTful does it."""
    app.add_url_rule("/", view_func=require_token(lambda: "in"))

    def handle(error: Exception) -> Any:
        assert isinstance(error, Refused)
        return error.error.code, error.code

    app.handle_user_exception = handle  # type: ignore[method-assign]
    assert app.test_client().get("/").text == "missing_token"


def test_a_refusal_can_be_trapped_like_any_error_of_http(app: Flask) -> None:
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    app.config["TRAP_HTTP_EXCEPTIONS"] = app.testing = True
    with pytest.raises(Refused):
        app.test_client().get("/")


def test_a_handler_of_the_blueprint_is_asked_first(app: Flask) -> None:
    blueprint = Blueprint("b", __name__)
    blueprint.register_error_handler(401, lambda error: ("the blueprint's", 401))
    blueprint.add_url_rule("/", view_func=require_token(lambda: "in"))
    app.register_blueprint(blueprint)
    assert app.test_client().get("/").text == "the blueprint's"


# Options


def test_a_key_is_needed_and_the_error_has_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENGUARD_SIGNING_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="TOKENGUARD_SIGNING_KEY: the signing key is missing"):
        make_app(TOKENGUARD_SIGNING_KEY=None, SECRET_KEY="a secret key of the application, long enough")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "TOKENGUARD_SIGNING_KEY: the signing key is missing"),
        ({"TOKENGUARD_OLD_SIGNING_KEYS": "k" * 32, "SECRET_KEY": "s" * 32}, "TOKENGUARD_SIGNING_KEY is not"),
    ],
)
def test_in_tests_it_is_needed_too_without_a_secret_key_or_beside_old_keys(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], message: str
) -> None:
    monkeypatch.delenv("TOKENGUARD_SIGNING_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=message):
        make_app(TOKENGUARD_SIGNING_KEY=None, TESTING=True, **config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"TOKENGUARD_SIGNING_KEY": "short"},
            "TOKENGUARD_SIGNING_KEY: the signing key has 5 bytes and needs at least 32",
        ),
        ({"TOKENGUARD_SIGNING_KEY": 7}, "TOKENGUARD_SIGNING_KEY must be a string, not int"),
        (
            {"TOKENGUARD_OLD_SIGNING_KEYS": ["short"]},
            "TOKENGUARD_OLD_SIGNING_KEYS: the old signing key has 5 bytes and needs at least 32",
        ),
        *[
            (
                {"TOKENGUARD_OLD_SIGNING_KEYS": text.replace("A", "a" * 40).replace("B", "b" * 40)},
                "TOKENGUARD_OLD_SIGNING_KEYS must be one string with only spaces between the keys",
            )
            for text in ("A,B", "A, B", "A,B,", '["A", "B"]', '"A B"', "'A' 'B'")
        ],
        (
            {"TOKENGUARD_signing_key": KEY},
            "unknown option TOKENGUARD_signing_key; did you mean TOKENGUARD_SIGNING_KEY?",
        ),
        ({"TOKENGUARD_OLD_SIGNING_KEYS": 7}, "TOKENGUARD_OLD_SIGNING_KEYS must be a list of strings"),
        ({"TOKENGUARD_SIGING_KEY": KEY}, "unknown option TOKENGUARD_SIGING_KEY; did you mean TOKENGUARD_SIGNING_KEY"),
        ({"TOKENGUARD_XYZ": 1}, "unknown option TOKENGUARD_XYZ; the options are DATABASE_URL, READ_URL"),
        ({"TOKENGUARD": {"SCOPES": {}}}, "in app.config each option is a key of its own, such as TOKENGUARD_SCOPES"),
        ({"TOKENGUARD_SCOPES": ["users:read"]}, "TOKENGUARD_SCOPES must map each scope to its description"),
        ({"TOKENGUARD_SCOPES": "users:read"}, 'TOKENGUARD_SCOPES is not valid JSON, such as {"users:read": "'),
        ({"TOKENGUARD_SCOPES": {"a b": ""}}, "TOKENGUARD_SCOPES: in the scope catalogue: 'a b' is not a scope"),
        ({"TOKENGUARD_PREFIX": "T-G"}, "TOKENGUARD_PREFIX: the prefix must be"),
        ({"TOKENGUARD_REALM": 'a"b'}, "TOKENGUARD_REALM: the realm must be"),
        ({"TOKENGUARD_HEADERS": ["Cookie"]}, "TOKENGUARD_HEADERS: 'Cookie' cannot be used as a header for tokens"),
        (
            {"TOKENGUARD_DATABASE_URL": "mysql://h/x"},
            "TOKENGUARD_DATABASE_URL: tokenguard supports SQLite and PostgreSQL, not",
        ),
        ({"TOKENGUARD_DATABASE_URL": 5}, "TOKENGUARD_DATABASE_URL must be a string, not int"),
    ],
)
def test_a_wrong_option_is_named_at_the_start(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_app(**config)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert KEY not in str(refused.value)


def test_the_environment_serves_where_the_configuration_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_SIGNING_KEY", OTHER_KEY)
    monkeypatch.setenv("TOKENGUARD_OLD_SIGNING_KEYS", f" {KEY.replace(' ', '-')}\n{'k' * 32} ")
    monkeypatch.setenv("TOKENGUARD_HEADERS", "X-API-Key X-Token")
    monkeypatch.setenv("TOKENGUARD_SCOPES", '{"a": "A"}')
    monkeypatch.setenv("TOKENGUARD_PORT", "tcp://10.0.0.1:80")  # as Kubernetes sets for a service of that name
    monkeypatch.setenv("TOKENGUARD_PREFIX", "env")
    options = (
        make_app(TOKENGUARD_SIGNING_KEY=None, TOKENGUARD_SCOPES=None, TOKENGUARD_PREFIX="config")
        .extensions["tokenguard"]
        .options
    )
    assert options.signing_keys.current.reveal() == OTHER_KEY
    assert len(options.signing_keys.old) == 2
    assert options.scheme.vary == ("Authorization", "X-API-Key", "X-Token")
    assert list(options.catalog) == ["a"]
    assert options.prefix == "config"


@pytest.mark.parametrize("mode", ["DEBUG", "TESTING"])
@pytest.mark.parametrize("fallbacks", [None, ["older"]])
def test_the_secret_key_serves_while_debugging_or_testing_and_says_so(
    mode: str, fallbacks: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"TOKENGUARD_SIGNING_KEY": None, "SECRET_KEY": "dev", mode: True, "SECRET_KEY_FALLBACKS": fallbacks}
    with caplog.at_level(logging.WARNING, "tokenguard"):
        app = make_app(**config)
    (record,) = caplog.records
    assert "TOKENGUARD_SIGNING_KEY is not set: while debugging or testing" in record.message
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    headers = bearer(app)
    assert app.test_client().get("/", headers=headers).text == "in"
    store = app.extensions["tokenguard"].store
    older = make_app(TokenGuard(store=store), **config | {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["dev"]})
    older.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert older.test_client().get("/", headers=headers).text == "in"


def test_a_real_key_goes_before_the_secret_key(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(SECRET_KEY="dev", TESTING=True)
    assert app.extensions["tokenguard"].options.signing_keys.current.reveal() == KEY
    assert caplog.records == []


def test_fallbacks_are_a_list_and_a_secret_key_is_text() -> None:
    for config in ({"SECRET_KEY": "dev", "SECRET_KEY_FALLBACKS": "older"}, {"SECRET_KEY": 5}):
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            make_app(TOKENGUARD_SIGNING_KEY=None, TESTING=True, **config)


def test_the_error_about_them_does_not_take_the_secret_key_along() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY_FALLBACKS") as refused:
        make_app(TOKENGUARD_SIGNING_KEY=None, TESTING=True, SECRET_KEY=OTHER_KEY, SECRET_KEY_FALLBACKS="older")
    cause = refused.value.__context__
    assert cause is not None
    assert OTHER_KEY not in told_of_ours(refused.value) + told_of_ours(cause)


def test_the_store_that_the_options_name_has_the_clock_too(clock: StoppedClock) -> None:
    app = make_app(TokenGuard(clock=clock))
    assert app.extensions["tokenguard"].store.now() == clock()


def test_setting_up_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="already has a TokenGuard"):
        TokenGuard(make_app())


class OfAnotherFramework(App):
    """As Quart's: Flask's own application builds on the same class."""

    default_config = Flask.default_config


def test_an_application_that_is_not_flasks_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"a Flask application, not one of tests\.\w+\.OfAnotherFramework$"):
        TokenGuard(OfAnotherFramework(__name__))  # type: ignore[arg-type]


def test_the_current_application_is_one() -> None:
    """As in Google's Functions Framework, which makes the application itself."""
    app = Flask(__name__)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_DATABASE_URL="memory://")
    with app.app_context():
        TokenGuard(current_app)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert app.test_client().get("/", headers=bearer(app)).headers["Cache-Control"] == "private"


@pytest.mark.parametrize(
    ("key", "late"),
    [
        ("TOKENGUARD_DATABASE_URL", "sqlite:///of-the-tests.db"),
        ("TOKENGUARD_MAX_LIFETIME", "90d"),
        ("TOKENGUARD_SIGNING_KEY", OTHER_KEY),
    ],
)
def test_an_option_that_is_set_too_late_is_named(key: str, late: str) -> None:
    app = make_app(TESTING=True)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    headers = bearer(app)
    app.config[key] = late
    message = f"{key} was set in app.config too late, and has no effect: set it before"
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=message):
            app.test_client().get("/", headers=headers)
    with pytest.raises(ConfigurationError, match=message):
        as_client(app, scopes="users:read")
    listed = app.test_cli_runner().invoke(args=["tokenguard", "list"])
    assert (listed.exit_code, listed.output.startswith(f"Error: {key} was set")) == (1, True)
    assert len(app.extensions["tokenguard"].store.records()) == 1


def test_what_is_done_to_a_catalogue_too_late_is_noticed_too() -> None:
    app = make_app(TOKENGUARD_SCOPES={"a": ""})
    app.config["TOKENGUARD_SCOPES"]["b"] = ""
    app.testing = True
    with pytest.raises(ConfigurationError, match=r"TOKENGUARD_SCOPES was set in app\.config too late"):
        app.test_client().get("/")


def test_an_option_may_be_taken_out_or_set_again_once_it_has_been_read() -> None:
    app = make_app(TESTING=True)
    app.config["TOKENGUARD_SCOPES"] = dict(CATALOG)
    del app.config["TOKENGUARD_SIGNING_KEY"]
    app.config["TOKENGUARD_PREFIX"] = None
    assert app.test_client().get("/").status_code == 404


def test_what_the_environment_has_set_may_be_repeated_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENGUARD_PREFIX", "own")
    app = make_app(TESTING=True)
    app.config["TOKENGUARD_PREFIX"] = "own"
    monkeypatch.setenv("TOKENGUARD_REALM", "late")  # not of this application's making
    assert app.test_client().get("/").status_code == 404
    app.config["TOKENGUARD_PREFIX"] = "other"
    with pytest.raises(ConfigurationError, match=r"TOKENGUARD_PREFIX .* too late.*, there or in the environment"):
        as_client(app, scopes="users:read")


def test_the_store_and_the_clock_are_arguments() -> None:
    store, clock = MemoryStore(), StoppedClock()
    app = Flask(__name__)
    app.config["TOKENGUARD_SIGNING_KEY"] = KEY
    TokenGuard(app, store=store, clock=clock)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    issuer = app.extensions["tokenguard"].issuer
    issuer.register("billing", "a", actor="tests")
    token, text = issuer.issue("billing", "a", expires_in=10, actor="tests")
    assert [record.token for record in store.records()] == [token]
    assert token.expires_at == clock() + 10 * SECOND
    headers = {"Authorization": f"Bearer {text.reveal()}"}
    assert app.test_client().get("/", headers=headers).status_code == 200
    clock.move(10)
    assert app.test_client().get("/", headers=headers).status_code == 401


def test_errors_have_one_root() -> None:
    for error in (ConfigurationError, InvalidValue):
        assert issubclass(error, TokenGuardError)


# What only looks guarded, and what is guarded in an unusual way


def test_a_mounted_middleware_does_not_stand_in_for_the_extension(app: Flask) -> None:
    """A request that another guard's middleware let in is not let in by this one."""

    @app.before_request
    def pretend() -> None:
        request.environ["tokenguard.identity"] = object()

    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert app.test_client().get("/").status_code == 401


def test_a_decorator_above_its_route_is_told_and_not_silently_open(app: Flask) -> None:
    @require_scopes("users:read")
    @app.get("/open-by-mistake")
    def view() -> str:
        return "open"

    app.testing = True
    with pytest.raises(ConfigurationError, match="the view 'view' is open although it should be guarded"):
        app.test_client().get("/")
    app.testing = False
    assert app.test_client().get("/open-by-mistake").status_code == 500


def wrapping_route(app: Flask, rule: str) -> Callable[[Any], Any]:
    """A route that registers a wrapper around the view and returns the view itself, as flask-openapi3's does."""

    def route(view: Callable[[], str]) -> Callable[[], str]:
        @wraps(view)
        def with_arguments() -> str:
            return view()

        app.add_url_rule(rule, view_func=with_arguments)
        return view

    return route


@pytest.mark.parametrize("within", [lambda view: view, require_token])
def test_a_decorator_above_a_route_that_wraps_the_view_is_told_as_well(app: Flask, within: Any) -> None:
    @require_scopes("users:read")
    @wrapping_route(app, "/open-by-mistake")
    @within
    def view() -> str:
        return "open"

    app.testing = True
    with pytest.raises(ConfigurationError, match="the view 'view' is open although it should be guarded"):
        app.test_client().get("/open-by-mistake")


def test_a_view_that_guards_a_function_with_each_request_leaves_none_of_it_behind(app: Flask) -> None:
    def answer() -> str:
        return "in"

    made: list[weakref.ref[Any]] = []

    def view() -> str:
        guarded = require_token(answer)
        made.append(weakref.ref(guarded))
        return guarded()

    app.add_url_rule("/", view_func=view)
    for _ in range(3):
        assert app.test_client().get("/").status_code == 401
    gc.collect()
    assert [guarded() for guarded in made] == [None] * 3


def test_a_guarded_form_that_nobody_holds_guards_nothing(app: Flask) -> None:
    def view() -> str:
        return "open"

    app.add_url_rule("/", view_func=view)
    require_token(view)
    gc.collect()
    app.testing = True
    with pytest.raises(ConfigurationError, match="the view 'view' is open although it should be guarded"):
        app.test_client().get("/")


def test_a_function_that_is_guarded_twice_is_told_as_well(app: Flask) -> None:
    def view() -> str:
        return "open to any token"

    elsewhere = require_token(view)
    above = require_scopes("users:manage")(app.get("/")(require_token(view)))
    app.testing = True
    with pytest.raises(ConfigurationError, match="the view 'view' is open although it should be guarded"):
        app.test_client().get("/")
    del elsewhere, above


def test_a_view_need_not_take_attributes(app: Flask) -> None:
    app.add_url_rule("/", "index", require_token("IN".lower))
    assert app.test_client().get("/", headers=bearer(app)).text == "in"
    assert app.test_client().get("/").status_code == 401


def test_the_first_request_comes_by_all_that_is_asked_before_requests(app: Flask) -> None:
    app.add_url_rule("/", view_func=lambda: "in")
    app.before_request(lambda: ("closed today", 503))
    for _ in range(2):
        assert app.test_client().get("/").text == "closed today"


def test_a_guarded_view_may_be_wrapped_and_open_elsewhere(app: Flask) -> None:
    def view() -> str:
        return "here"

    app.add_url_rule("/open", "open", view)
    wrapping_route(app, "/guarded")(require_token(view))
    assert app.test_client().get("/open").text == "here"
    refused = app.test_client().get("/guarded")
    assert (refused.status_code, refused.json["code"]) == (401, "missing_token")


@pytest.mark.parametrize("handled", [False, True])
def test_a_guarded_function_that_is_no_view_stops_who_calls_it(app: Flask, handled: bool) -> None:
    @require_scopes("users:manage")
    def may_change() -> bool:
        return True

    @app.get("/")
    @require_token
    def view() -> str:
        return "changed" if may_change() else "not changed"

    @app.get("/resolver")
    def resolver() -> dict[str, Any]:
        try:
            return {"data": may_change()}
        except Refused as error:
            return {"error": error.description, "code": error.error.code}

    if handled:
        app.register_error_handler(Refused, lambda error: error.get_response())
    client = app.test_client()
    refused = client.get("/", headers=bearer(app))
    assert (refused.status_code, refused.json["code"]) == (403, "insufficient_scope")
    assert client.get("/", headers=bearer(app, "users:manage")).text == "changed"
    assert client.get("/resolver").json == {"error": MissingToken.detail, "code": "missing_token"}


def test_what_is_around_a_class_is_handed_the_refusal_of_its_methods(app: Flask) -> None:
    """As Flask-CORS adds its headers to the answers that it is handed."""

    def marked(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def called(*args: Any, **kwargs: Any) -> Response:
            answer = make_response(view(*args, **kwargs))
            answer.headers["Access-Control-Allow-Origin"] = "*"
            return answer

        return called

    class Things(MethodView):
        decorators = (marked,)

        @require_token
        def get(self) -> str:
            return "things"

        def post(self) -> str:
            return "posted" if self.get() else "not posted"

    class Thing(View):
        decorators = (marked,)

        @require_token
        def dispatch_request(self) -> str:
            return "thing"

    app.add_url_rule("/thing", view_func=Thing.as_view("thing"))
    app.add_url_rule("/things", view_func=Things.as_view("things"))
    client = app.test_client()
    answers = {method: client.open("/things", method=method) for method in ("GET", "HEAD", "POST")}
    assert {answer.status_code for answer in answers.values()} == {401}
    assert [method for method, answer in answers.items() if "Access-Control-Allow-Origin" in answer.headers] == [
        "GET",
        "HEAD",
    ]
    assert client.get("/thing").headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("handled", [False, True])
def test_a_preflight_stops_who_calls_a_guarded_function_too(app: Flask, handled: bool) -> None:
    @require_token
    def may_change() -> bool:
        return True

    @app.route("/", methods=["POST", "OPTIONS"])
    def view() -> str:
        return "changed" if may_change() else "not changed"

    if handled:
        app.register_error_handler(HTTPException, lambda error: ("handled", 500))
    sent = {"Origin": "https://pages.example", "Access-Control-Request-Method": "POST"}
    answer = app.test_client().options("/", headers=sent)
    # Flask keeps the methods in a set, whose order differs between processes.
    assert (answer.status_code, answer.text, set(answer.allow)) == (200, "", {"OPTIONS", "POST"})


def test_what_is_above_a_guard_is_handed_its_answer_to_a_preflight(app: Flask) -> None:
    """As Flask-CORS's decorator of a single view."""

    def view() -> str:
        return "in"

    guarded = require_token(view)

    @wraps(guarded)
    def above() -> Response:
        answer = make_response(guarded())
        answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer

    app.add_url_rule("/", view_func=above, methods=["POST", "OPTIONS"])
    sent = {"Origin": "https://pages.example", "Access-Control-Request-Method": "POST"}
    assert app.test_client().options("/", headers=sent).headers["Access-Control-Allow-Origin"] == "*"


def test_any_callable_may_be_a_view(app: Flask) -> None:
    @dataclass
    class Page:
        text: str

        def __call__(self) -> str:
            return self.text

    page: Any = Page("equal to others, so without a hash")
    page.__wrapped__ = page  # whatever that may mean
    app.add_url_rule("/", "page", page)
    app.add_url_rule("/guarded", "guarded", require_token(Page("guarded")))
    assert app.test_client().get("/").text == page.text
    assert app.test_client().get("/guarded").status_code == 401


def test_a_guarded_method_of_an_object_may_be_a_view(app: Flask) -> None:
    """Also wrapped, as Flask-Classful registers the methods of a class."""

    class Directory:
        @require_token
        def users(self) -> str:
            return "users"

        @classmethod
        @require_token
        def groups(cls) -> str:
            return "groups"

    app.add_url_rule("/users", view_func=Directory().users)
    app.add_url_rule("/groups", view_func=Directory.groups)
    app.add_url_rule("/wrapped", "wrapped", wraps(Directory().users)(lambda: Directory().users()))
    for rule, text in (("/users", "users"), ("/groups", "groups"), ("/wrapped", "users")):
        assert app.test_client().get(rule).status_code == 401
        assert app.test_client().get(rule, headers=bearer(app)).text == text


def test_one_function_may_be_open_here_and_guarded_there(app: Flask) -> None:
    def view() -> str:
        return "here"

    app.add_url_rule("/open", "open", view)
    app.add_url_rule("/guarded", "guarded", require_token(view))
    assert app.test_client().get("/open").text == "here"
    assert app.test_client().get("/guarded").status_code == 401


def test_a_scope_that_nobody_could_hold_is_told_with_the_first_request(app: Flask) -> None:
    app.add_url_rule("/typo", view_func=require_scopes("users:raed")(lambda: "never"))
    app.add_url_rule("/", "index", lambda: "public")
    app.testing = True
    with pytest.raises(ConfigurationError, match="'users:raed'"):
        app.test_client().get("/")


def test_a_refusal_is_cached_nowhere_whatever_the_application_says(app: Flask) -> None:
    app.add_url_rule("/", view_func=require_token(lambda: "in"))

    @app.after_request
    def cache_everything(response: Response) -> Response:
        response.headers["Cache-Control"] = "public, max-age=600"
        return response

    assert app.test_client().get("/").headers["Cache-Control"] == "no-store"


def test_a_batch_view_makes_requests_with_credentials_of_their_own(app: Flask) -> None:
    app.add_url_rule("/strong", view_func=require_scopes("users:manage")(lambda: "done"))
    weak = bearer(app)["Authorization"]

    @app.get("/batch")
    @require_token
    def batch() -> Any:
        answer = Response.from_app(app.wsgi_app, request.environ | {"PATH_INFO": "/strong", "HTTP_AUTHORIZATION": weak})
        return {"inner": answer.status_code}

    answer = app.test_client().get("/batch", headers=bearer(app, "users:manage"))
    assert answer.json == {"inner": 403}
    assert answer.headers["Cache-Control"] == "private"
    assert "WWW-Authenticate" not in answer.headers


def test_another_application_at_hand_is_not_whose_request_it_is(app: Flask) -> None:
    other = make_app(TOKENGUARD_HEADERS=["X-Other"])

    @app.get("/users")
    def users() -> str:
        with other.app_context():
            assert get_identity() is not None
            return require_scopes("users:read")(lambda: current_identity.client_name)()

    senders: list[Flask] = []

    def authenticated(sender: Flask, **arguments: Any) -> None:
        senders.append(sender)

    with token_authenticated.connected_to(authenticated):
        answer = app.test_client().get("/users", headers=bearer(app))
    assert (answer.status_code, answer.text, senders) == (200, "billing", [app])
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private", "Authorization")
    service = app.extensions["tokenguard"]
    service.requests.guard.usage.write(everything=True)
    (record,) = service.store.records()
    assert sum(service.store.use_by_day(record.token.id).values()) == 1


def test_an_answer_stays_private_if_another_guarded_application_makes_it_of_the_same_environ() -> None:
    app, inner = make_app(TOKENGUARD_HEADERS=["X-API-Key"]), make_app()
    inner.add_url_rule("/", view_func=lambda: str(get_identity()))

    @app.get("/inner")
    @require_token
    def pass_on() -> Response:
        started: list[Any] = []
        request.environ["PATH_INFO"] = "/"
        body = b"".join(inner.wsgi_app(request.environ, lambda *given: started.extend(given)))  # type: ignore[arg-type]
        return Response(body, *started)

    key = bearer(app)["Authorization"].removeprefix("Bearer ")
    answer = app.test_client().get("/inner", headers={"X-API-Key": key})
    assert (answer.status_code, answer.text) == (200, "None")
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("private", "Authorization, X-API-Key")


def test_the_store_is_at_hand(app: Flask) -> None:
    with app.app_context():
        assert TokenGuard().store is app.extensions["tokenguard"].store


# The life of a token


def test_signals_tell_what_happens_and_a_failing_receiver_breaks_nothing(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[Any, ...]] = []

    def authenticated(sender: Flask, identity: Identity, environ: Any) -> None:
        heard.append((sender, "authenticated", identity.client_name, environ["PATH_INFO"]))

    def refused(sender: Flask, error: AuthError, environ: Any) -> None:
        heard.append((sender, "refused", error.reason))
        raise ValueError("a receiver's own trouble")

    app.add_url_rule("/", view_func=require_scopes("users:manage")(lambda: "in"))
    with token_authenticated.connected_to(authenticated), token_refused.connected_to(refused):
        assert app.test_client().get("/").status_code == 401
        assert app.test_client().get("/", headers=bearer(app)).status_code == 403
        assert app.test_client().get("/", headers=bearer(app, "users:manage")).status_code == 200
    assert heard == [
        (app, "refused", "missing_token"),
        (app, "refused", "lacks users:manage"),
        (app, "authenticated", "billing", "/"),
    ]
    assert "a receiver failed" in caplog.text


def test_a_receiver_that_fails_keeps_no_other_from_being_told(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    async def wait(sender: Flask, **told: Any) -> None:
        """Never begins."""

    def fail_first(sender: Flask, **told: Any) -> None:
        raise RuntimeError("whatever")

    def fail_too(sender: Flask, **told: Any) -> None:
        raise RuntimeError("whatever")

    receivers = (wait, fail_first, fail_too)  # called in any order
    for receiver in receivers:
        token_refused.connect(receiver, app)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert app.test_client().get("/").status_code == 401
    failures = [record.getMessage() for record in caplog.records if "a receiver failed" in record.getMessage()]
    assert len(failures) == 3
    assert all(any(receiver.__name__ in each for each in failures) for receiver in receivers)
    caplog.clear()
    with token_refused.muted():
        app.test_client().get("/")
    assert "a receiver failed" not in caplog.text


def test_a_signal_about_a_request_to_no_application_of_flask_has_no_sender(app: Flask) -> None:
    """As in an application beside it, which shares its guard and its hooks."""
    requests = app.extensions["tokenguard"].requests
    beside = TokenGuardMiddleware(Response("in"), requests.guard, hooks=requests.hooks)
    senders: list[object] = []

    def authenticated(sender: object, **arguments: Any) -> None:
        senders.append(sender)

    with token_authenticated.connected_to(authenticated):
        assert Caller(beside).get("/", headers=bearer(app)).text == "in"
    assert senders == [None]


def test_signals_of_the_granting_side(app: Flask) -> None:
    heard: list[tuple[str, str]] = []

    def hear(kind: str) -> Any:
        return lambda sender, token, **more: heard.append((kind, token.id))

    receivers = [(token_issued, hear("issued")), (token_rotated, hear("rotated")), (token_revoked, hear("revoked"))]
    issuer = app.extensions["tokenguard"].issuer
    issuer.register("billing", "*", actor="tests")
    with ExitStack() as connected:
        for signal, receiver in receivers:
            connected.enter_context(signal.connected_to(receiver))
        first = issuer.issue("billing", "users:read", actor="tests").token.id
        second = issuer.rotate(first, actor="tests").token.id
        issuer.revoke(first, second, actor="tests")
        issuer.revoke(first, actor="tests")
    assert heard == [("issued", first), ("rotated", first), ("revoked", first), ("revoked", second)]


def test_the_granting_side_knows_its_application_without_a_context() -> None:
    """An issuer that was kept, and as_client in a test: for each of the two applications of one guard."""
    guard, heard = TokenGuard(), []
    apps = [make_app(guard, TESTING=True) for _ in range(2)]
    guard.hooks.issued.append(lambda token, client: heard.append((guard, client.name)))

    def issued(sender: Flask, token: Token, client: Client) -> None:
        heard.append((sender, client.name))

    with token_issued.connected_to(issued):
        for app in apps:
            as_client(app, scopes="users:read", client="kept")
    with token_issued.connected_to(issued, apps[1]):
        for app in apps:
            as_client(app, scopes="users:read", client="of one")
    assert heard == [
        *((apps[0], "kept"), (guard, "kept"), (apps[1], "kept"), (guard, "kept")),
        *((guard, "of one"), (apps[1], "of one"), (guard, "of one")),
    ]


def test_hooks_are_plain_callables() -> None:
    guard, heard = TokenGuard(), []
    guard.hooks.refused.append(lambda error, environ: heard.append(error.code))
    guarded = make_app(guard)
    guarded.add_url_rule("/", view_func=require_token(lambda: "in"))
    guarded.test_client().get("/")
    assert heard == ["missing_token"]


def test_the_policys_options_bind_every_way_of_issuing() -> None:
    guard = TokenGuard()
    app = make_app(guard, TOKENGUARD_MAX_LIFETIME="30d", TOKENGUARD_IDLE_TIMEOUT=3600, TOKENGUARD_REQUIRE_NAME=True)
    with app.app_context():
        guard.issuer.register("billing", "*", actor="tests")
        for wrong in ({"name": "x"}, {"name": "x", "expires_in": 31 * 86_400}, {"expires_in": 60}):
            with pytest.raises(PolicyViolation, match=r"require_expiry|max_lifetime|require_name"):
                guard.issuer.issue("billing", "users:read", actor="tests", **wrong)
        token = guard.issuer.issue("billing", "users:read", actor="tests", name="x", expires_in=60).token
    assert token.idle_timeout == 3600 * SECOND


def test_rates_and_networks_behind_a_proxy() -> None:
    guard = TokenGuard()
    app = make_app(guard, TOKENGUARD_PROXIES=1, TOKENGUARD_RATE_HEADERS="okta")
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    conditions = Conditions.parse(["192.0.2.0/24"], rate="2/day")
    with app.app_context():
        guard.issuer.register("billing", "*", actor="tests")
        text = guard.issuer.issue("billing", "users:read", actor="tests", conditions=conditions).text

    def get(forwarded: str) -> Any:
        headers = {"Authorization": f"Bearer {text.reveal()}", "X-Forwarded-For": forwarded}
        return app.test_client().get("/", headers=headers)

    assert [get(given).status_code for given in ("", "198.51.100.1", "192.0.2.1, 198.51.100.1", "nonsense")] == [
        403
    ] * 4
    first, second, third = get("192.0.2.1"), get("spoofed, 192.0.2.1"), get("192.0.2.1")
    assert [answer.status_code for answer in (first, second, third)] == [200, 200, 429]
    assert (first.headers["X-Rate-Limit-Limit"], first.headers["X-Rate-Limit-Remaining"]) == ("2", "1")
    assert third.headers["X-Rate-Limit-Remaining"] == "0"
    assert int(third.headers["X-Rate-Limit-Reset"]) >= int(third.headers["Retry-After"])


def test_a_use_is_written_when_the_answer_is_closed(app: Flask) -> None:
    app.add_url_rule("/", view_func=require_scopes("users:read")(lambda: "in"))
    headers = bearer(app, "users:manage groups:read")
    store = app.extensions["tokenguard"].store
    answer = app.test_client().get("/", headers=headers, environ_base={"REMOTE_ADDR": "::ffff:192.0.2.7"})
    assert answer.text == "in"
    answer.close()
    (record,) = store.records()
    assert (record.use.address, list(record.use.scopes)) == ("192.0.2.7", ["users:read"])


def test_a_hook_from_before_the_application_hears_of_every_request() -> None:
    guard, heard = TokenGuard(), []
    guard.hooks.authenticated.append(lambda identity, environ: heard.append(identity.client_name))
    app = make_app(guard)
    app.add_url_rule("/", "view", require_token(lambda: "in"))
    headers = bearer(app)
    assert [app.test_client().get("/", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert heard == ["billing"] * 3


def test_a_request_that_is_asked_twice_is_one_request() -> None:
    """A guarded blueprint, and a view in it with a decorator of its own."""
    guard, heard = TokenGuard(), []
    guard.hooks.authenticated.append(lambda identity, environ: heard.append(identity.client_name))
    blueprint = guard.protect(Blueprint("b", __name__), "users:read")
    blueprint.add_url_rule("/", "more", require_scopes("users:manage")(lambda: "in"))
    app = make_app(guard)
    app.register_blueprint(blueprint)
    assert app.test_client().get("/", headers=bearer(app, "users:manage")).text == "in"
    store = app.extensions["tokenguard"].store
    app.extensions["tokenguard"].requests.guard.usage.write(everything=True)
    (record,) = store.records()
    assert heard == ["billing"]
    assert list(record.use.scopes) == ["users:manage", "users:read"]
    assert sum(store.use_by_day(record.token.id).values()) == 1


def test_a_token_that_was_not_asked_for_is_used_all_the_same(app: Flask) -> None:
    @app.get("/open")
    def open_() -> str:
        return f"{current_identity.client_name} {current_identity.client_id[:0]}{bool(get_identity())}"

    assert app.test_client().get("/open", headers=bearer(app)).text == "billing True"
    requests, store = app.extensions["tokenguard"].requests, app.extensions["tokenguard"].store
    requests.guard.usage.write(everything=True)
    (record,) = store.records()
    assert list(record.use.scopes) == []
    assert sum(store.use_by_day(record.token.id).values()) == 1


# What stands around the application


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_stands_around_the_application_may_hand_on_a_copy_of_the_environ(when: str) -> None:
    app = make_app(around=hand_on_copies if when == "before" else None)
    if when == "after":
        hand_on_copies(app)
    app.add_url_rule("/", "index", require_token(lambda: "here"))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    app.after_request(forget_caching)
    token, client = bearer(app), app.test_client()
    for _ in range(2):
        for headers, status, cache_control in ((token, 200, "private"), ({}, 401, "no-store")):
            answer = client.get("/", headers=headers)
            assert (answer.status_code, answer.headers["Cache-Control"]) == (status, cache_control)
            assert answer.headers["Vary"] == "Authorization"
        assert "Vary" not in client.get("/plain", headers=token).headers


def hand_on_copies(app: Flask) -> None:
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start: inner(dict(environ), start)  # type: ignore[method-assign]


class Copying(Flask):
    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        return super().wsgi_app(dict(environ), start_response)


class CopyingLate(Flask):
    def request_context(self, environ: Any) -> Any:
        return super().request_context(dict(environ))


@pytest.mark.parametrize("kind", [Copying, CopyingLate])
def test_an_application_may_hand_on_a_copy_of_the_environ(kind: type[Flask]) -> None:
    app = kind(__name__)
    app.config.update(TOKENGUARD_SIGNING_KEY=KEY, TOKENGUARD_DATABASE_URL="memory://")
    TokenGuard(app)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    assert app.test_client().get("/", headers=bearer(app)).headers["Cache-Control"] == "private"


def test_the_way_into_an_application_may_have_been_taken_before_it_was_guarded() -> None:
    """As by Connexion 3, which wraps the bound method and passes all requests to it."""
    taken: list[Any] = []
    app = make_app(around=lambda app: taken.append(app.wsgi_app), TOKENGUARD_ERROR_FORM="okta")
    app.add_url_rule("/", view_func=require_scopes("users:read")(lambda: "in"))
    headers = bearer(app)
    passing_by, direct = Caller(taken[0], Response), Caller(app, Response)
    for caller in (passing_by, passing_by, direct):  # the first request finds out
        answer = caller.get("/", headers=headers, buffered=True)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private")
        assert len(answer.headers.getlist("X-Okta-Request-Id")) == 1
    (record,) = app.extensions["tokenguard"].store.records()
    assert record.use is not None


def test_what_wraps_a_guarded_application_stays_also_if_requests_pass_it_by() -> None:
    taken: list[Any] = []
    app = make_app(around=lambda app: taken.append(app.wsgi_app))
    app.add_url_rule("/", view_func=require_token(lambda: request.script_root))
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start: inner(environ | {"SCRIPT_NAME": "/api"}, start)  # type: ignore[method-assign]
    headers = bearer(app)
    for caller, prefix in ((Caller(taken[0]), ""), (Caller(app), "/api")):
        answer = caller.get("/", headers=headers)
        assert (answer.text, answer.headers["Cache-Control"]) == (prefix, "private")


def test_a_request_that_only_a_test_has_made_does_not_change_the_way_of_others() -> None:
    app = make_app(TOKENGUARD_ERROR_FORM="okta")
    app.add_url_rule("/", view_func=require_scopes("users:read")(lambda: "in"))
    with app.test_request_context("/"):
        app.preprocess_request()
    answer = app.test_client().get("/")
    assert (answer.status_code, len(answer.headers.getlist("X-Okta-Request-Id"))) == (401, 1)


def test_who_calls_may_be_asked_last_of_all() -> None:
    app = make_app(around=hand_on_copies)
    app.add_url_rule("/", "index", lambda: "here")

    @app.after_request
    def name(response: Response) -> Response:
        response.headers["X-Client"] = str(get_identity() and current_identity.client_name)
        return response

    answer = app.test_client().get("/", headers=bearer(app))
    assert (answer.headers["X-Client"], answer.headers["Vary"]) == ("billing", "Authorization")


def test_the_credential_may_be_gone_when_the_answer_is_begun(app: Flask) -> None:
    @app.get("/")
    @require_token
    def index() -> Any:
        del request.environ["HTTP_AUTHORIZATION"]
        return "here", {"Vary": "Accept"}

    answer = app.test_client().get("/", headers=bearer(app))
    assert (answer.headers["Vary"], answer.headers["Cache-Control"]) == ("Accept, Authorization", "private")


def test_not_every_server_closes_an_answer(app: Flask) -> None:
    """asgiref's adapter to ASGI does not; and an old middleware's ``start_response`` may take two arguments only."""
    app.add_url_rule("/", "index", require_token(lambda: "here"))
    builder = EnvironBuilder(headers=bearer(app))
    begun: list[str] = []
    assert b"".join(app(builder.get_environ(), lambda status, headers: begun.append(status))) == b"here"  # type: ignore[arg-type, func-returns-value]
    assert begun == ["200 OK"]
    (record,) = app.extensions["tokenguard"].store.records()
    assert record.use is not None


def test_a_handler_is_given_no_frame_of_ours_that_holds_the_token(app: Flask) -> None:
    app.add_url_rule("/", "index", require_scopes("users:manage")(lambda: "in"))
    text, held = bearer(app)["Authorization"].removeprefix("Bearer "), []

    @app.errorhandler(Refused)
    def refused(error: Refused) -> str:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"].startswith("tokenguard."):
                held.append(text in repr(frame.f_locals))
        return "no"

    assert app.test_client().get("/", headers={"Authorization": f"Bearer {text}"}).text == "no"
    assert held
    assert not any(held)


def forget_caching(response: Response) -> Response:
    for name in ("Cache-Control", "Vary"):
        response.headers.pop(name, None)
    return response


def test_what_flask_says_of_the_session_stays(app: Flask) -> None:
    app.secret_key = "for the session"

    @app.get("/")
    @require_token
    def index() -> str:
        session["seen"] = True
        return "here"

    answer = app.test_client().get("/", headers=bearer(app))
    assert answer.vary.as_set() == {"authorization", "cookie"}
    assert answer.headers["Cache-Control"] == "private"


def test_an_answer_may_be_begun_when_flask_is_done_with_it() -> None:
    def buffer(app: Flask) -> None:
        inner = app.wsgi_app

        def buffered(environ: Any, start: Any) -> Any:
            begun: list[Any] = []
            body = list(inner(environ, lambda *said: begun.append(said)))
            start(*begun[0])
            return body

        app.wsgi_app = buffered  # type: ignore[method-assign]

    app = make_app(around=buffer)
    app.add_url_rule("/", "index", require_token(lambda: "here"))
    app.add_url_rule("/open", "open", lambda: str(bool(get_identity())))
    for path in ("/", "/open"):
        assert app.test_client().get(path, headers=bearer(app)).headers["Cache-Control"] == "private"


@pytest.mark.parametrize("around", [None, hand_on_copies])
def test_a_use_is_written_once_the_answer_is_sent(around: Callable[[Flask], None] | None) -> None:
    app = make_app(around=around)
    app.add_url_rule("/", view_func=require_token(lambda: "in"))
    answer = app.test_client().get("/", headers=bearer(app))
    (record,) = app.extensions["tokenguard"].store.records()
    assert record.use is None
    answer.close()
    (record,) = app.extensions["tokenguard"].store.records()
    assert record.use is not None


@pytest.mark.parametrize("around", [None, hand_on_copies])
def test_an_answer_that_is_a_file_is_a_use_too(around: Callable[[Flask], None] | None, tmp_path: Path) -> None:
    app = make_app(around=around)
    (tmp_path / "report.txt").write_text("figures")
    app.add_url_rule("/report", view_func=require_token(lambda: send_file(tmp_path / "report.txt")))
    answer = app.test_client().get("/report", headers=bearer(app))
    assert answer.text == "figures"
    answer.close()
    (record,) = app.extensions["tokenguard"].store.records()
    assert record.use is not None


def test_the_command_line_sends_signals_too(app: Flask) -> None:
    heard: list[str] = []
    issuer = app.extensions["tokenguard"].issuer
    issuer.register("billing", "*", actor="tests")
    token = issuer.issue("billing", "users:read", actor="tests").token

    def hear(sender: Flask, token: Token) -> None:
        heard.append(token.id)

    with token_revoked.connected_to(hear):
        done = app.test_cli_runner().invoke(args=["tokenguard", "revoke", token.id])
    assert (done.exit_code, heard) == (0, [token.id])
