"""What a store knows of a token: all of it for those who manage it, and what alone decides for a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from .clock import NEVER, SECOND, earliest
from .conditions import Conditions
from .scopes import Scopes
from .tokens import Client, Token, Use

#: A token's use is written down at most this often, and may be on record as much too late.
USE_INTERVAL = 60 * SECOND


class State(StrEnum):
    """What a token is worth at a moment."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"
    #: Replaced by another, and the time in which both worked is over.
    ROTATED = "rotated"
    IDLE = "idle"
    CLIENT_DISABLED = "client disabled"


#: Of a token that works, or would if its client were enabled again.
ALIVE = frozenset({State.ACTIVE, State.CLIENT_DISABLED})


class Standing(NamedTuple):
    """What decides whether a token is good, and for what: all that a request has to know of it, and no more.

    Times are epoch microseconds, None for never.
    """

    #: The counter's value in the same statement that read the rest.
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
        """When the token ends unless it is used before: a use may be on record a minute late."""
        if self.idle_timeout is None:
            return None
        # A host whose clock is behind may have used it before it was made: no use shortens a life.
        return max(self.last_used_at or 0, self.created_at) + self.idle_timeout + USE_INTERVAL

    @property
    def end(self) -> int | None:
        """When the token ends unless something changes."""
        if self.overlap_ends_at is None and self.idle_timeout is None:  # as of most
            return self.expires_at
        return earliest(self.expires_at, self.overlap_ends_at, self.idle_end)

    @property
    def good_until(self) -> int:
        """The same, NEVER for one that does not end; 0 for a token that is no good whatever the time."""
        if self.revoked_at is not None or self.idle_ended_at is not None or not self.enabled:
            return 0
        end = self.end
        return NEVER if end is None else end

    def state(self, now: int) -> State:
        """What the token is worth at ``now`` (epoch microseconds). An ending goes before a disabled client."""
        if self.revoked_at is not None:
            return State.REVOKED
        if self.idle_ended_at is not None:
            return State.IDLE
        if self.overlap_ends_at is not None and now >= self.overlap_ends_at:
            return State.ROTATED
        if self.expires_at is not None and now >= self.expires_at:
            return State.EXPIRED
        if self.idle_timeout is not None and _past(self.idle_end, now):
            return State.IDLE
        return State.ACTIVE if self.enabled else State.CLIENT_DISABLED


class Record(NamedTuple):
    """A token with its client and its use, and the counter's value in the same statement that read them."""

    token: Token
    client: Client
    revision: int
    use: Use | None = None

    @property
    def standing(self) -> Standing:
        """What of it decides."""
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
        """Where it stands among all."""
        return Place(self.token.created_at, self.token.id)

    def ended_at(self, now: int) -> int | None:
        """When it ended for good, if it has by ``now``; a disabled client's token may come back."""
        token = self.token
        if not token.key_fingerprint:
            # Another issuer's, which goes on until its end: what refuses it until then is that this is here.
            return token.expires_at if _past(token.expires_at, now) else None
        ends = [token.revoked_at, token.idle_ended_at, token.overlap_ends_at, token.expires_at]
        return min((end for end in ends if end is not None and end <= now), default=None)


class ForeignRecord(NamedTuple):
    """What is known here of another issuer's token, and the counter's value in the same statement that read it."""

    revision: int
    #: Whether the token is refused here: it is in the store only once it is revoked.
    revoked: bool
    #: None for one that is not registered.
    client: Client | None
    #: The use of all the client's tokens together.
    use: Use | None = None


class Place(NamedTuple):
    """Where a token stands among all, oldest first."""

    created_at: int
    token_id: str


class NewUse(NamedTuple):
    """What one process has seen of a token since it last wrote that down."""

    #: Or the id of another issuer's client: its tokens are not kept, and counted together.
    token_id: str
    last_used_at: int
    address: str
    scopes: frozenset[str]
    #: Day (days since the epoch, UTC) to number of requests.
    requests: Mapping[int, int]


def merge_use(known: Use | None, new: NewUse, now: int) -> Use:
    """What is known of a token's use once ``new`` is added; an older use changes neither time nor address.

    By the store's own clock it is ``now``: a later time is that of a host whose clock was fast, and gives way.
    """
    last_used_at = min(new.last_used_at, now)
    if known is None:
        return Use(new.token_id, last_used_at, new.address, Scopes(new.scopes))
    scopes = known.scopes | Scopes(new.scopes)
    if last_used_at <= known.last_used_at <= now:
        return replace(known, scopes=scopes)
    return Use(new.token_id, last_used_at, new.address, scopes)


def _past(end: int | None, now: int) -> bool:
    return end is not None and now >= end
