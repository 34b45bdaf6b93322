"""The short way of a request: for a token that is known, sent as almost everybody sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .cache import Verified
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

    Lets a request in whose token is sent in the plainest form, is remembered, holds for any request and meets the
    requirement; without one it only says who is calling. ``owner`` is whose outcome that is. None is no refusal:
    whatever is not so plain takes the long way, which asks, decides and refuses. So this must let nobody in whom the
    long way would not.
    """
    key_of, is_sent_in, address = guard.tokens.key, scheme.is_sent_in, scheme.address
    clock = guard.clock
    further, nothing, is_direct = scheme.further, (None,) * len(scheme.further), not scheme.proxies

    def wave_through(environ: WSGIEnvironment, requirement: Requirement | None) -> Identity | None:  # noqa: C901
        authorization, query = environ.get("HTTP_AUTHORIZATION"), environ.get("QUERY_STRING")
        if not authorization or authorization[:7] != "Bearer " or (further and any(map(environ.__contains__, further))):
            return None
        outcome = environ.get(OUTCOME)
        if outcome is None:
            cache = guard.cache
            if (query and is_sent_in(query)) or cache.monotonic() > cache.good_until:
                return None
            verified = cache.entries.get(key_of(authorization[7:]))
            if verified is None or verified.conditional:
                return None
            at = clock()
            if at >= verified.ends_at:
                return None
        else:
            # A middleware has asked who is calling, and now a view asks for more.
            judge, sources, verified, stage = outcome
            if judge is not owner or stage is not KNOWN or sources != (authorization, query, *nothing):
                return None
            if not isinstance(verified, Verified):
                return None
            at = clock()
        identity, stage = verified.identity, KNOWN
        if requirement is not None:
            if requirement.any_of or not requirement.met_by(identity.scopes):
                return None
            stage = LET_IN
            if (usage := guard.usage) is not None:
                using, needed = verified.using, requirement.all_of
                if at >= using.look_at or needed not in using.asked:
                    usage.look(using, needed, at)
                using.at, using.address = at, environ.get("REMOTE_ADDR") if is_direct else address(environ)
                next(using.uses)
        environ[OUTCOME] = (owner, (authorization, query, *nothing), verified, stage)
        environ[IDENTITY] = identity
        if stage is LET_IN and hooks.authenticated:
            call(hooks.authenticated, identity=identity, environ=environ)
        return identity

    return wave_through
