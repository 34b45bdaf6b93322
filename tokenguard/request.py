"""The way of a request, in one place: environ → credential → Identity → requirement → the application.

Frameworks call :class:`RequestGuard` and translate its refusals; they decide nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.wsgi import ClosingIterator

from .errors import AuthError, InvalidToken, MissingToken, NetworkNotAllowed
from .guard import UNKNOWN, Guard, log
from .hooks import Hooks, call
from .http import AuthScheme
from .identity import Identity
from .outcome import COUNTED, IDENTITY, KNOWN, LET_IN, OUTCOME, REFUSED, Outcome, Presented, Stage
from .scopes import ANY_TOKEN, Requirement
from .shortcut import shortcut
from .verified import Verified

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


#: The outcome of a request that nobody has looked at.
_NONE = (None, None, None, None)
#: Seconds for which what is due waits for an answer to end.
PATIENCE = 1.0


class RequestGuard:
    """A guard and the way that tokens are sent: all that stands between a request and a view."""

    def __init__(self, guard: Guard, scheme: AuthScheme, *, hooks: Hooks | None = None) -> None:
        self.guard = guard
        self.scheme = scheme
        self.hooks = hooks or Hooks()
        #: The short way, to be tried before :meth:`admit` and :meth:`authenticate`: it lets in whom they would.
        self.wave_through = shortcut(self, guard, scheme, self.hooks)
        #: When an answer was given away at whose end there was something due, which has not come since.
        self._waiting_since: float | None = None

    def decide(self, environ: WSGIEnvironment, requirement: Requirement) -> Verified | AuthError:
        """Let the request in, or refuse it and return why. Asked again, it verifies only once.

        Raises ConfigurationError for a requirement that nobody could meet.
        """
        self.guard.catalog.check(requirement)
        _, presented, result, stage = self._outcome(environ)
        if isinstance(result, AuthError):
            return self._refuse(result, environ, presented)
        if (error := self.guard.objection(result.identity, requirement)) is not None:
            return self._refuse(error, environ, presented)
        self._let_in(result, requirement, environ, presented, stage)
        return result

    def admit(self, environ: WSGIEnvironment, requirement: Requirement) -> Identity:
        """The caller's identity, if it may pass; raises AuthError if not. Otherwise as :meth:`decide`."""
        result = self.decide(environ, requirement)
        if isinstance(result, AuthError):
            raise result
        return result.identity

    def objection(self, environ: WSGIEnvironment, requirement: Requirement) -> AuthError | None:
        """What :meth:`admit` would raise, with nothing refused by that: where something else may let the request in."""
        _, _, result, _ = self._outcome(environ)
        if isinstance(result, AuthError):
            return result
        return self.guard.objection(result.identity, requirement)

    def identify(self, environ: WSGIEnvironment) -> Identity | None:
        """The caller's identity, or None for whatever reason: where a token is welcome but not asked for."""
        # A view that has let the request in may ask several times.
        asked = None if self.has_let_in(environ) else ANY_TOKEN
        if isinstance(found := self.wave_through(environ, asked), Verified):
            return found.identity
        self.guard.catalog.check(ANY_TOKEN)
        _, presented, result, stage = self._outcome(environ)
        if isinstance(result, AuthError):
            return None
        if stage is not LET_IN:
            self._let_in(result, ANY_TOKEN, environ, presented, stage)  # also this is a use of the token
        return result.identity

    def authenticate(self, environ: WSGIEnvironment) -> Identity | None:
        """Like :meth:`identify`, but whether that is a use of the token is seen to later, by :meth:`finish`."""
        _, _, result, _ = self._outcome(environ)
        return None if isinstance(result, AuthError) else result.identity

    def settle(self, environ: WSGIEnvironment) -> bool:
        """Authenticate as far as that asks nobody, and return whether that was all of it.

        For an event loop, which must not wait: what remains is done in a thread, by :meth:`authenticate`.
        """
        if self._remembered(environ) is not None:
            return True
        try:
            credential = self.scheme.credential(environ)
            known = None if credential is None else self.guard.recall(self.guard.key(credential.reveal()))
            if known is None:
                self.guard.recognise(credential)
            elif not known.rates:  # what counts requests may have to be waited for
                self.remember(environ, self.guard.check(known, self.scheme.address(environ)))
                return True
        except AuthError as error:
            self.remember(environ, error.with_traceback(None))
            return True
        return False

    def finish(self, environ: WSGIEnvironment, cache_control: str | None, vary: str) -> list[tuple[str, str]]:
        """The headers to set on an answer, given its own Cache-Control and (comma-separated) Vary.

        They tell caches what they must know, and of a refusal, however it is worded, the challenge.
        """
        # Also where the credential is not there any more: the answer was made with it.
        outcome: Outcome = environ.get(OUTCOME, _NONE)
        judge, presented, result, stage = outcome
        if judge is not self:
            return []
        if isinstance(result, AuthError):
            if stage is REFUSED:
                return self.scheme.refusal_headers(result)
            marks = self.scheme.marks(cache_control, vary)
            # What nobody in particular was told, a shared cache may keep for all who send no token.
            return [mark for mark in marks if mark[0] == "Vary"] if isinstance(result, MissingToken) else marks
        if stage is KNOWN:
            self._let_in(result, ANY_TOKEN, environ, presented, stage)  # nobody asked for it, and it was welcome
        marks = self.scheme.marks(cache_control, vary)
        return marks if result.allowance is None else marks + self.scheme.rate_fields(result.allowance)

    def remember(self, environ: WSGIEnvironment, result: Verified | AuthError) -> None:
        """Have this be what is known of the request's credential."""
        environ[OUTCOME] = (self, self.scheme.presented(environ), result, KNOWN)
        environ[IDENTITY] = result.identity if isinstance(result, Verified) else None

    def has_let_in(self, environ: WSGIEnvironment) -> bool:
        """Whether this has let a request with this environ in."""
        judge, _, _, stage = environ.get(OUTCOME, _NONE)
        return stage is LET_IN and judge is self

    def plain_marks(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """What :meth:`finish` gives for most answers that have neither header; None where it has to be asked."""
        judge, _, result, stage = environ.get(OUTCOME, _NONE)
        # Who is let in is somebody, so there is no error then.
        is_plain = result.allowance is None if stage is LET_IN else stage is KNOWN and type(result) is InvalidToken
        return self.scheme.plain_marks if is_plain and judge is self else None

    def refused_with(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """The headers that the answer of a refused request is made with; None if this has refused none."""
        judge, _, error, stage = environ.get(OUTCOME, _NONE)
        return self.scheme.refusal_headers(error) if stage is REFUSED and judge is self else None

    @property
    def due(self) -> bool:
        """Whether :meth:`after_response` has something to do."""
        usage = self.guard.usage
        return usage is not None and bool(usage.due)

    def closing(self, answer: Iterable[bytes], environ: WSGIEnvironment) -> Iterable[bytes]:
        """The same answer, which calls :meth:`after_response` when it has been sent: for where that is :attr:`due`."""
        # A server that sends a file by itself must find it to be one; and one that neither gets to the end of an answer
        # nor closes it, as asgiref's WsgiToAsgi where the length is known, would never have anything written.
        if type(answer) is environ.get("wsgi.file_wrapper") or self._is_overdue():
            self.after_response()
            return answer
        return _Attended(answer, self.after_response)

    def after_response(self) -> None:
        """To be called when an answer has been sent: writes down what is due of the tokens' use."""
        self._waiting_since = None
        # It can wait until the store is back, and a thread that waits for the store is one that answers nobody.
        if self.guard.usage is not None and self.guard.usage.due and self.guard.cache.store_answers():
            self.guard.usage.write()

    def _is_overdue(self) -> bool:
        at = self.guard.cache.monotonic()
        if self._waiting_since is None:
            self._waiting_since = at
        return at - self._waiting_since > PATIENCE

    def _let_in(
        self,
        verified: Verified,
        requirement: Requirement,
        environ: WSGIEnvironment,
        presented: Presented,
        stage: Stage,
    ) -> None:
        # A view of a guarded blueprint may ask for more: that is still one request.
        again = stage is LET_IN or stage is COUNTED
        if (usage := self.guard.usage) is not None:
            address = environ.get("REMOTE_ADDR") if not self.scheme.proxies else self.scheme.address(environ)
            usage.note(verified, requirement, address, 0 if again else 1)
        if stage is not LET_IN:
            # A new outcome, not a changed one: a copy of this environ may be another request's by now.
            environ[OUTCOME] = (self, presented, verified, LET_IN)
            environ[IDENTITY] = verified.identity
            if self.hooks.authenticated:
                call(self.hooks.authenticated, identity=verified.identity, environ=environ)

    def _refuse(self, error: AuthError, environ: WSGIEnvironment, presented: Presented) -> AuthError:
        environ[OUTCOME] = (self, presented, error, REFUSED)
        # A token that was signed here is somebody's trouble; noise from strangers is not.
        level = logging.WARNING if error.client_id is not None or error.reason == UNKNOWN else logging.INFO
        if log.isEnabledFor(level):
            _log_refusal(level, error, self.scheme.address(environ))
        if self.hooks.refused:
            call(self.hooks.refused, error=error, environ=environ)
        return error

    def _outcome(self, environ: WSGIEnvironment) -> Outcome:
        outcome = self._remembered(environ)
        if outcome is None:
            self.remember(environ, self._verify(environ))
            outcome = environ[OUTCOME]
        return outcome

    def _verify(self, environ: WSGIEnvironment) -> Verified | AuthError:
        try:
            return self.guard.admit(self.scheme.credential(environ), self.scheme.address(environ))
        except AuthError as error:
            return error.with_traceback(None)

    def _remembered(self, environ: WSGIEnvironment) -> Outcome | None:
        # Only of this credential, since an application may make a request of its own from a copy.
        outcome: Outcome | None = environ.get(OUTCOME)
        if outcome is None:
            return None
        judge, presented, result, stage = outcome
        if judge is not self:
            # Another one may stand before the same application with other keys. But one request is counted once.
            if not self._is_like(judge):
                return None
            outcome = (self, presented, result, COUNTED if stage is LET_IN else KNOWN)
        # What most schemes look at: asking this one costs more than the rest.
        sent = (environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING"))
        if presented.cell_contents != sent and presented != self.scheme.presented(environ):
            return None
        # A forgery, of which there may be many, is one wherever it comes from.
        return outcome if type(result) is InvalidToken or self._still_holds(result, stage, environ) else None

    def _still_holds(self, result: Verified | AuthError, stage: Stage, environ: WSGIEnvironment) -> bool:
        """Whether the address decides as it did: a middleware may correct it after another has asked."""
        if isinstance(result, Verified):
            return self.guard.is_admitted(result, self.scheme.address(environ))
        # What has been refused stays so, since the answer to that needs its headers.
        if isinstance(result, NetworkNotAllowed) and stage is not REFUSED:
            return result.address == self.scheme.address(environ)
        return True

    def _is_like(self, judge: object) -> bool:
        """Whether it finds out the same of each request, and counts it for the same."""
        return isinstance(judge, RequestGuard) and judge.guard is self.guard and judge.scheme.reads_as(self.scheme)


class _Attended(ClosingIterator):
    """An answer that calls ``after`` at its end, and when it is closed: not every server does that."""

    def __init__(self, answer: Iterable[bytes], after: Callable[[], None]) -> None:
        super().__init__(answer, [after])
        self._after = after

    def __next__(self) -> bytes:
        try:
            return super().__next__()
        except StopIteration:
            self._after()
            raise


def _log_refusal(level: int, error: AuthError, address: str | None) -> None:
    log.log(
        level,
        "refused %d %s: %s (token %s, client %s%s, from %s)",
        error.status,
        error.code,
        error.reason,
        error.token_id or "-",
        error.client_id or "-",
        f" of {error.issuer}" if error.issuer else "",
        ascii(address) if address else "-",
    )
