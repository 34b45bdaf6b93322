"""The fast path of a request, for a token that is sent as almost everybody sends it."""

from __future__ import annotations

from time import time_ns
from types import CellType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, overload

from .clock import now
from .errors import AuthError
from .guard import Guard
from .hooks import Heard, Hooks, call
from .http import AuthScheme
from .outcome import IDENTITY, KNOWN, LET_IN, OUTCOME
from .scopes import Requirement
from .secret import MAX_CREDENTIAL_LENGTH
from .tokens import SCHEME
from .verified import Verified

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_NOBODY = SimpleNamespace(receivers=())


class WaveThrough(Protocol):
    """The function that :func:`shortcut` returns."""

    @overload
    def __call__(self, environ: WSGIEnvironment, requirement: Requirement) -> Verified | None: ...

    @overload
    def __call__(self, environ: WSGIEnvironment, requirement: Requirement | None) -> Verified | AuthError | None: ...


def shortcut(  # noqa: C901 - in one piece on purpose
    owner: object, guard: Guard, scheme: AuthScheme, hooks: Hooks
) -> WaveThrough:
    """Return the fast path of almost every request, in one piece: its steps would cost more to call than to run.

    It lets in a request whose token is sent in the plainest form, is good and meets the requirement. Without a
    requirement, it only returns who is calling or, as far as it has found out, why that is nobody. The outcome is
    recorded as that of ``owner``. None does not refuse: such a request takes the full path, which decides. So this must
    let in nobody whom the full path would refuse.
    """
    is_sent_in, address, is_direct = scheme.is_sent_in, scheme.address, not scheme.proxies
    further = scheme.further
    absent = (None,) * len(further)
    begin, length, beginning = guard.tokens.salted.copy, guard.tokens.length_sent, len(SCHEME)
    # Other issuers' tokens may have any length up to this.
    longest = MAX_CREDENTIAL_LENGTH if guard.sources else 0
    clock, is_system_clock = guard.clock, guard.clock.clock is now
    told = hooks.authenticated
    # More receivers than this, whenever they were added, are others than the one that passes on to the signal.
    signal, quiet = (told.signal, 1) if isinstance(told, Heard) else (_NOBODY, 0)

    def wave_through(environ: WSGIEnvironment, requirement: Requirement | None) -> Any:  # noqa: C901
        authorization, query = environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING")
        # In no variable but these: what collects the variables of running functions hides an "authorization".
        presented = CellType((authorization, query, *absent))
        if further and any(map(environ.__contains__, further)):
            return None
        outcome = environ.get(OUTCOME)
        if outcome is None:
            if (
                authorization is None
                or (len(authorization) != length and len(authorization) > longest)
                or not authorization.isascii()
            ):
                return None
            if query and is_sent_in(query):
                return None
            hashed = begin()  # as guard.tokens.key does
            hashed.update(authorization.encode())
            key = hashed.digest()
            cache = guard.cache
            # In this order: an entry found before could be one that another thread has just evicted.
            is_fresh = cache.monotonic() <= cache.good_until
            verified = cache.entries.get(key)
            if verified is None:
                # Checked only here: what is remembered was sent in this very form.
                if not authorization.startswith(SCHEME):
                    return None
                found = guard.try_verify(authorization[beginning:], key)
                if not isinstance(found, Verified):
                    if found is not None:  # the full path refuses it, and does not ask again
                        environ[OUTCOME], environ[IDENTITY] = (owner, presented, found, KNOWN), None
                    return found if requirement is None else None
                verified = found
            elif not is_fresh:
                return None
            # As the clock does when it is called; a call would cost more.
            at = time_ns() // 1000 if is_system_clock else clock()
            if at < clock.latest:
                at = clock.latest
            clock.latest = at
            if at >= verified.ends_at:
                return None
            if verified.conditional:
                checked = guard.try_check(verified, address(environ))
                if not isinstance(checked, Verified):
                    environ[OUTCOME], environ[IDENTITY] = (owner, presented, checked, KNOWN), None
                    return checked if requirement is None else None
                verified = checked
            environ[IDENTITY] = verified.identity
            if requirement is None:
                environ[OUTCOME] = (owner, presented, verified, KNOWN)
                return verified
        else:
            # A middleware has asked who is calling, and now a view asks again, or for more.
            judge, before, verified, stage = outcome
            if judge is not owner or not isinstance(verified, Verified) or before != presented:
                return None
            if verified.networks and not guard.allows_from(verified, address(environ)):
                return None
            if requirement is None:
                return verified
            if stage is not KNOWN:  # already let in: it is one request, and counted
                return verified if stage is LET_IN and requirement.mark in verified.using.met else None
            at = clock.latest
        using = verified.using
        if (requirement.mark not in using.met or at >= using.renew_at) and not guard.prepare(verified, requirement, at):
            environ[OUTCOME] = (owner, presented, verified, KNOWN)
            return None
        using.at, using.address = at, environ.get("REMOTE_ADDR") if is_direct else address(environ)
        next(using.uses)
        environ[OUTCOME] = (owner, presented, verified, LET_IN)
        if signal.receivers or len(told) > quiet:
            call(told, identity=verified.identity, environ=environ)
        return verified

    return wave_through
