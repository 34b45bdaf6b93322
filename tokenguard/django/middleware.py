"""The middleware: says who is calling, and what caches must know of the answer. It refuses nothing; views do."""

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

from ..frames import forget
from ..request import RequestGuard
from ..verified import Verified
from .conf import service
from .headers import finish_headers, set_headers
from .signals import heard

T = TypeVar("T")
log = logging.getLogger("tokenguard")
#: Where the request has what the middleware has looked at it with. Not in its environ: whoever reads the headers of
#: that goes through all that is in there.
LOOKED_AT_WITH = "_tokenguard"


class TokenGuardMiddleware:
    """Sets ``request.identity``: an :class:`tokenguard.Identity`, or None when the request carries no valid token.

    Put it into MIDDLEWARE above whatever looks at the identity. On an async server it stays async: what needs no
    database is answered on the event loop, and only what does is asked in a thread. Never touches ``request.user``,
    sessions or cookies. Raises ImproperlyConfigured when the server starts, for a setting that cannot be used, and
    where "tokenguard.django" is not in INSTALLED_APPS.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        # "tokenguard" is taken as well, as any package is: but it has no models, no checks and no commands.
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
            forget(error)
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
            forget(error)
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
    """What the middleware has looked at the request with. Raises ImproperlyConfigured where the middleware is missing.

    It stays the same as long as the request takes, also if a setting changes meanwhile.
    """
    found: RequestGuard | None = getattr(request, LOOKED_AT_WITH, None)
    if found is None:
        raise ImproperlyConfigured(
            'the request did not come through tokenguard: add "tokenguard.django.TokenGuardMiddleware" to MIDDLEWARE'
        )
    return found


async def look_up(request: HttpRequest, requests: RequestGuard) -> None:
    """Find out who is calling, so that it need not be asked on the event loop any more."""

    def authenticate() -> object:
        return requests.authenticate(request.META)  # which is no argument, as those can be seen in asgiref's frames

    if not requests.settle(request.META):
        await sync_to_async(authenticate, thread_sensitive=True)()


async def in_thread_if_heard(function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``, in a thread if receivers of our signals may be called by it: they may wait, or query."""
    return await sync_to_async(function, thread_sensitive=True)(*args) if heard() else function(*args)


def _call_after(response: HttpResponseBase, requests: RequestGuard) -> None:
    # A receiver of Django's signal that says so would cost the requests too that have nothing to write.
    response._resource_closers.append(_AfterResponse(requests))  # type: ignore[attr-defined]


class _AfterResponse:
    """Called when an answer has been sent: writes down what is due of the tokens' use, outside of any transaction.

    It is pickled as something that does nothing: a cache may keep the answer, and that is to be sent by others.
    """

    def __init__(self, requests: RequestGuard) -> None:
        self._requests = requests

    def __call__(self) -> None:
        if self._requests.guard.store.in_transaction:
            return
        self._requests.after_response()
        # As Django will do, but for its test client.
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
