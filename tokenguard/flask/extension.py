"""The Flask extension: reads the options, builds the guard, and adds the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from traceback import walk_stack
from typing import TYPE_CHECKING, Any, TypeVar

import click
from flask import Blueprint, Flask, Response, request
from werkzeug.datastructures import Headers

from ..cli import command_tree
from ..clock import Clock, now
from ..config import PREFIX, Options, development_keys, from_environ
from ..errors import ConfigurationError
from ..frames import clear_frames
from ..issuer import Issuer
from ..request import RequestGuard
from ..scopes import Requirement
from ..service import Service, open_store
from ..store import Store
from ..wsgi import finished, start_stamped
from .metadata import add_metadata
from .signals import hooks_of, shared_hooks
from .views import check_views, refuse_unless, service

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

B = TypeVar("B", bound=Blueprint)

#: Where an application keeps what its options were when they were read.
_AS_READ = "tokenguard.as_read"


class _StartError(click.ClickException, ConfigurationError):
    """Makes ``flask …`` report the error in one line, instead of a traceback for an app that cannot be loaded."""


class TokenGuard:
    """Guards a Flask application: ``TokenGuard(app)``, or ``init_app`` in an application factory.

    Options are read from ``app.config``, and those missing there from the environment: ``TOKENGUARD_SIGNING_KEY``,
    ``TOKENGUARD_DATABASE_URL``, ``TOKENGUARD_SCOPES`` and the rest of :class:`tokenguard.config.Options`. They are
    checked at once; ConfigurationError names the option that is wrong. ``store`` and ``clock`` replace those that would
    be used with these options.
    """

    def __init__(self, app: Flask | None = None, *, store: Store | None = None, clock: Clock = now) -> None:
        self._store = store
        self._clock = clock
        #: Plain callables, called for what happens in every application that this guards.
        self.hooks = shared_hooks()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up ``app``. Raises ConfigurationError if that fails, or if it is set up already."""
        app = getattr(app, "_get_current_object", lambda: app)()  # current_app is a proxy
        if not isinstance(app, Flask):
            # Quart's application would take all that follows, and then fail at every request.
            raise ConfigurationError(
                f"expected a Flask application, not one of {type(app).__module__}.{type(app).__qualname__}"
            )
        if "tokenguard" in app.extensions:
            raise ConfigurationError("this application already has a TokenGuard")
        hooks = hooks_of(app, self.hooks)
        try:
            options = Options.read(_given(app))
            store = self._store
            if store is None:
                store = open_store(options.database_url, options.read_url, clock=self._clock)
            built = Service.build(options, store, hooks=hooks, clock=self._clock)
        except ConfigurationError as error:
            clear_frames(error)
            raise _StartError(str(error)) from None
        app.extensions["tokenguard"] = built
        app.extensions[_AS_READ] = _marks(_as_set(app))
        _check_at_first_request(app, _finish_answers(app, built.requests))
        add_metadata(app, built.requests.scheme)

        def load() -> tuple[Options, Store]:
            check_options(app)
            return options, store

        app.cli.add_command(command_tree(load, hooks=hooks))

    def protect(self, blueprint: B, *scopes: str, any_of: Iterable[str] | None = None) -> B:
        """Guard every view of ``blueprint``, and of the blueprints nested in it; return ``blueprint``.

        Scopes are as in require_scopes; without any, a valid token is enough. Call this before the blueprint is
        registered. A view may require more with a decorator of its own.
        """
        requirement = Requirement.scopes_or_token(*scopes, any_of=any_of)
        blueprint.before_request(partial(refuse_unless, requirement))
        return blueprint

    @property
    def store(self) -> Store:
        """The store of the current application's clients, tokens and events."""
        return service().store

    @property
    def issuer(self) -> Issuer:
        """The granting side of the current application: register clients, issue and revoke tokens."""
        return service().issuer


def _check_at_first_request(app: Flask, check_way: Callable[[], None]) -> None:
    """Check the options, and how the views are guarded: once all are there, and before the first view is called."""

    @app.before_request
    def check_once() -> None:
        check_options(app)
        check_views(app)
        check_way()
        # The list is replaced, as Flask is iterating over it. Later requests then skip this check.
        functions = app.before_request_funcs
        functions[None] = [function for function in functions[None] if function is not check_once]


def check_options(app: Flask) -> None:
    """Raise ConfigurationError for an option that ``app.config`` got after the options were read: it has no effect."""
    as_read = app.extensions[_AS_READ]
    for word, mark in _marks(_configured(app)).items():
        if mark != as_read.get(word):
            raise ConfigurationError(
                f"{PREFIX}{word} was set in app.config too late, and has no effect: set it before TokenGuard(app) or "
                "init_app, there or in the environment"
            )


def _marks(options: dict[str, Any]) -> dict[str, int]:
    # Hashes, as one of the options is the signing key; of the text, which also shows a change inside a value.
    return {word: hash(repr(value)) for word, value in options.items()}


def _configured(app: Flask) -> dict[str, Any]:
    options = {key: value for key, value in app.config.items() if key.startswith(PREFIX) and value is not None}
    return {key.removeprefix(PREFIX): value for key, value in options.items()}


def _as_set(app: Flask) -> dict[str, Any]:
    return {**from_environ(), **_configured(app)}


def _given(app: Flask) -> dict[str, Any]:
    if isinstance(app.config.get("TOKENGUARD"), dict):
        raise ConfigurationError(
            "TOKENGUARD is how Django's settings are written: in app.config each option is a key of its own, such as "
            f"{PREFIX}SCOPES"
        )
    given = _as_set(app)
    if not given.keys() & {"SIGNING_KEY", "OLD_SIGNING_KEYS"} and (app.debug or app.testing) and app.secret_key:
        given |= development_keys(app.secret_key, app.config.get("SECRET_KEY_FALLBACKS") or [])
    return given


def _finish_answers(app: Flask, requests: RequestGuard) -> Callable[[], None]:
    """Add the headers that answers need, as the last step of every answer.

    Returns a function for the first request, which corrects the choice of that step if need be.
    """
    kind = type(app)
    processing = _processing(app.process_response, requests)
    finishing: Any = _finishing(app.wsgi_app, requests)

    def process() -> None:
        app.process_response = processing  # type: ignore[method-assign]

    def process_if_passed_by() -> None:
        # Connexion, for one, has taken the application's wsgi_app before anybody can guard it.
        codes = [frame.f_code for frame, _ in walk_stack(None)]
        if getattr(Flask.wsgi_app, "__code__", None) in codes and finishing.__code__ not in codes:
            process()
            if vars(app).get("wsgi_app") is finishing:  # what is called directly must not take both steps
                vars(app).pop("wsgi_app", None)

    if "wsgi_app" in vars(app) or (kind.wsgi_app, kind.request_context) != (Flask.wsgi_app, Flask.request_context):
        # What already wraps Flask may pass on another environ, and the outcome is in that one.
        process()
        return lambda: None
    # Adding headers is cheapest where they are a list: Werkzeug's own class checks each of them twice.
    app.wsgi_app = finishing  # type: ignore[method-assign]
    return process_if_passed_by


def _processing(process: Callable[..., Response], requests: RequestGuard) -> Callable[..., Response]:
    stamp = requests.scheme.form.stamp

    def process_response(*arguments: Any) -> Response:  # how many depends on Flask's version
        response = process(*arguments)
        fields = finished(requests, request.environ, [*response.headers])
        response.headers = Headers(fields if stamp is None else [*fields, stamp()])
        if requests.due:
            if response.direct_passthrough:
                requests.after_response()  # such an answer, sent from a file, is never closed
            else:
                response.call_on_close(requests.after_response)
        return response

    return process_response


def _finishing(application: WSGIApplication, requests: RequestGuard) -> WSGIApplication:
    guard, stamp = requests.guard, requests.scheme.form.stamp

    def wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if stamp is not None:
            start_response = partial(start_stamped, start_response, stamp)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            marked = finished(requests, environ, headers)
            # Not every middleware outside accepts exc_info, which is hardly ever given.
            return start_response(status, marked) if exc_info is None else start_response(status, marked, exc_info)

        try:
            body = application(environ, start)
        except BaseException:
            del environ  # this frame is in the traceback
            raise
        usage = guard.usage
        return body if usage is None or not usage.due else requests.closing(body, environ)

    return wsgi_app
