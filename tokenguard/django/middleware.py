"""The middleware: says who is calling, and what caches must know of the answer. It refuses nothing; views do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..identity import Identity
from ..wsgi import RequestGuard
from .conf import built, service
from .signals import heard

T = TypeVar("T")
log = logging.getLogger("tokenguard")
_MIDDLEWARE = "tokenguard.middleware"


class TokenGuardMiddleware:
    """Sets ``request.identity``: an :class:`tokenguard.Identity`, or None when the request carries no valid token.

    Put it into MIDDLEWARE above whatever looks at the identity. On an async server it stays async: what needs no
    database is answered on the event loop, and only what does is asked in a thread. Never touches ``request.user``,
    sessions or cookies. Raises ImproperlyConfigured when the server starts, for a setting that cannot be used.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        service()

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._respond(request)
        requests = service().requests
        _introduce(request, requests.authenticate(request.META))
        return _finished(request, self.get_response(request), requests)

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        requests = service().requests
        await look_up(request, requests)
        _introduce(request, requests.authenticate(request.META))
        response = await self.get_response(request)
        return await in_thread_if_heard(_finished, request, response, requests)


def passed(request: HttpRequest) -> bool:
    """Whether the request came through this middleware."""
    return _MIDDLEWARE in request.META


async def look_up(request: HttpRequest, requests: RequestGuard) -> None:
    """Find out who is calling, so that it need not be asked on the event loop any more."""
    if not requests.settle(request.META):
        await sync_to_async(requests.authenticate, thread_sensitive=True)(request.META)


async def in_thread_if_heard(function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``, in a thread if receivers of our signals may be called by it: they may wait, or query."""
    return await sync_to_async(function, thread_sensitive=True)(*args) if heard() else function(*args)


def after_response(**kwargs: Any) -> None:
    """When an answer has been sent: writes down what is due of the tokens' use, outside of any transaction."""
    found = built()
    usage = None if found is None else found.requests.guard.usage
    if usage is not None and usage.due:
        usage.write()
        # Django has looked after its connections already.
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()


def _introduce(request: HttpRequest, identity: Identity | None) -> None:
    if getattr(request, "identity", None) is not None and not passed(request):
        _warn_once(type(request.identity).__qualname__)  # type: ignore[attr-defined]
    request.META[_MIDDLEWARE] = True
    request.identity = identity  # type: ignore[attr-defined]


@cache
def _warn_once(kind: str) -> None:
    log.warning(
        "request.identity was set already, to a %s: tokenguard's takes its place. Rename the other, or move "
        "TokenGuardMiddleware above what sets it",
        kind,
    )


def _finished(request: HttpRequest, response: HttpResponseBase, requests: RequestGuard) -> HttpResponseBase:
    headers = response.headers
    for name, value in requests.finish(request.META, headers.get("Cache-Control"), headers.get("Vary", "")):
        headers[name] = value
    return response
