"""The middleware for any WSGI application; and how an answer gets its headers, which the Flask extension shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.http import HTTP_STATUS_CODES

from .errors import AuthError
from .frames import clear_frames
from .guard import Guard
from .hooks import Hooks
from .http import Answer, AuthScheme, is_for_others, is_preflight
from .request import RequestGuard
from .scopes import Requirement

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CACHING = {"cache-control", "vary"}
#: Headers that most answers have, in their usual spelling, and that are none of these.
_NOT_CACHING = {"Content-Type", "Content-Length", "Content-type", "Content-length", "Location", "Set-Cookie"}
#: Whether Werkzeug's headers keep their fields in this private list, as all versions so far do.
_HEADERS_ARE_A_LIST = getattr(Headers([("Vary", "x")]), "_list", None) == [("Vary", "x")]


def says_nothing_of_caching(fields: Iterable[tuple[str, str]]) -> bool:
    """Whether an answer with these headers has none of those that :meth:`RequestGuard.finish` looks at."""
    for name, _ in fields:  # noqa: SIM110 - each request comes by here, and a generator costs more than this loop
        if name not in _NOT_CACHING and name.lower() in _CACHING:
            return False
    return True


def to_headers(fields: list[tuple[str, str]]) -> Headers:
    """Return Werkzeug's headers with these fields, which are printable ASCII."""
    if not _HEADERS_ARE_A_LIST:
        return Headers(fields)
    headers = Headers()
    headers._list.extend(fields)  # what Werkzeug does once it has checked each of them
    return headers


def finished(requests: RequestGuard, environ: WSGIEnvironment, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return an answer's headers, with those set that :meth:`RequestGuard.finish` returns."""
    if (marks := requests.plain_marks(environ)) is not None and says_nothing_of_caching(fields):
        return [*fields, *marks]
    refused = requests.refused_with(environ)
    if fields[2:] == refused:
        return fields  # the refusal is as it was made
    new = requests.finish(environ, *_said_to_caches(fields))
    return _replaced(fields, new) if refused is None else _worded(fields, new)


def _said_to_caches(fields: list[tuple[str, str]]) -> tuple[str | None, str]:
    """Return an answer's own Cache-Control, and all its Vary headers as one."""
    vary = ",".join(value for name, value in fields if name.lower() == "vary")
    return next((value for name, value in fields if name.lower() == "cache-control"), None), vary


def _replaced(fields: list[tuple[str, str]], new: list[tuple[str, str]]) -> list[tuple[str, str]]:
    names = {name.lower() for name, _ in new}
    return [*(field for field in fields if field[0].lower() not in names), *new]


def _worded(fields: list[tuple[str, str]], refused: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Set a refusal's headers on the application's own wording of it, which may ask for other credentials too."""
    kept = [field for field in fields if field[0].lower() == "www-authenticate" and is_for_others(field[1])]
    return _replaced(fields, [*kept, *refused])


def _send(answer: Answer, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    status, headers, body = answer
    start_response(f"{status} {HTTP_STATUS_CODES[status].upper()}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def start_stamped(
    start_response: StartResponse,
    stamp: Callable[[], tuple[str, str]],
    status: str,
    headers: list[tuple[str, str]],
    *exc_info: Any,
) -> Callable[[bytes], object]:
    """Call ``start_response`` with one more header, which identifies this answer."""
    return start_response(status, [*headers, stamp()], *exc_info)


class TokenGuardMiddleware:
    """Guards every request to any WSGI application.

    ``TokenGuardMiddleware(app, guard, "users:read")`` requires all of the named scopes, ``any_of=(…)`` at least
    one of them; with neither, any valid token will do. The application finds the caller in
    ``environ["tokenguard.identity"]``. Raises InvalidValue for a malformed scope or an empty ``any_of``, and
    ConfigurationError for a scope that the guard's catalogue does not have.

    A CORS preflight is answered here, with an empty body, and does not reach the application: put CORS middleware
    around this one. A request for the metadata of the scheme's resource is answered here too.
    """

    def __init__(
        self,
        app: WSGIApplication,
        guard: Guard,
        *scopes: str,
        any_of: Iterable[str] | None = None,
        scheme: AuthScheme | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.app = app
        self.requirement = Requirement.scopes_or_token(*scopes, any_of=any_of)
        guard.catalog.check(self.requirement)
        self.requests = RequestGuard(guard, scheme or AuthScheme(), hooks=hooks)
        self._has_metadata = self.requests.scheme.resource is not None
        self._stamp = self.requests.scheme.form.stamp

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        requests = self.requests
        if self._stamp is not None:
            start_response = partial(start_stamped, start_response, self._stamp)
        if self._has_metadata and (answer := requests.scheme.metadata(environ)) is not None:
            return _send(answer, environ, start_response)
        if environ["REQUEST_METHOD"] == "OPTIONS" and is_preflight(environ):
            return _send(Answer(204, [], b""), environ, start_response)
        try:
            verified = requests.wave_through(environ, self.requirement)
            if verified is None:
                decided = requests.decide(environ, self.requirement)
                if isinstance(decided, AuthError):
                    refusal = _send(requests.scheme.refusal(decided), environ, start_response)
                    return requests.closing(refusal, environ) if requests.due else refusal
                verified = decided
        except BaseException as error:
            clear_frames(error)
            del environ
            raise
        is_plain = verified.allowance is None

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            if is_plain and says_nothing_of_caching(headers):
                marked = [*headers, *requests.scheme.plain_marks]
            else:
                marked = finished(requests, environ, headers)
            # Passed only if present: not every middleware around this one accepts it.
            return start_response(status, marked) if exc_info is None else start_response(status, marked, exc_info)

        try:
            body = self.app(environ, start)
        except BaseException:
            del environ  # this frame is in the traceback
            raise
        usage = requests.guard.usage
        return body if usage is None or not usage.due else requests.closing(body, environ)
