"""What a token may hand on to another: no more than it has itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..clock import SECOND, earliest, isoformat
from ..conditions import Conditions
from ..okta import Forbidden
from ..records import Record
from ..scopes import ScopeCatalog, Scopes
from ..tokens import Client


@dataclass(frozen=True, slots=True)
class Grant:
    """What is to be handed on, and to whose token.

    ``idle_timeout`` is in seconds; ``not_after`` in epoch microseconds, None for no end.
    """

    client: Client
    scopes: Scopes
    conditions: Conditions
    idle_timeout: int | None
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who hands on: the token that a request came with, and what it may do now."""

    record: Record
    scopes: Scopes

    @property
    def ends_at(self) -> int | None:
        """When it ends in any case."""
        return earliest(self.record.token.expires_at, self.record.token.overlap_ends_at)

    @property
    def idle_timeout(self) -> int | None:
        """Seconds."""
        idle = self.record.token.idle_timeout
        return None if idle is None else idle // SECOND

    @property
    def conditions(self) -> Conditions:
        """The token's own; those of its client hold for all of that one's tokens, whatever they are given."""
        return self.record.token.conditions

    def check(self, grant: Grant, catalog: ScopeCatalog) -> None:
        """Raises Forbidden, with everything that this token cannot hand on."""
        if causes := [*self._beyond(grant, catalog)]:
            raise Forbidden(causes=causes)

    def _beyond(self, grant: Grant, catalog: ScopeCatalog) -> Iterator[str]:
        if beyond := [scope for scope in catalog.expand(grant.scopes) if scope not in self.scopes]:
            yield f"scopes: The calling token does not have {', '.join(beyond)}"
        yield from _beyond_limits([grant.conditions], self.conditions, "The calling token")
        own = self.record.client
        if grant.client.id != own.id:  # which is not bound by what binds the caller's
            held = [grant.conditions, grant.client.conditions]
            yield from _beyond_limits(held, own.conditions, "The client of the calling token")
        if self.ends_at is not None and (grant.not_after is None or grant.not_after > self.ends_at):
            yield f"expiresAt: The calling token ends at {isoformat(self.ends_at)}, and this would be later"
        if self.idle_timeout is not None and (grant.idle_timeout is None or grant.idle_timeout > self.idle_timeout):
            yield "tokenWindow: The calling token ends when it is idle for less than this"


def _beyond_limits(held: Sequence[Conditions], limits: Conditions, whose: str) -> Iterator[str]:
    """What is wrong if none of the conditions that hold together is as narrow as ``limits``."""
    if not any(each.networks_within(limits) for each in held):
        yield f"network: {whose} may not be used from all of this"
    elif limits.rate and not any(each.rate and each.rate.within(limits.rate) for each in held):
        yield f"rate: {whose} has {limits.rate}, and this would be more"
