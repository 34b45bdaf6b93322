"""A request as each framework passes it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..endpoints import is_whole
from ..events import MAX_ACTOR_LENGTH
from ..identity import OWN_ISSUER, Identity
from ..okta import NotWellFormed, TooLarge
from ..sources import local_token_id

#: The most bytes of a body; none that makes sense is longer.
MAX_BODY = 16 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the guard has let in."""

    identity: Identity
    #: The URL of the list of all tokens.
    url: str
    query: Mapping[str, str]
    #: Reads at most so many bytes of the body; raises NotWellFormed if its sender disconnects.
    read: Callable[[int], bytes]
    #: Its headers say whether there must be a body, and how long it must be.
    environ: Mapping[str, Any]
    token_id: str = ""

    @property
    def body(self) -> bytes:
        """The whole body. Raises TooLarge or NotWellFormed."""
        body = self.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooLarge
        if not is_whole(self.environ, len(body)):
            raise NotWellFormed(causes=["The body is incomplete"])
        return body

    @property
    def actor(self) -> str:
        """The caller, as the audit trail names it."""
        identity = self.identity
        if identity.issuer == OWN_ISSUER:
            return f"token:{identity.token_id}"
        # Another issuer's tokens may have the same ids as ours, or longer ones than can be stored.
        local = local_token_id(identity.issuer, identity.token_id)
        return f"token:{local} ({identity.client_id} of {identity.issuer})"[:MAX_ACTOR_LENGTH].rstrip()
