"""The way of a request, in one place: environ → credential → Identity → requirement → the application.

Frameworks call :class:`RequestGuard` and translate its refusals; they decide nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from .conditions import read_address
from .errors import AuthError, MissingToken
from .guard import Admitted, Guard, log
from .hooks import Hooks, call
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

    def __init__(self, guard: Guard, scheme: AuthScheme, *, hooks: Hooks | None = None) -> None:
        self.guard = guard
        self.scheme = scheme
        self.hooks = hooks or Hooks()

    def admit(self, environ: WSGIEnvironment, requirement: Requirement) -> Identity:
        """The caller's identity, if it may pass; raises AuthError if not. Asked again, it verifies only once."""
        try:
            admitted = self._authenticate(environ)
            if isinstance(admitted, AuthError):
                raise admitted
            self.guard.authorize(admitted.identity, requirement)
        except AuthError as error:
            # A new outcome, not a changed one: a copy of this environ may be another request's by now.
            environ[_OUTCOME] = _Outcome(self, self.scheme.sources(environ), error, refused=True)
            _log_refusal(error, self.scheme.address(environ))
            call(self.hooks.refused, error=error, environ=environ)
            raise
        self._let_in(admitted, requirement, environ)
        return admitted.identity

    def objection(self, environ: WSGIEnvironment, requirement: Requirement) -> AuthError | None:
        """What :meth:`admit` would raise, with nothing refused by that: where something else may let the request in."""
        result = self._authenticate(environ)
        if isinstance(result, AuthError):
            return result
        try:
            self.guard.authorize(result.identity, requirement)
        except AuthError as error:
            return error.with_traceback(None)
        return None

    def identify(self, environ: WSGIEnvironment) -> Identity | None:
        """The caller's identity, or None for whatever reason: where a token is welcome but not asked for."""
        result = self._authenticate(environ)
        if isinstance(result, AuthError):
            return None
        if not environ[_OUTCOME].let_in:
            self._let_in(result, ANY_TOKEN, environ)  # also this is a use of the token
        return result.identity

    def authenticate(self, environ: WSGIEnvironment) -> Identity | None:
        """The same, before it is known whether the request will be let in: :meth:`finish` tells."""
        result = self._authenticate(environ)
        return None if isinstance(result, AuthError) else result.identity

    def settle(self, environ: WSGIEnvironment) -> bool:
        """Authenticate as far as that needs no store, and return whether that was all of it.

        For an event loop, which must not wait: what remains is done in a thread, by :meth:`authenticate`.
        """
        if self._remembered(environ) is None:
            try:
                self.guard.recognise(self.scheme.credential(environ))
            except AuthError as error:
                self._remember(environ, error.with_traceback(None))
            else:
                return False
        return True

    def finish(self, environ: WSGIEnvironment, cache_control: str | None, vary: str) -> list[tuple[str, str]]:
        """The headers to set on an answer, given its own Cache-Control and (comma-separated) Vary.

        They tell caches what they must know, and of a refusal, however it is worded, the challenge.
        """
        outcome = self._remembered(environ)
        if outcome is None:
            return []
        if outcome.refused and isinstance(outcome.result, AuthError):
            return self.scheme.refusal_headers(outcome.result)
        if isinstance(outcome.result, Admitted) and not outcome.let_in:
            self._let_in(outcome.result, ANY_TOKEN, environ)  # nobody asked for a token, and this one was welcome
        headers = self.scheme.marks(cache_control, vary)
        if isinstance(outcome.result, MissingToken):
            # What nobody in particular was told, a shared cache may keep for all who send no token.
            return [header for header in headers if header[0] == "Vary"]
        if isinstance(outcome.result, Admitted) and outcome.result.allowance is not None:
            headers += self.scheme.rate_fields(outcome.result.allowance)
        return headers

    def after_response(self) -> None:
        """To be called when an answer has been sent: writes down what is due of the tokens' use."""
        usage = self.guard.usage
        if usage is not None and usage.due:
            usage.write()

    def _let_in(self, admitted: Admitted, requirement: Requirement, environ: WSGIEnvironment) -> None:
        # A view of a guarded blueprint may ask for more: that is still one request.
        outcome: _Outcome = environ[_OUTCOME]
        if self.guard.usage is not None:
            asked = [name for name in requirement.names if name in admitted.identity.scopes]
            address = str(read_address(self.scheme.address(environ)) or "")
            self.guard.usage.note(admitted.record, asked, address, requests=0 if outcome.let_in else 1)
        if not outcome.let_in:
            environ[_OUTCOME] = replace(outcome, let_in=True)
            call(self.hooks.authenticated, identity=admitted.identity, environ=environ)

    def _authenticate(self, environ: WSGIEnvironment) -> Admitted | AuthError:
        outcome = self._remembered(environ)
        return self._remember(environ, self._verify(environ)) if outcome is None else outcome.result

    def _remember(self, environ: WSGIEnvironment, result: Admitted | AuthError) -> Admitted | AuthError:
        environ[_OUTCOME] = _Outcome(self, self.scheme.sources(environ), result)
        environ[IDENTITY] = result.identity if isinstance(result, Admitted) else None
        return result

    def _verify(self, environ: WSGIEnvironment) -> Admitted | AuthError:
        try:
            return self.guard.admit(self.scheme.credential(environ), self.scheme.address(environ))
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
    result: Admitted | AuthError
    #: Whether the request was refused; a bad credential alone does not refuse one.
    refused: bool = False
    #: Whether it was let in before, with a view that asks in more than one place.
    let_in: bool = False


def finish_headers(requests: RequestGuard, environ: WSGIEnvironment, headers: Headers) -> None:
    """:meth:`RequestGuard.finish` done to Werkzeug's headers."""
    headers.update(requests.finish(environ, *_caching(headers)))


def _caching(headers: Headers) -> tuple[str | None, str]:
    return headers.get("Cache-Control"), ",".join(headers.getlist("Vary"))


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
        hooks: Hooks | None = None,
    ) -> None:
        self.app = app
        asked = scopes or any_of is not None
        self.requirement = Requirement.scopes(*scopes, any_of=any_of or ()) if asked else ANY_TOKEN
        guard.catalog.check(self.requirement)
        self.requests = RequestGuard(guard, scheme or AuthScheme(), hooks=hooks)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_preflight(environ):
            return Response(status=204)(environ, start_response)
        try:
            self.requests.admit(environ, self.requirement)
        except AuthError as error:
            error.__traceback__ = None  # it leads to the environ, which remembers the error
            status, headers, body = self.requests.scheme.refusal(error)
            return Response(body, status, headers)(environ, start_response)
        answer = self.app(environ, self._marking(environ, start_response))
        return ClosingIterator(answer, [self.requests.after_response])

    def _marking(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            marked = Headers(headers)
            finish_headers(self.requests, environ, marked)
            # Also where a guard within has the last word.
            marked.update(self.requests.scheme.marks(*_caching(marked)))
            return start_response(status, marked.to_wsgi_list(), exc_info)

        return start
