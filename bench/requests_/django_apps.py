"""Django, and Django REST framework: the view, the least that a guard could do, tokenguard, and its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

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
    """What makes the project serve this view alone, so that none is found later than another."""
    return partial(serve, urls(users=view))


def contestant(name: str, app: WSGIHandler, view: Any, text: str, **more: Any) -> Contestant:
    """One token on one view."""
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


def ask(query: str, parameters: tuple[str, str]) -> Any:
    """A cursor that has asked this of Django's own connection, with whose placeholders it is written."""
    cursor = connection.cursor()
    cursor.execute(query.replace("?", "%s"), parameters)
    return cursor


def make_contestants() -> tuple[Contestant, list[Contestant]]:
    """The view without a guard; and with one."""
    tokens = issue(get_store(), MANY)
    plain, guarded = handler(), handler(GUARD)
    return contestant("bare", plain, users, tokens[0]), [
        *floors(lambda find: (plain, entering(floor(find))), tokens, by_hand.asking(ask)),
        *tokenguard_contestants((guarded, entering(require_scopes(SCOPE)(users))), tokens),
        Contestant("**tokenguard**, forged, at an open view", guarded, forgeries(MANY), enter=entering(users)),
    ]
