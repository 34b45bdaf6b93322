"""The way of a request, in one place: environ → credential → Identity → requirement → the application.

Frameworks call :class:`RequestGuard` and translate its refusals; they decide nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from .cache import Verified
from .errors import AuthError, MissingToken
from .guard import Guard, log
from .hooks import Hooks, call
from .http import AuthScheme, Refusal, is_preflight
from .identity import Identity
from .outcome import IDENTITY, KNOWN, LET_IN, OUTCOME, REFUSED, Outcome, Sources
from .scopes import ANY_TOKEN, Requirement
from .shortcut import shortcut

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CACHING = {"cache-control", "vary"}
#: Whether Werkzeug's headers keep what they hold as all versions do that there are.
_HEADERS_ARE_A_LIST = getattr(Headers([("Vary", "x")]), "_list", None) == [("Vary", "x")]


class RequestGuard:
    """A guard and the way that tokens are sent: all that stands between a request and a view."""

    def __init__(self, guard: Guard, scheme: AuthScheme, *, hooks: Hooks | None = None) -> None:
        self.guard = guard
        self.scheme = scheme
        self.hooks = hooks or Hooks()
        #: The short way, to be tried before :meth:`admit` and :meth:`authenticate`: it lets in whom they would.
        self.wave_through = shortcut(self, guard, scheme, self.hooks)

    def admit(self, environ: WSGIEnvironment, requirement: Requirement) -> Identity:
        """The caller's identity, if it may pass; raises AuthError if not. Asked again, it verifies only once.

        Raises ConfigurationError for a requirement that nobody could meet.
        """
        self.guard.catalog.check(requirement)
        outcome = self._remembered(environ)
        sources = self.scheme.sources(environ) if outcome is None else outcome[1]
        result = self._verify(environ) if outcome is None else outcome[2]
        if not isinstance(result, AuthError):
            try:
                self.guard.authorize(result.identity, requirement)
            except AuthError as error:
                environ[IDENTITY] = result.identity
                self._refuse(error, environ, sources)
                raise
            self._let_in(result, requirement, environ, sources, outcome)
            return result.identity
        environ[IDENTITY] = None
        self._refuse(result, environ, sources)
        raise result

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
        if (identity := self.wave_through(environ, ANY_TOKEN)) is not None:
            return identity
        self.guard.catalog.check(ANY_TOKEN)
        result = self._authenticate(environ)
        if isinstance(result, AuthError):
            return None
        outcome = environ[OUTCOME]
        if outcome[3] is not LET_IN:
            self._let_in(result, ANY_TOKEN, environ, outcome[1], outcome)  # also this is a use of the token
        return result.identity

    def authenticate(self, environ: WSGIEnvironment) -> Identity | None:
        """The same, before it is known whether the request will be let in: :meth:`finish` tells."""
        result = self._authenticate(environ)
        return None if isinstance(result, AuthError) else result.identity

    def settle(self, environ: WSGIEnvironment) -> bool:
        """Authenticate as far as that asks nobody, and return whether that was all of it.

        For an event loop, which must not wait: what remains is done in a thread, by :meth:`authenticate`.
        """
        if self._remembered(environ) is not None:
            return True
        sources = self.scheme.sources(environ)
        try:
            credential = self.scheme.credential(environ)
            known = None if credential is None else self.guard.recall(self.guard.tokens.key(credential.reveal()))
            if known is None:
                self.guard.recognise(credential)
            elif not known.rates:  # what counts requests may have to be waited for
                self._remember(environ, sources, self.guard.check(known, self.scheme.address(environ)))
                return True
        except AuthError as error:
            self._remember(environ, sources, error.with_traceback(None))
            return True
        return False

    def finish(self, environ: WSGIEnvironment, cache_control: str | None, vary: str) -> list[tuple[str, str]]:
        """The headers to set on an answer, given its own Cache-Control and (comma-separated) Vary.

        They tell caches what they must know, and of a refusal, however it is worded, the challenge.
        """
        if self.has_let_in(environ):
            return self.scheme.marks(cache_control, vary)
        outcome = self._remembered(environ)
        if outcome is None:
            return []
        _, sources, result, stage = outcome
        if isinstance(result, AuthError):
            if stage is REFUSED:
                return self.scheme.refusal_headers(result)
            marks = self.scheme.marks(cache_control, vary)
            # What nobody in particular was told, a shared cache may keep for all who send no token.
            return [mark for mark in marks if mark[0] == "Vary"] if isinstance(result, MissingToken) else marks
        if stage is KNOWN:
            self._let_in(result, ANY_TOKEN, environ, sources, outcome)  # nobody asked for it, and it was welcome
        marks = self.scheme.marks(cache_control, vary)
        return marks if result.allowance is None else marks + self.scheme.rate_fields(result.allowance)

    def has_let_in(self, environ: WSGIEnvironment) -> bool:
        """Whether :meth:`finish` has nothing to say but what caches must know, as for most requests."""
        outcome = environ.get(OUTCOME)
        # Who is let in is somebody, so there are no errors here.
        return outcome is not None and outcome[3] is LET_IN and outcome[0] is self and outcome[2].allowance is None

    def refused_with(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """The headers that the answer of a refused request is made with; None if this has refused none."""
        outcome: Outcome | None = environ.get(OUTCOME)
        if outcome is None or outcome[3] is not REFUSED or outcome[0] is not self:
            return None
        error = outcome[2]
        return self.scheme.refusal_headers(error) if isinstance(error, AuthError) else None

    @property
    def due(self) -> bool:
        """Whether :meth:`after_response` has something to do."""
        usage = self.guard.usage
        return usage is not None and bool(usage.due)

    def after_response(self) -> None:
        """To be called when an answer has been sent: writes down what is due of the tokens' use."""
        # It can wait until the store is back, and a thread that waits for the store is one that answers nobody.
        if self.guard.usage is not None and self.guard.usage.due and not self.guard.cache.breaker.in_doubt:
            self.guard.usage.write()

    def _let_in(
        self,
        verified: Verified,
        requirement: Requirement,
        environ: WSGIEnvironment,
        sources: Sources,
        outcome: Outcome | None,
    ) -> None:
        # A view of a guarded blueprint may ask for more: that is still one request.
        again = outcome is not None and outcome[3] is LET_IN
        if (usage := self.guard.usage) is not None:
            used = requirement.used_of(verified.identity.scopes) if requirement.any_of else requirement.all_of
            address = environ.get("REMOTE_ADDR") if not self.scheme.proxies else self.scheme.address(environ)
            usage.note(verified, used, address, 0 if again else 1)
        if not again:
            # A new outcome, not a changed one: a copy of this environ may be another request's by now.
            environ[OUTCOME] = (self, sources, verified, LET_IN)
            environ[IDENTITY] = verified.identity
            if self.hooks.authenticated:
                call(self.hooks.authenticated, identity=verified.identity, environ=environ)

    def _refuse(self, error: AuthError, environ: WSGIEnvironment, sources: Sources) -> None:
        environ[OUTCOME] = (self, sources, error, REFUSED)
        # A token that this service did issue is somebody's trouble; noise from strangers is not.
        level = logging.WARNING if error.client_id is not None else logging.INFO
        if log.isEnabledFor(level):
            _log_refusal(level, error, self.scheme.address(environ))
        if self.hooks.refused:
            call(self.hooks.refused, error=error, environ=environ)

    def _authenticate(self, environ: WSGIEnvironment) -> Verified | AuthError:
        if (outcome := self._remembered(environ)) is not None:
            return outcome[2]
        return self._remember(environ, self.scheme.sources(environ), self._verify(environ))

    def _remember(
        self, environ: WSGIEnvironment, sources: Sources, result: Verified | AuthError
    ) -> Verified | AuthError:
        environ[OUTCOME] = (self, sources, result, KNOWN)
        environ[IDENTITY] = result.identity if isinstance(result, Verified) else None
        return result

    def _verify(self, environ: WSGIEnvironment) -> Verified | AuthError:
        try:
            return self.guard.admit(self.scheme.credential(environ), self.scheme.address(environ))
        except AuthError as error:
            return error.with_traceback(None)

    def _remembered(self, environ: WSGIEnvironment) -> Outcome | None:
        # Only what this very guard found out, since another one may stand before the same application with other
        # keys; and only of this credential, since an application may make a request of its own from a copy.
        outcome: Outcome | None = environ.get(OUTCOME)
        if outcome is None or outcome[0] is not self:
            return None
        authorization, query, *further = outcome[1]
        if authorization is environ.get("HTTP_AUTHORIZATION") and query is environ.get("QUERY_STRING") and not further:
            return outcome
        return outcome if outcome[1] == self.scheme.sources(environ) else None


def _append(headers: Headers, fields: list[tuple[str, str]]) -> None:
    """Add these fields, which are printable ASCII and not there yet."""
    if _HEADERS_ARE_A_LIST:
        headers._list.extend(fields)  # what Werkzeug does after a look at each of them
    else:
        for name, value in fields:
            headers.add(name, value)


def to_headers(fields: list[tuple[str, str]]) -> Headers:
    """Werkzeug's headers with these fields, which are printable ASCII."""
    headers = Headers()
    _append(headers, fields)
    return headers


def finish_headers(requests: RequestGuard, environ: WSGIEnvironment, headers: Headers) -> None:
    """:meth:`RequestGuard.finish` done to Werkzeug's headers."""
    fields = headers._list if _HEADERS_ARE_A_LIST else [*headers]
    for name, _ in fields:
        if name.lower() in _CACHING:
            break
    else:
        if requests.has_let_in(environ):
            _append(headers, requests.scheme.plain_marks)
            return
    if fields[2:] == requests.refused_with(environ):
        return  # the refusal is as it was made
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    cache_control, vary = found.get("cache-control", [None])[0], ",".join(found.get("vary", ()))
    for name, value in requests.finish(environ, cache_control, vary):
        before = found.get(name.lower())
        # Werkzeug looks through all of them for the one to replace.
        if before is None:
            headers.add(name, value)
        elif before != [value]:
            headers[name] = value


def _log_refusal(level: int, error: AuthError, address: str | None) -> None:
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


def _refuse(refusal: Refusal, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    status, headers, body = refusal
    start_response(f"{status} {HTTP_STATUS_CODES[status].upper()}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _start_stamped(
    start_response: StartResponse,
    stamp: Callable[[], tuple[str, str]],
    status: str,
    headers: list[tuple[str, str]],
    exc_info: Any = None,
) -> Callable[[bytes], object]:
    return start_response(status, [*headers, stamp()], exc_info)


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
        if environ["REQUEST_METHOD"] == "OPTIONS" and is_preflight(environ):
            return Response(status=204)(environ, start_response)
        requests = self.requests
        if (stamp := requests.scheme.form.stamp) is not None:
            start_response = partial(_start_stamped, start_response, stamp)
        if requests.wave_through(environ, self.requirement) is None:
            try:
                requests.admit(environ, self.requirement)
            except AuthError as error:
                error.__traceback__ = None  # it leads to the environ, which remembers the error
                return _refuse(requests.scheme.refusal(error), environ, start_response)
        answer = self.app(environ, partial(self._start, environ, start_response))
        return ClosingIterator(answer, [requests.after_response]) if requests.due else answer

    def _start(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        requests = self.requests
        for name, _ in headers:
            if name.lower() in _CACHING:
                break
        else:
            if requests.has_let_in(environ):
                return start_response(status, headers + requests.scheme.plain_marks, exc_info)
        marked = Headers(headers)
        finish_headers(requests, environ, marked)
        # Also where a guard within has the last word.
        present = marked.get("Cache-Control"), ",".join(marked.getlist("Vary"))
        marked.update(requests.scheme.marks(*present))
        return start_response(status, marked.to_wsgi_list(), exc_info)
