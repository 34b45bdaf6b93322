"""The short way of a request: for a token that is sent as almost everybody sends it."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from types import CellType
from typing import TYPE_CHECKING

from .cache import Verified
from .clock import now
from .errors import AuthError
from .guard import Guard
from .hooks import Hooks, call
from .http import AuthScheme
from .identity import Identity
from .outcome import IDENTITY, KNOWN, LET_IN, OUTCOME
from .scopes import Requirement

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def shortcut(  # noqa: C901 - in one piece on purpose
    owner: object, guard: Guard, scheme: AuthScheme, hooks: Hooks
) -> Callable[[WSGIEnvironment, Requirement | None], Identity | None]:
    """What almost every request takes, in one piece, since its steps would cost more than what is done in them.

    Lets a request in whose token is sent in the plainest form, is good and meets the requirement; without one it only
    says who is calling. ``owner`` is whose outcome that is. None is no refusal: whatever is not so plain takes the long
    way, which decides and refuses. So this must let nobody in whom the long way would not.
    """
    is_sent_in, address, is_direct = scheme.is_sent_in, scheme.address, not scheme.proxies
    further, nothing = scheme.further, (None,) * len(scheme.further)
    checked = guard.catalog.checked
    begin, length = guard.tokens.salted.copy, guard.tokens.length
    clock, is_system_clock = guard.clock, guard.clock.clock is now

    def wave_through(environ: WSGIEnvironment, requirement: Requirement | None) -> Identity | None:  # noqa: C901
        authorization, query = environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING")
        outcome = environ.get(OUTCOME)
        if outcome is None:
            if not authorization or authorization[:7] != "Bearer ":
                return None
            if (query and is_sent_in(query)) or (further and any(map(environ.__contains__, further))):
                return None
            text = authorization[7:]
            if len(text) != length or not text.isascii():
                return None
            hashed = begin()  # as guard.tokens.key does
            hashed.update(text.encode())
            key = hashed.digest()
            sources = CellType((authorization, query, *nothing) if nothing else (authorization, query))
            cache = guard.cache
            # In this order: what was there before may be what another thread has just forgotten.
            is_fresh = cache.monotonic() <= cache.good_until
            verified: Verified | AuthError | None = cache.entries.get(key)
            if verified is None:
                verified = guard.find_out(text, key)
            elif not is_fresh:
                return None
            # What the clock does.
            at = time_ns() // 1000 if is_system_clock else clock()
            if at < clock.latest:
                at = clock.latest
            clock.latest = at
            if isinstance(verified, Verified):
                if at >= verified.ends_at:
                    return None
                if verified.conditional:
                    verified = guard.find_fit(verified, address(environ))
            if not isinstance(verified, Verified):
                if verified is not None:  # the long way refuses it, and does not ask again
                    environ[OUTCOME] = (owner, sources, verified, KNOWN)
                    environ[IDENTITY] = None
                return None
            environ[IDENTITY] = verified.identity
            if requirement is None:
                environ[OUTCOME] = (owner, sources, verified, KNOWN)
                return verified.identity
        else:
            # A middleware has asked who is calling, and now a view asks for more.
            judge, sources, verified, stage = outcome
            if judge is not owner or stage is not KNOWN or not isinstance(verified, Verified) or requirement is None:
                return None
            sent = sources.cell_contents
            if sent[0] is not authorization or sent[1] is not query or (nothing and sent[2:] != nothing):
                return None
            if further and any(map(environ.__contains__, further)):
                return None
            at = clock.latest
        identity, scopes = verified.identity, verified.identity.scopes
        if (
            requirement.any_of
            or checked.get(id(requirement)) is not requirement
            or not (requirement.needed <= scopes.names or requirement.met_by(scopes))
        ):
            environ[OUTCOME] = (owner, sources, verified, KNOWN)
            return None
        if (usage := guard.usage) is not None:
            using, needed = verified.using, requirement.all_of
            if at >= using.look_at or needed not in using.asked:
                usage.look(using, needed, at)
            using.at, using.address = at, environ.get("REMOTE_ADDR") if is_direct else address(environ)
            next(using.uses)
        environ[OUTCOME] = (owner, sources, verified, LET_IN)
        if hooks.authenticated:
            call(hooks.authenticated, identity=identity, environ=environ)
        return identity

    return wave_through
