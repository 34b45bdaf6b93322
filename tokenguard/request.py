"""The path of a request, in one place: environ → credential → Identity → requirement → the application.

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


#: The outcome of a request that no guard has looked at.
_NONE = (None, None, None, None)
#: Seconds for which due writes wait for an answer to end.
LONGEST_DELAY = 1.0


class RequestGuard:
    """A guard, and the scheme by which tokens are sent: all that stands between a request and a view."""

    def __init__(self, guard: Guard, scheme: AuthScheme, *, hooks: Hooks | None = None) -> None:
        self.guard = guard
        self.scheme = scheme
        self.hooks = Hooks.of(hooks)
        #: The fast path, to try before :meth:`admit` and :meth:`authenticate`: it lets in only whom they would.
        self.wave_through = shortcut(self, guard, scheme, self.hooks)
        #: When due writes were first left to the end of an answer; None once an answer has ended since.
        self._waiting_since: float | None = None

    def decide(self, environ: WSGIEnvironment, requirement: Requirement) -> Verified | AuthError:
        """Let the request in, or refuse it and return why. Repeated calls verify only once.

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
        """Return the caller's identity if it may pass; raises AuthError if not. Otherwise as :meth:`decide`."""
        result = self.decide(environ, requirement)
        if isinstance(result, AuthError):
            raise result
        return result.identity

    def objection(self, environ: WSGIEnvironment, requirement: Requirement) -> AuthError | None:
        """Return what :meth:`admit` would raise, or None, without refusing: something else may let the request in."""
        _, _, result, _ = self._outcome(environ)
        if isinstance(result, AuthError):
            return result
        return self.guard.objection(result.identity, requirement)

    def identify(self, environ: WSGIEnvironment) -> Identity | None:
        """Return the caller's identity or, for whatever reason, None: for where a token is optional."""
        # A view that has let the request in may ask several times.
        asked = None if self.has_let_in(environ) else ANY_TOKEN
        if isinstance(found := self.wave_through(environ, asked), Verified):
            return found.identity
        self.guard.catalog.check(ANY_TOKEN)
        _, presented, result, stage = self._outcome(environ)
        if isinstance(result, AuthError):
            return None
        if stage is not LET_IN:
            self._let_in(result, ANY_TOKEN, environ, presented, stage)  # this is a use of the token too
        return result.identity

    def authenticate(self, environ: WSGIEnvironment) -> Identity | None:
        """Like :meth:`identify`, but leave it to :meth:`finish` whether this counts as a use of the token."""
        _, _, result, _ = self._outcome(environ)
        return None if isinstance(result, AuthError) else result.identity

    def settle(self, environ: WSGIEnvironment) -> bool:
        """Authenticate as far as possible without asking anybody, and return whether that settles it.

        For an event loop, which must not wait: the rest is done in a thread, by :meth:`authenticate`.
        """
        if self._remembered(environ) is not None:
            return True
        try:
            credential = self.scheme.credential(environ)
            known = self.guard.peek(self.guard.key(credential.reveal()))
            if known is None:
                self.guard.recognise(credential)
            elif not known.rates:  # counting requests may mean waiting
                self.remember(environ, self.guard.check(known, self.scheme.address(environ)))
                return True
        except AuthError as error:
            self.remember(environ, error.with_traceback(None))
            return True
        return False

    def finish(self, environ: WSGIEnvironment, cache_control: str | None, vary: str) -> list[tuple[str, str]]:
        """Return the headers to set on an answer, given its own Cache-Control and (comma-separated) Vary.

        They tell caches what they must know; a refusal's, however its body is worded, include the challenge.
        """
        # Even if the credential has left the environ since: the answer was made with it.
        outcome: Outcome = environ.get(OUTCOME, _NONE)
        judge, presented, result, stage = outcome
        if judge is not self:
            # Another guard, further in, may have recorded its own outcome over that of a caller who was let in here.
            return [] if judge is None else self.scheme.marks(cache_control, vary)
        if isinstance(result, AuthError):
            if stage is REFUSED:
                return self.scheme.refusal_headers_beside(result, vary)
            marks = self.scheme.marks(cache_control, vary)
            # An answer to nobody in particular may be kept by a shared cache, for all who send no token.
            return [mark for mark in marks if mark[0] == "Vary"] if isinstance(result, MissingToken) else marks
        if stage is KNOWN:
            self._let_in(result, ANY_TOKEN, environ, presented, stage)  # no view required the token, but it was welcome
        marks = self.scheme.marks(cache_control, vary)
        return marks if result.allowance is None else marks + self.scheme.rate_fields(result.allowance)

    def remember(self, environ: WSGIEnvironment, result: Verified | AuthError) -> None:
        """Record ``result`` as what is known of the request's credential."""
        environ[OUTCOME] = (self, self.scheme.presented(environ), result, KNOWN)
        environ[IDENTITY] = result.identity if isinstance(result, Verified) else None

    def has_let_in(self, environ: WSGIEnvironment) -> bool:
        """Whether this guard has let in a request with this environ."""
        judge, _, _, stage = environ.get(OUTCOME, _NONE)
        return stage is LET_IN and judge is self

    def plain_marks(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """Return what :meth:`finish` returns for most answers with neither header; None where it must be called."""
        judge, _, result, stage = environ.get(OUTCOME, _NONE)
        # A caller that was let in has an identity, so ``result`` is no error then.
        is_plain = result.allowance is None if stage is LET_IN else stage is KNOWN and type(result) is InvalidToken
        return self.scheme.plain_marks if is_plain and judge is self else None

    def refused_with(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """Return the headers of the answer to a refused request; None if this guard has not refused it."""
        judge, _, error, stage = environ.get(OUTCOME, _NONE)
        return self.scheme.refusal_headers(error) if stage is REFUSED and judge is self else None

    @property
    def due(self) -> bool:
        """Whether :meth:`after_response` has something to do."""
        usage = self.guard.usage
        return usage is not None and bool(usage.due)

    def closing(self, answer: Iterable[bytes], environ: WSGIEnvironment) -> Iterable[bytes]:
        """Wrap the answer to call :meth:`after_response` when it has been sent: for when something is :attr:`due`."""
        # A server that sends files by itself must still recognise one. And under a server that neither exhausts nor
        # closes answers, such as asgiref's WsgiToAsgi where the length is known, nothing would ever be written.
        if type(answer) is environ.get("wsgi.file_wrapper") or self._is_overdue():
            self.after_response()
            return answer
        return _Attended(answer, self.after_response)

    def after_response(self) -> None:
        """Write the uses of tokens that are due. To be called when an answer has been sent."""
        self._waiting_since = None
        # The uses can wait until the store is back, and a thread that waits for the store answers nobody.
        if self.guard.usage is not None and self.guard.usage.due and self.guard.cache.store_answers():
            self.guard.usage.write()

    def _is_overdue(self) -> bool:
        at = self.guard.cache.monotonic()
        if self._waiting_since is None:
            self._waiting_since = at
        return at - self._waiting_since > LONGEST_DELAY

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
            usage.note(verified, requirement, address, again=again)
        if stage is not LET_IN:
            # A new outcome, not a changed one: a copy of this environ may be another request's by now.
            environ[OUTCOME] = (self, presented, verified, LET_IN)
            environ[IDENTITY] = verified.identity
            if self.hooks.authenticated:
                call(self.hooks.authenticated, identity=verified.identity, environ=environ)

    def _refuse(self, error: AuthError, environ: WSGIEnvironment, presented: Presented) -> AuthError:
        environ[OUTCOME] = (self, presented, error, REFUSED)
        # A refused token that was signed here is a problem for somebody; noise from strangers is not.
        level = logging.WARNING if error.client_id is not None or error.reason == UNKNOWN else logging.INFO
        if log.isEnabledFor(level):
            _log_refusal(level, error, self.scheme.address(environ), self.scheme.form.logged_id(error))
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
        # Only for the same credential: an application may make a request of its own from a copy of the environ.
        outcome: Outcome | None = environ.get(OUTCOME)
        if outcome is None:
            return None
        judge, presented, result, stage = outcome
        if judge is not self:
            # A guard with other keys may stand before the same application: its outcome does not count here. That of
            # one like this does, and so the request is counted once.
            if not self._is_like(judge):
                return None
            outcome = (self, presented, result, COUNTED if stage is LET_IN else KNOWN)
        # All that most schemes look at, compared first: asking the scheme costs more than the rest.
        sent = (environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING"))
        if presented.cell_contents != sent and presented != self.scheme.presented(environ):
            return None
        # An invalid token, of which there may be many, is invalid wherever it comes from.
        return outcome if type(result) is InvalidToken or self._still_holds(result, stage, environ) else None

    def _still_holds(self, result: Verified | AuthError, stage: Stage, environ: WSGIEnvironment) -> bool:
        """Whether the result holds for the address as it is now: a middleware may have corrected it since."""
        if isinstance(result, Verified):
            return self.guard.allows_from(result, self.scheme.address(environ))
        # A refused request stays refused, since its answer needs the headers of the refusal.
        if isinstance(result, NetworkNotAllowed) and stage is not REFUSED:
            return result.address == self.scheme.address(environ)
        return True

    def _is_like(self, judge: object) -> bool:
        """Whether ``judge`` finds the same result for each request, and counts it in the same place."""
        return isinstance(judge, RequestGuard) and judge.guard is self.guard and judge.scheme.reads_as(self.scheme)


class _Attended(ClosingIterator):
    """An answer that calls ``after`` at its end, and also when closed: not every server closes answers."""

    def __init__(self, answer: Iterable[bytes], after: Callable[[], None]) -> None:
        super().__init__(answer, [after])
        self._after = after

    def __next__(self) -> bytes:
        try:
            return super().__next__()
        except StopIteration:
            self._after()
            raise


def _log_refusal(level: int, error: AuthError, address: str | None, logged_id: str) -> None:
    log.log(
        level,
        "refused %d %s: %s (token %s, client %s%s, from %s%s)",
        error.status,
        error.code,
        error.reason,
        error.token_id or "-",
        error.client_id or "-",
        f" of {error.issuer}" if error.issuer else "",
        ascii(address) if address else "-",
        logged_id,
    )
