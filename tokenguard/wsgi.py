"""The way of a request, in one place: environ → credential → Identity → requirement → the application.

Frameworks call :class:`RequestGuard` and translate its refusals; they decide nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response

from .errors import AuthError
from .guard import Guard, log
from .http import AuthScheme, is_preflight
from .identity import Identity
from .scopes import ANY_TOKEN, Requirement

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Where the view finds the Identity, or None when the request carries no valid token.
IDENTITY = "tokenguard.identity"
_OUTCOME = "tokenguard.outcome"


class RequestGuard:
    """A guard and the way that tokens are sent: all that stands between a request and a view."""

    def __init__(self, guard: Guard, scheme: AuthScheme) -> None:
        self.guard = guard
        self.scheme = scheme

    def admit(self, environ: WSGIEnvironment, requirement: Requirement) -> Identity:
        """The caller's identity, if it may pass; raises AuthError if not. Asked again, it verifies only once."""
        try:
            result = self._authenticate(environ)
            if isinstance(result, AuthError):
                raise result
            self.guard.authorize(result, requirement)
        except AuthError as error:
            # A new outcome, not a changed one: a copy of this environ may be another request's by now.
            environ[_OUTCOME] = _Outcome(self, self.scheme.sources(environ), error, refused=True)
            _log_refusal(error, environ.get("REMOTE_ADDR"))
            raise
        return result

    def identify(self, environ: WSGIEnvironment) -> Identity | None:
        """The caller's identity, or None for whatever reason: where a token is welcome but not asked for."""
        result = self._authenticate(environ)
        return None if isinstance(result, AuthError) else result

    def finish(self, environ: WSGIEnvironment, headers: Headers) -> None:
        """Add to an answer's headers what caches must know, and to a refusal, however worded, its challenge."""
        outcome = self._remembered(environ)
        if outcome is None:
            return
        if outcome.refused and isinstance(outcome.result, AuthError):
            headers.update(self.scheme.refusal_headers(outcome.result))
        else:
            self.scheme.mark(headers)

    def _authenticate(self, environ: WSGIEnvironment) -> Identity | AuthError:
        outcome = self._remembered(environ)
        if outcome is None:
            outcome = environ[_OUTCOME] = _Outcome(self, self.scheme.sources(environ), self._verify(environ))
            environ[IDENTITY] = outcome.result if isinstance(outcome.result, Identity) else None
        return outcome.result

    def _verify(self, environ: WSGIEnvironment) -> Identity | AuthError:
        try:
            return self.guard.authenticate(self.scheme.credential(environ))
        except AuthError as error:
            return error.with_traceback(None)

    def _remembered(self, environ: WSGIEnvironment) -> _Outcome | None:
        # Only what this very guard found out, since another one may stand before the same application with other
        # keys; and only of this credential, since an application may make a request of its own from a copy.
        outcome: _Outcome | None = environ.get(_OUTCOME)
        if outcome is None or outcome.owner is not self or outcome.sources != self.scheme.sources(environ):
            return None
        return outcome


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a request's credential, remembered in its environ."""

    owner: RequestGuard
    #: Where the credential was looked for, and what was there.
    sources: tuple[str | None, ...] = field(repr=False)
    result: Identity | AuthError
    #: Whether the request was refused; a bad credential alone does not refuse one.
    refused: bool = False


def _log_refusal(error: AuthError, address: str | None) -> None:
    # A token that this service did issue is somebody's trouble; noise from strangers is not.
    level = logging.WARNING if error.client_id is not None else logging.INFO
    log.log(
        level,
        "refused %d %s: %s (token %s, client %s, from %s)",
        error.status,
        error.code,
        error.reason,
        error.token_id or "-",
        error.client_id or "-",
        ascii(address) if address else "-",
    )


class TokenGuardMiddleware:
    """Guards every request to any WSGI application.

    ``TokenGuardMiddleware(app, guard, "users:read")`` asks for all the scopes that are named, ``any_of=(…)`` for
    one of those; with neither, any valid token will do. The application finds the caller in
    ``environ["tokenguard.identity"]``. Raises InvalidValue for a malformed scope or an empty ``any_of``, and
    ConfigurationError for a scope that the guard's catalogue does not have.

    A CORS preflight is answered here, empty, and does not reach the application: put what speaks CORS around this.
    """

    def __init__(
        self,
        app: WSGIApplication,
        guard: Guard,
        *scopes: str,
        any_of: Iterable[str] | None = None,
        scheme: AuthScheme | None = None,
    ) -> None:
        self.app = app
        asked = scopes or any_of is not None
        self.requirement = Requirement.scopes(*scopes, any_of=any_of or ()) if asked else ANY_TOKEN
        guard.catalog.check(self.requirement)
        self.requests = RequestGuard(guard, scheme or AuthScheme())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_preflight(environ):
            return Response(status=204)(environ, start_response)
        try:
            self.requests.admit(environ, self.requirement)
        except AuthError as error:
            error.__traceback__ = None  # it leads to the environ, which remembers the error
            status, headers, body = self.requests.scheme.refusal(error)
            return Response(body, status, headers)(environ, start_response)
        return self.app(environ, self._marking(start_response))

    def _marking(self, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            marked = Headers(headers)
            self.requests.scheme.mark(marked)
            return start_response(status, marked.to_wsgi_list(), exc_info)

        return start
