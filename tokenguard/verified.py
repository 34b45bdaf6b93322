"""A token that was found to be good, as a process remembers it: who it stands for, and how it is used here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, TypeAlias

from .conditions import UNCONDITIONAL, Allowance, Conditions, Rate
from .identity import Identity
from .records import USE_INTERVAL
from .scopes import Requirement, Scopes

#: How many requirements are remembered as met by a token.
MANY_MET = 100
#: The id under which uses are counted that are not written down.
NOBODY = ""
Limits: TypeAlias = tuple[tuple[Conditions, ...], tuple[tuple[str, str, Rate], ...]]
_NO_LIMITS: Limits = ((), ())
#: Shared by all tokens that have not been used, and never changed.
NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Using:
    """A token's uses as seen by this process, until the usage log has written them. Times are epoch microseconds.

    For another issuer's client, it is the uses of all its tokens together, and ``token_id`` is the client's id.
    """

    __slots__ = (
        *("address", "asked", "at", "day", "due_at", "met", "renew_at", "requests", "scopes", "token_id"),
        *("uses", "uses_seen"),
    )

    def __init__(self, token_id: str, scopes: Scopes, last_used_at: int | None) -> None:
        self.token_id = token_id
        #: What the token may do.
        self.scopes = scopes
        #: From when on a use is due to be written.
        self.due_at = (last_used_at or 0) + USE_INTERVAL
        #: When and from where the token was last used.
        self.at = 0
        self.address: str | None = None
        #: Counts the uses by ``next``, which threads may call at the same time; and how many are in ``requests``.
        self.uses, self.uses_seen = count(), 0
        #: Day (days since the epoch, UTC) to number of requests; and the day of the uses that are not in it yet.
        self.requests: Mapping[int, int] = NOTHING
        self.day = 0
        #: The marks of the requirements that the scopes were found to meet since the uses were last written, with the
        #: scopes that each needs. A requirement in here is let in without a further check.
        self.met: Mapping[object, tuple[str, ...]] = NOTHING
        #: Other scopes that were needed.
        self.asked: frozenset[str] = frozenset()
        #: From when on the next use has to be prepared for in the usage log, as the first one has.
        self.renew_at = 0

    @property
    def scopes_needed(self) -> frozenset[str]:
        """All scopes that were needed for these uses."""
        return self.asked.union(*self.met.values())


class Verified:
    """A token that was found to be good, and who it stands for: all that a request with it needs to know."""

    __slots__ = (
        *("allowance", "client_id", "conditional", "ends_at", "identity", "networks", "rates", "token_id", "using"),
    )

    def __init__(
        self,
        identity: Identity,
        token_id: str,
        client_id: str,
        ends_at: int,
        using: Using,
        own: Conditions = UNCONDITIONAL,
        common: Conditions = UNCONDITIONAL,
    ) -> None:
        """``own`` are the conditions of the token, ``common`` those of all its client's tokens together."""
        self.identity = identity
        #: Its id and its client's in the store. For another issuer's token these are not the identity's, which could
        #: equal ids of our own.
        self.token_id, self.client_id = token_id, client_id
        #: When it ends unless something changes, in epoch microseconds.
        self.ends_at = ends_at
        #: Its uses that this process has not written yet.
        self.using = using
        is_free = own is UNCONDITIONAL and common is UNCONDITIONAL
        #: The conditions that limit from where it may be used; and its rates, each with what it is counted for: a kind
        #: and an id.
        self.networks, self.rates = _NO_LIMITS if is_free else _limits(token_id, own, client_id, common)
        #: Whether each request decides anew if the token may be used at all.
        self.conditional = not is_free and bool(self.networks or self.rates)
        #: What is left of the scarcest rate, if there is one, after the request at hand.
        self.allowance: Allowance | None = None

    def meets(self, requirement: Requirement) -> None:
        """Remember that the identity meets ``requirement``, which the service's catalogue has."""
        using = self.using
        if len(using.met) >= MANY_MET:
            using.asked, using.met = using.scopes_needed, NOTHING
        # A new mapping, as other threads may be reading the old one.
        using.met = {**using.met, requirement.mark: requirement.used_of(self.identity.scopes)}

    def allowed(self, allowance: Allowance | None) -> Verified:
        """Return a copy for one request, with what is left of its rate."""
        copy = Verified.__new__(Verified)
        for name in Verified.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.allowance = allowance
        return copy


def _limits(token_id: str, own: Conditions, client_id: str, common: Conditions) -> Limits:
    both = (("token", token_id, own), ("client", client_id, common))
    networks = tuple([held for *_, held in both if held.allow or held.deny])
    return networks, tuple([(kind, holder, held.rate) for kind, holder, held in both if held.rate])
