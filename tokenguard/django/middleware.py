"""The middleware: identifies the caller, and sets the headers that caches need. It refuses nothing; views do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache, partial
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..frames import clear_frames
from ..request import RequestGuard
from ..verified import Verified
from .conf import service
from .headers import finish_headers, set_headers
from .signals import heard

T = TypeVar("T")
log = logging.getLogger("tokenguard")
#: The request attribute that holds the RequestGuard which the middleware used. Not a key of the environ, because
#: reading the headers of a request goes through all keys of that.
LOOKED_AT_WITH = "_tokenguard"


class TokenGuardMiddleware:
    """Set ``request.identity`` to an :class:`tokenguard.Identity`, or to None if the request carries no valid token.

    Put it into MIDDLEWARE above everything that reads the identity. On an async server it stays async: a request that
    needs no database is authenticated on the event loop, and only one that does uses a thread. It never touches
    ``request.user``, sessions or cookies. Raises ImproperlyConfigured when the server starts, if a setting cannot be
    used or "tokenguard.django" is not in INSTALLED_APPS.
    """

    sync_capable = True
    async_capable = True

    # Of any request: a guarded view takes a GuardedRequest.
    def __init__(self, get_response: Callable[[Any], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        # Django accepts "tokenguard" as well, like any package, but that has no models, no checks and no commands.
        if not apps.is_installed("tokenguard.django"):
            raise ImproperlyConfigured('add "tokenguard.django" to INSTALLED_APPS')
        service()

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return self._respond(request)
        requests, environ = service().requests, request.META
        try:
            if hasattr(request, "identity"):
                _warn_if_taken(request)
            found = requests.wave_through(environ, None)
            if found is None:
                identity = requests.authenticate(environ)
            else:
                identity = found.identity if isinstance(found, Verified) else None
        except BaseException as error:
            clear_frames(error)
            del environ
            raise
        request.identity = identity  # type: ignore[attr-defined]
        request._tokenguard = requests  # type: ignore[attr-defined]
        response = self.get_response(request)
        finish_headers(requests, environ, response)
        if (stamp := requests.scheme.form.stamp) is not None:
            set_headers(response, [stamp()])
        usage = requests.guard.usage
        if usage is not None and usage.due:
            _call_after(response, requests)
        return response

    async def _respond(self, request: HttpRequest) -> HttpResponseBase:
        requests = service().requests
        try:
            if hasattr(request, "identity"):
                _warn_if_taken(request)
            await look_up(request, requests)
            identity = requests.authenticate(request.META)
        except BaseException as error:
            clear_frames(error)
            raise
        request.identity = identity  # type: ignore[attr-defined]
        request._tokenguard = requests  # type: ignore[attr-defined]
        response: HttpResponseBase = await self.get_response(request)
        await in_thread_if_heard(finish_headers, requests, request.META, response)
        if (stamp := requests.scheme.form.stamp) is not None:
            set_headers(response, [stamp()])
        if requests.due:
            _call_after(response, requests)
        return response


def guard_of(request: HttpRequest) -> RequestGuard:
    """Return the RequestGuard that the middleware used. Raises ImproperlyConfigured if the middleware is missing.

    It stays the same for the whole request, even if a setting changes meanwhile.
    """
    found: RequestGuard | None = getattr(request, LOOKED_AT_WITH, None)
    if found is None:
        raise ImproperlyConfigured(
            'the request did not come through tokenguard: add "tokenguard.django.TokenGuardMiddleware" to MIDDLEWARE; '
            "a test that calls a view with a request of its own must write TokenGuardMiddleware(view)(request)"
        )
    return found


async def look_up(request: HttpRequest, requests: RequestGuard) -> None:
    """Authenticate the request, in a thread if that may wait, so that nothing later waits on the event loop."""

    def authenticate() -> object:
        return requests.authenticate(request.META)  # not an argument, as asgiref's frames would show it

    if not requests.settle(request.META):
        await sync_to_async(authenticate, thread_sensitive=True)()


async def in_thread_if_heard(function: Callable[..., T], *args: Any) -> T:
    """Return ``function(*args)``, called in a thread if our signals have receivers: those may wait, or query."""
    return await sync_to_async(function, thread_sensitive=True)(*args) if heard() else function(*args)


def _call_after(response: HttpResponseBase, requests: RequestGuard) -> None:
    # Not by a receiver of request_finished, which would also cost the requests that have nothing to write.
    response._resource_closers.append(_AfterResponse(requests))  # type: ignore[attr-defined]


class _AfterResponse:
    """Called when an answer has been sent: writes the token uses that are due, outside of any transaction.

    It is pickled as a function that does nothing, because a cache may store the answer and others then send it.
    """

    def __init__(self, requests: RequestGuard) -> None:
        self._requests = requests

    def __call__(self) -> None:
        if self._requests.guard.store.in_transaction:
            return
        self._requests.after_response()
        # Django does the same at the end of a request, but not under its test client.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (bool,)


def _warn_if_taken(request: HttpRequest) -> None:
    if (other := getattr(request, "identity", None)) is not None and not hasattr(request, LOOKED_AT_WITH):
        _warn_once(type(other).__qualname__)


@cache
def _warn_once(kind: str) -> None:
    log.warning(
        "request.identity was set already, to a %s: tokenguard's takes its place. Rename the other, or move "
        "TokenGuardMiddleware above what sets it",
        kind,
    )
