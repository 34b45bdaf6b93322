"""Which application a request comes from, and what it may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from .scopes import Scopes

#: The ``issuer`` of the service's own tokens; for another issuer's token it is that issuer's URL.
OWN_ISSUER = "tokenguard"


class Claims(Mapping[str, Any]):
    """The claims of another issuer's token, by name. Nothing in it can be changed.

    JSON lists are tuples, and JSON objects are read-only mappings. The repr shows only the names.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._members: Mapping[str, Any] = {name: _frozen(value) for name, value in members.items()}

    @classmethod
    def taking(cls, members: Mapping[str, Any]) -> Self:
        """Wrap members that nobody will change, without a copy: few are ever read, and those are frozen on access."""
        claims = cls.__new__(cls)
        claims._members = members
        return claims

    def __getitem__(self, name: str) -> Any:
        return _frozen(self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return f"<Claims: {', '.join(map(ascii, self)) or 'none'}>"


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return Claims(value) if isinstance(value, Mapping) and not isinstance(value, Claims) else value


@dataclass(frozen=True, slots=True)
class Identity:
    """The application that is calling, and what it may do: all that a view sees. It knows nothing of users.

    For another issuer's token the ids are that issuer's: data kept per client is keyed by ``(issuer, client_id)``.
    """

    client_id: str
    client_name: str
    token_id: str
    #: What the token was given, limited to what its client may have now, with implications applied.
    scopes: Scopes
    issuer: str = OWN_ISSUER
    #: The subject of the token, as its issuer names it; None for the service's own tokens.
    subject: str | None = None
    #: All claims of another issuer's token; empty for the service's own.
    claims: Claims = field(default=Claims(), repr=False)
