"""What a request is known as."""

from __future__ import annotations

from dataclasses import dataclass

from .scopes import Scopes

#: The issuer of the service's own tokens, where other issuers have their URL.
OWN_ISSUER = "tokenguard"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which application is calling, and what it may do: all that a view sees. It knows nothing of users."""

    client_id: str
    client_name: str
    token_id: str
    #: What the token was given, cut to what its client may have now, with implications applied.
    scopes: Scopes
    issuer: str = OWN_ISSUER
