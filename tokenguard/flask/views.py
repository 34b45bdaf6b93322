"""For use in views: the decorators, and the caller's identity."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, wraps
from itertools import chain
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakSet

import flask.globals
from flask import Flask, Response, abort, current_app, has_request_context, request
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.local import LocalProxy

from ..errors import AuthError, ConfigurationError
from ..frames import clear_frames
from ..http import is_preflight
from ..identity import Identity
from ..request import RequestGuard
from ..scopes import ANY_TOKEN, Requirement
from ..wsgi import to_headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask.ctx import RequestContext
    from flask.sansio.app import App

    from ..service import Service

# Attributes in which check_views finds a function's requirement, and the guarded functions that were made from it.
_REQUIREMENT = "__tokenguard_requirement__"
_GUARDED_FORMS = "__tokenguard_guarded_forms__"
#: How many layers of a decorated view are looked at, at most.
MANY_LAYERS = 100

# Flask 3.2 merged the request's context into the application's. The older name warns; Flask 4 will not have it.
request_context: Any = vars(flask.globals).get("request_ctx", flask.globals.app_ctx)

P = ParamSpec("P")
R = TypeVar("R")


class Refused(HTTPException):
    """A refusal, raised for Flask's error handlers: those for its status, for HTTPException, or for this class.

    ``error`` is the AuthError. A handler may word the answer as it likes; the challenge and the caching headers
    are added to whatever it returns.
    """

    #: The HTTP status; never None, as it may be in an HTTPException.
    code: int

    def __init__(self, error: AuthError, response: Response) -> None:
        super().__init__(error.detail, response)
        self.error = error


@cache
def _refused(status: int) -> type[Refused]:
    # Flask finds the handler for 401 by Werkzeug's class for 401, so a refusal is a subclass of that too.
    return type(f"Refused{status}", (Refused, default_exceptions[status]), {})


def require_scopes(*scopes: str, any_of: Iterable[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a view be called only with a token that has all of ``scopes`` and, if given, one of ``any_of``.

    For functions, async functions, methods of a class-based view, and a view class's ``decorators``. Put it below
    the route. Raises InvalidValue at once for a malformed scope or none at all.
    """
    return _guarding(Requirement.scopes(*scopes, any_of=any_of))


def require_token(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view be called only with a valid token, whatever its scopes."""
    return _guarding(ANY_TOKEN)(view)


def get_identity() -> Identity | None:
    """Return the caller's identity, or None when the request carries no valid token.

    Works in any view, guarded or not.
    """
    if not has_request_context():
        return None
    found, environ = at_hand()
    return found.requests.identify(environ)


def _current_identity() -> Identity:
    identity = get_identity()
    if identity is None:
        raise RuntimeError(
            "there is no current_identity: outside a request, or the request has no valid token. "
            "Guard the view with @require_token or @require_scopes, or use get_identity()."
        )
    return identity


#: The caller's :class:`Identity`. False without one; touching it then raises RuntimeError.
current_identity: Identity = cast(Identity, LocalProxy(_current_identity))


def service() -> Service:
    """Return what the extension set up for the current application."""
    return service_of(_app_at_hand())


def at_hand() -> tuple[Service, WSGIEnvironment]:
    """Return what the extension set up for the application of the current request, and the request's environ."""
    # Both are read from the request's own context: another application may be the current one for a while, and Flask's
    # proxies take five times as long.
    context: RequestContext = request_context._get_current_object()
    return service_of(context.app), context.request.environ


def service_of(app: Flask) -> Service:
    """Return what the extension set up for ``app``; raises ConfigurationError if it has not."""
    try:
        found: Service = app.extensions["tokenguard"]
        return found
    except KeyError:
        raise ConfigurationError(
            "this application has no tokenguard: call TokenGuard(app) or guard.init_app(app)"
        ) from None


def needed_service(app: App, what: str) -> Service:
    """Return what the extension set up for ``app``; raises ConfigurationError, naming ``what``, if it has not."""
    found: Service | None = app.extensions.get("tokenguard")
    if found is None:
        raise ConfigurationError(
            f"{what} requires a guard: call TokenGuard(app) or guard.init_app(app) before the blueprint is registered"
        )
    return found


def _app_at_hand() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app


def refuse_unless(requirement: Requirement, guarded: Callable[..., Any] | None = None) -> Response | None:
    """Return the answer to a request that does not meet ``requirement``, or to a preflight; None if it may pass.

    Raises Refused instead where the application may want to word the answer, and where ``guarded`` is not the view.
    In the latter case the answer to a preflight is raised, too.
    """
    found, environ = at_hand()
    requests = found.requests
    if environ["REQUEST_METHOD"] == "OPTIONS" and is_preflight(environ):
        answer = current_app.make_default_options_response()
        return answer if _is_asked_by_flask(guarded) else abort(answer)
    try:
        if requests.wave_through(environ, requirement) is not None:
            return None
        decided = requests.decide(environ, requirement)
    except BaseException as error:
        clear_frames(error)
        del environ
        raise
    if isinstance(decided, AuthError):
        del environ  # an error handler gets the traceback, which has this frame
        return _refusal(requests, decided, guarded)
    return None


def _refusal(requests: RequestGuard, error: AuthError, guarded: Callable[..., Any] | None) -> Response:
    status, headers, body = requests.scheme.refusal(error)
    response = Response([body], status, to_headers(headers))
    if not _is_asked_by_flask(guarded) or _may_be_worded(_app_at_hand()):
        raise _refused(status)(error, response)
    return response


def _is_asked_by_flask(guarded: Callable[..., Any] | None) -> bool:
    # The caller of a function that is not the view, such as a GraphQL resolver, would take the answer for its result.
    if guarded is None:
        return True
    view = _app_at_hand().view_functions.get(request.endpoint or "")
    if guarded in _layers(view):
        return True
    kind = getattr(view, "view_class", None)
    return guarded in chain(_layers(getattr(kind, "dispatch_request", None)), _layers(_method_at_hand(kind)))


def _method_at_hand(kind: type | None) -> Callable[..., Any] | None:
    """The method of a view class that answers the request."""
    found: Callable[..., Any] | None = getattr(kind, request.method.lower(), None)
    return getattr(kind, "get", None) if found is None and request.method == "HEAD" else found  # as Flask does


def _may_be_worded(app: Flask) -> bool:
    """Whether the application may want to word a refusal; if not, returning the answer is quicker than raising it."""
    for_codes = chain.from_iterable(spec.values() for spec in app.error_handler_spec.values())
    return (
        any(for_codes)
        or app.config["TRAP_HTTP_EXCEPTIONS"]
        or getattr(app.handle_user_exception, "__func__", None) is not Flask.handle_user_exception
    )


def _layers(view: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """A view, and the functions that it wraps, from the outermost in."""
    for _ in range(MANY_LAYERS):  # a function that claims to wrap itself has no last layer
        if view is None:
            return
        view = getattr(view, "__func__", view)  # a bound method is a new object each time
        yield view
        view = getattr(view, "__wrapped__", None)


def check_views(app: Flask) -> None:
    """Raise ConfigurationError for a view that is open by mistake, or that requires a scope that nobody could hold.

    ``@require_scopes`` above the route guards nothing: the route has already registered the bare function. The sign of
    this is a bare function that is a view, while none of its guarded forms is. Either may be a layer within a view:
    some routes wrap the function that they are given.
    """
    # Compared by id, as not every callable is hashable.
    views = {id(layer) for view in app.view_functions.values() for layer in _layers(view)}
    for endpoint, view in app.view_functions.items():
        guarded_forms = [getattr(layer, _GUARDED_FORMS, None) for layer in _layers(view)]
        if any(forms is not None and views.isdisjoint(map(id, forms)) for forms in guarded_forms):
            raise ConfigurationError(
                f"the view {endpoint!r} is open although it should be guarded: put @require_scopes or @require_token "
                "below the route"
            )
        if (requirement := getattr(view, _REQUIREMENT, None)) is not None:
            try:
                service().options.catalog.check(requirement)
            except ConfigurationError as error:
                raise ConfigurationError(f"the view {endpoint!r}: {error}") from None


def _guarding(requirement: Requirement) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        if not callable(view):
            raise TypeError(f"expected a view, not {view!r}: to require scopes, write @require_scopes(…)")
        if inspect.isclass(view):
            decorator = "require_token" if requirement is ANY_TOKEN else "require_scopes(…)"
            raise TypeError(f"guard the class {view.__name__} with decorators = [{decorator}] in its body")

        is_async = inspect.iscoroutinefunction(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if (answer := refuse_unless(requirement, guarded)) is not None:
                return answer
            called = current_app.ensure_sync(view) if is_async else view
            return called(*args, **kwargs)

        # wraps() has copied the guarded forms of ``view``, which are not those of ``guarded``.
        vars(guarded).pop(_GUARDED_FORMS, None)
        setattr(guarded, _REQUIREMENT, requirement)
        _remember_form(view, guarded)
        return cast(Callable[P, R], guarded)

    return decorate


def _remember_form(view: Callable[..., Any], guarded: Callable[..., Any]) -> None:
    # Not every callable takes attributes; one that does not is not checked. The references are weak: a form that nobody
    # holds is no view, and a view may guard the same function anew with each request.
    with suppress(AttributeError, TypeError):
        vars(view).setdefault(_GUARDED_FORMS, WeakSet()).add(guarded)
