"""A token that was found to be good, as a process remembers it: who it stands for, and what is made of it here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, TypeAlias

from .conditions import UNCONDITIONAL, Allowance, Conditions, Rate
from .identity import Identity
from .records import USE_INTERVAL
from .scopes import Requirement, Scopes

#: How many requirements are remembered that a token meets.
MANY_MET = 100
#: Of whom no uses are written down.
NOBODY = ""
Limits: TypeAlias = tuple[tuple[Conditions, ...], tuple[tuple[str, str, Rate], ...]]
_NO_LIMITS: Limits = ((), ())
#: What all have in common that have not been used: it is never changed.
NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Using:
    """A token's uses by this process, until the usage log has written them. Times are epoch microseconds.

    Or those of all tokens of another issuer's client, in place of whose id there is the client's then.
    """

    __slots__ = (
        *("address", "asked", "at", "day", "due_at", "look_at", "met", "requests", "scopes", "token_id"),
        *("uses", "uses_seen"),
    )

    def __init__(self, token_id: str, scopes: Scopes, last_used_at: int | None) -> None:
        self.token_id = token_id
        #: What it may do.
        self.scopes = scopes
        #: From when on a use is to be written down.
        self.due_at = (last_used_at or 0) + USE_INTERVAL
        #: When and from where it was used last.
        self.at = 0
        self.address: str | None = None
        #: Counts the uses: by ``next``, which threads may do at the same time. How many of them are in ``requests``.
        self.uses, self.uses_seen = count(), 0
        #: Day (days since the epoch, UTC) to number of requests; and the day of those that are not in there yet.
        self.requests: Mapping[int, int] = NOTHING
        self.day = 0
        #: The marks of the requirements that the scopes were found to meet since the uses were last written, and which
        #: of them each needs. What is in here is let in without a further look.
        self.met: Mapping[object, tuple[str, ...]] = NOTHING
        #: The scopes that were needed otherwise.
        self.asked: frozenset[str] = frozenset()
        #: When the usage log has to have a look at it with the next use.
        self.look_at = 0

    @property
    def scopes_needed(self) -> frozenset[str]:
        """All that were needed for these uses."""
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
        """``own`` are the conditions of the token, ``common`` those of all its client's together."""
        self.identity = identity
        #: Its own id and its client's in the store: of another issuer's not what the identity has, which could be ours.
        self.token_id, self.client_id = token_id, client_id
        #: When it ends unless something changes, in epoch microseconds.
        self.ends_at = ends_at
        #: What this process has not written yet of its use.
        self.using = using
        is_free = own is UNCONDITIONAL and common is UNCONDITIONAL
        #: The conditions that limit from where it may be used; and how often it may be, and of whom that is counted: a
        #: kind and an id.
        self.networks, self.rates = _NO_LIMITS if is_free else _limits(token_id, own, client_id, common)
        #: Whether it may be used at all depends on the request.
        self.conditional = not is_free and bool(self.networks or self.rates)
        #: What is left of the scarcest rate, if there is one, after the request at hand.
        self.allowance: Allowance | None = None

    def meets(self, requirement: Requirement) -> None:
        """Remember that the identity meets ``requirement``, which the service's catalogue has."""
        using = self.using
        if len(using.met) >= MANY_MET:
            using.asked, using.met = using.scopes_needed, NOTHING
        # A new mapping, as others may be looking through the old one.
        using.met = {**using.met, requirement.mark: requirement.used_of(self.identity.scopes)}

    def allowed(self, allowance: Allowance | None) -> Verified:
        """The same for one request, of which this is left."""
        copy = Verified.__new__(Verified)
        for name in Verified.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.allowance = allowance
        return copy


def _limits(token_id: str, own: Conditions, client_id: str, common: Conditions) -> Limits:
    both = (("token", token_id, own), ("client", client_id, common))
    networks = tuple([held for *_, held in both if held.allow or held.deny])
    return networks, tuple([(kind, holder, held.rate) for kind, holder, held in both if held.rate])
