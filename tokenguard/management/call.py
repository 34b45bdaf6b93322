"""A request as each framework hands it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..events import MAX_ACTOR_LENGTH
from ..identity import OWN_ISSUER, Identity
from ..okta import NotWellFormed, TooLarge
from ..posted import is_whole
from ..sources import local_token_id

#: No body that makes sense is longer.
MAX_BODY = 16 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the guard has let in."""

    identity: Identity
    #: Where the list of all tokens is found.
    url: str
    query: Mapping[str, str]
    #: Reads at most so many bytes of the body; raises NotWellFormed if its sender goes away.
    read: Callable[[int], bytes]
    #: Whose headers say what of a body there is to be.
    environ: Mapping[str, Any]
    token_id: str = ""

    @property
    def body(self) -> bytes:
        """Raises TooLarge, and NotWellFormed."""
        body = self.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooLarge
        if not is_whole(self.environ, len(body)):
            raise NotWellFormed(causes=["The body did not arrive whole"])
        return body

    @property
    def actor(self) -> str:
        """Who does it, for the audit trail."""
        identity = self.identity
        if identity.issuer == OWN_ISSUER:
            return f"token:{identity.token_id}"
        # Another issuer may give its tokens the ids of ours, or longer ones than are kept.
        local = local_token_id(identity.issuer, identity.token_id)
        return f"token:{local} ({identity.client_id} of {identity.issuer})"[:MAX_ACTOR_LENGTH].rstrip()
