"""Django, and Django REST framework: the view, the least that a guard could do, tokenguard, and its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from tokenguard.django import get_store, require_scopes

from ..django_project import GUARD, handler, serve, urls
from ..fixtures import SCOPE, forgeries, issue
from . import by_hand
from .contestants import Contestant
from .wsgi_apps import MANY, REFUSED, floors, tokenguard_contestants

if TYPE_CHECKING:
    from django.core.handlers.wsgi import WSGIHandler


def users(request: HttpRequest) -> HttpResponse:
    """A small answer in JSON."""
    return JsonResponse({"users": []})


def entering(view: Any) -> Callable[[], None]:
    """Return what makes the project serve only this view, so that no view is found later than another."""
    return partial(serve, urls(users=view))


def contestant(name: str, app: WSGIHandler, view: Any, text: str, **more: Any) -> Contestant:
    """Return a contestant with one token on one view."""
    return Contestant(name, app, [text], enter=entering(view), **more)


def floor(find: by_hand.Find) -> Callable[[HttpRequest], HttpResponse]:
    """The least that a guard could do."""

    def guarded(request: HttpRequest) -> HttpResponse:
        caller = find(request.META["HTTP_AUTHORIZATION"][7:])
        if caller is None or SCOPE not in caller[1]:
            return HttpResponse(status=401, headers=REFUSED)
        request.META["bench.identity"] = caller[0]
        response = users(request)
        response.headers["Vary"] = "Authorization"
        response.headers["Cache-Control"] = "private"
        return response

    return guarded


class FloorMiddleware:
    """The least that a guard could do if it names the caller to all views, and adds headers to all answers."""

    #: Finds the caller by the token that was sent.
    find: ClassVar[by_hand.Find]

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.caller = type(self).find(request.META["HTTP_AUTHORIZATION"][7:])  # type: ignore[attr-defined]
        response = self.get_response(request)
        response.headers["Vary"] = "Authorization"
        response.headers["Cache-Control"] = "private"
        return response


def scope_asked(request: HttpRequest) -> HttpResponse:
    """The view, for callers that the middleware has found to have the scope."""
    caller = request.caller  # type: ignore[attr-defined]
    if caller is None or SCOPE not in caller[1]:
        return HttpResponse(status=401, headers=REFUSED)
    return users(request)


def with_middleware(view: Any, token: str) -> Contestant:
    """The least that a guard could do in two places, as in a project of many views."""
    find = by_hand.remembered(token)

    def enter() -> None:
        entering(view)()
        FloorMiddleware.find = staticmethod(find)

    app = handler(f"{__name__}.FloorMiddleware")
    return Contestant("floor, with a middleware", app, [token], marked=True, enter=enter)


def ask(query: str, parameters: tuple[str, str]) -> Any:
    """Run a query on Django's own connection, with that connection's placeholders; returns the cursor."""
    cursor = connection.cursor()
    cursor.execute(query.replace("?", "%s"), parameters)
    return cursor


def make_contestants() -> tuple[Contestant, list[Contestant]]:
    """Return the view without a guard, and with each of the guards."""
    tokens = issue(get_store(), 1 + MANY)
    plain, guarded = handler(), handler(GUARD)
    return contestant("bare", plain, users, tokens[0]), [
        *floors(lambda find: (plain, entering(floor(find))), tokens, by_hand.asking(ask)),
        with_middleware(scope_asked, tokens[0]),
        *tokenguard_contestants((guarded, entering(require_scopes(SCOPE)(users))), tokens),
        Contestant("**tokenguard**, forged, at an open view", guarded, forgeries(MANY), enter=entering(users)),
    ]
