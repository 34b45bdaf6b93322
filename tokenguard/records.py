"""What a store knows of a token: all of it, for managing tokens, and the part that decides about a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from .clock import NEVER, SECOND, earliest
from .conditions import Conditions
from .scopes import ScopeCatalog, Scopes, covers
from .tokens import Client, Token, Use

#: A token's use is recorded at most this often, so the record may lag behind by as much.
USE_INTERVAL = 60 * SECOND


class State(StrEnum):
    """The state of a token at a given time."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"
    #: Replaced by its successor, and the overlap in which both worked is over.
    ROTATED = "rotated"
    IDLE = "idle"
    CLIENT_DISABLED = "client disabled"


#: The states of a token that works, or would if its client were enabled again.
ALIVE = frozenset({State.ACTIVE, State.CLIENT_DISABLED})


class Standing(NamedTuple):
    """What decides whether a token is good, and for what: all that a request needs to know about it, and no more.

    Times are epoch microseconds, None for never.
    """

    #: The counter's value, read in the same statement as the rest.
    revision: int
    scopes: Scopes
    conditions: Conditions
    #: What the client's tokens may ever do.
    ceiling: Scopes
    enabled: bool
    client_conditions: Conditions
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    idle_timeout: int | None
    idle_ended_at: int | None
    overlap_ends_at: int | None
    client_id: str
    client_name: str
    #: To the minute.
    last_used_at: int | None = None

    @property
    def idle_end(self) -> int | None:
        """When the token ends unless it is used before, with a minute added as the record of a use may lag."""
        if self.idle_timeout is None:
            return None
        # A host whose clock is slow may record a use from before the token was made: a use never shortens its life.
        return max(self.last_used_at or 0, self.created_at) + self.idle_timeout + USE_INTERVAL

    @property
    def end(self) -> int | None:
        """When the token ends unless something changes."""
        if self.overlap_ends_at is None and self.idle_timeout is None:  # as for most tokens
            return self.expires_at
        return earliest(self.expires_at, self.overlap_ends_at, self.idle_end)

    @property
    def good_until(self) -> int:
        """As :attr:`end`, but NEVER for a token that does not end, and 0 for one that is no good whatever the time."""
        if self.revoked_at is not None or self.idle_ended_at is not None or not self.enabled:
            return 0
        end = self.end
        return NEVER if end is None else end

    def state(self, now: int) -> State:
        """Return the token's state at ``now`` (epoch microseconds). An end takes precedence over a disabled client."""
        if self.revoked_at is not None:
            return State.REVOKED
        if self.idle_ended_at is not None:
            return State.IDLE
        if self.overlap_ends_at is not None and now >= self.overlap_ends_at:
            return State.ROTATED
        if self.expires_at is not None and now >= self.expires_at:
            return State.EXPIRED
        if (idle_end := self.idle_end) is not None and now >= idle_end:
            return State.IDLE
        return State.ACTIVE if self.enabled else State.CLIENT_DISABLED


class Record(NamedTuple):
    """A token with its client and its use, and the counter's value, all read in the same statement."""

    token: Token
    client: Client
    revision: int
    use: Use | None = None

    @property
    def standing(self) -> Standing:
        """The part that decides about a request."""
        token, client = self.token, self.client
        return Standing(
            self.revision,
            token.scopes,
            token.conditions,
            client.scopes,
            client.enabled,
            client.conditions,
            token.created_at,
            token.expires_at,
            token.revoked_at,
            token.idle_timeout,
            token.idle_ended_at,
            token.overlap_ends_at,
            client.id,
            client.name,
            self.last_used_at,
        )

    @property
    def last_used_at(self) -> int | None:
        """When the token was last used, to the minute; None for never."""
        return self.use.last_used_at if self.use else None

    @property
    def idle_end(self) -> int | None:
        """As :attr:`Standing.idle_end`."""
        return self.standing.idle_end

    def state(self, now: int) -> State:
        """As :meth:`Standing.state`."""
        return self.standing.state(now)

    @property
    def place(self) -> Place:
        """Where the token stands among all."""
        return Place(self.token.created_at, self.token.id)

    def unused_scopes(self, catalog: ScopeCatalog) -> list[str]:
        """Return the effective scopes of the token that it was never asked for.

        They have the catalogue's names or, without one, are as they were written. A scope that a used one implies
        counts as used: it cannot be taken away without the other.
        """
        effective = catalog.effective(self.token.scopes, self.client.scopes)
        used = catalog.expand(self.use.scopes) if self.use else Scopes()
        names = [name for name in catalog if name in effective] if len(catalog) else effective
        return [name for name in names if not any(covers(name, other) for other in used)]

    def ended_at(self, now: int) -> int | None:
        """When the token ended for good; None if it has not by ``now``. A disabled client's token may come back."""
        token = self.token
        ends = [token.expires_at]
        # Another issuer's token lives until its expiry, as what refuses it until then is this very record.
        if token.key_fingerprint:
            ends += [token.revoked_at, token.idle_ended_at, token.overlap_ends_at]
        return min((end for end in ends if end is not None and end <= now), default=None)


class ForeignRecord(NamedTuple):
    """What is known here of another issuer's token, and the counter's value, all read in the same statement."""

    revision: int
    #: Whether the token is refused here: the store has it only once it is revoked.
    revoked: bool
    #: None if the client is not registered.
    client: Client | None
    #: The use of all the client's tokens together.
    use: Use | None = None


class Place(NamedTuple):
    """Where a token stands among all, oldest first."""

    created_at: int
    token_id: str


class NewUse(NamedTuple):
    """What one process has seen of a token's use since it last recorded it."""

    #: Or the id of another issuer's client: its tokens are not stored, so their uses are counted together.
    token_id: str
    last_used_at: int
    address: str
    scopes: frozenset[str]
    #: Number of requests by day (days since the epoch, UTC).
    requests: Mapping[int, int]


def merge_use(known: Use | None, new: NewUse, now: int) -> Use:
    """Return a token's use with ``new`` added to what is ``known``; an older use changes neither time nor address.

    ``now`` is the time by the store's own clock. A later time is from a host whose clock was fast, and is not kept.
    """
    last_used_at = min(new.last_used_at, now)
    if known is None:
        return Use(new.token_id, last_used_at, new.address, Scopes(new.scopes))
    scopes = known.scopes | Scopes(new.scopes)
    if last_used_at <= known.last_used_at <= now:
        return replace(known, scopes=scopes)
    return Use(new.token_id, last_used_at, new.address, scopes)
