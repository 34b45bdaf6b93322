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
    """What a token would be given, and whose token it is.

    ``idle_timeout`` is in seconds; ``not_after`` in epoch microseconds, None for no end.
    """

    client: Client
    scopes: Scopes
    conditions: Conditions
    idle_timeout: int | None
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Holder:
    """The calling token, which hands something on, and the scopes that it has now."""

    record: Record
    scopes: Scopes

    @property
    def ends_at(self) -> int | None:
        """When the token ends in any case; None for no end."""
        return earliest(self.record.token.expires_at, self.record.token.overlap_ends_at)

    @property
    def idle_timeout(self) -> int | None:
        """The token's idle timeout in seconds."""
        idle = self.record.token.idle_timeout
        return None if idle is None else idle // SECOND

    @property
    def conditions(self) -> Conditions:
        """The token's own conditions; its client's hold for all of the client's tokens, whatever those are given."""
        return self.record.token.conditions

    def check(self, grant: Grant, catalog: ScopeCatalog) -> None:
        """Raise Forbidden, with everything that this token cannot hand on, if there is any."""
        if causes := [*self._beyond(grant, catalog)]:
            raise Forbidden(causes=causes)

    def _beyond(self, grant: Grant, catalog: ScopeCatalog) -> Iterator[str]:
        if beyond := [scope for scope in catalog.expand(grant.scopes) if scope not in self.scopes]:
            yield f"scopes: The calling token does not have {', '.join(beyond)}"
        yield from _beyond_limits([grant.conditions], self.conditions, "The calling token")
        own = self.record.client
        if grant.client.id != own.id:  # another client is not bound by the caller's conditions
            held = [grant.conditions, grant.client.conditions]
            yield from _beyond_limits(held, own.conditions, "The client of the calling token")
        if self.ends_at is not None and (grant.not_after is None or grant.not_after > self.ends_at):
            yield f"expiresAt: The calling token ends at {isoformat(self.ends_at)}, and this would end later"
        if self.idle_timeout is not None and (grant.idle_timeout is None or grant.idle_timeout > self.idle_timeout):
            yield "tokenWindow: The calling token ends when it is idle for less than this"


def _beyond_limits(held: Sequence[Conditions], limits: Conditions, whose: str) -> Iterator[str]:
    """What is wrong if none of the conditions ``held`` together is as narrow as ``limits``."""
    if not any(each.networks_within(limits) for each in held):
        yield f"network: {whose} may not be used from all of this"
    elif limits.rate and not any(each.rate and each.rate.within(limits.rate) for each in held):
        yield f"rate: {whose} has {limits.rate}, and this would be more"
