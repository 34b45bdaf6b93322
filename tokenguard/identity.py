"""What a request is known as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from .scopes import Scopes

#: The issuer of the service's own tokens, where other issuers have their URL.
OWN_ISSUER = "tokenguard"


class Claims(Mapping[str, Any]):
    """What another issuer has said in a token, member by member. Nothing in it can be changed.

    Lists are tuples, and objects are read-only mappings. The repr shows the names alone.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._members: Mapping[str, Any] = {name: _frozen(value) for name, value in members.items()}

    @classmethod
    def taking(cls, members: Mapping[str, Any]) -> Self:
        """The same of members that nobody is going to change: hardly any is ever read, and frozen before that."""
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
    """Which application is calling, and what it may do: all that a view sees. It knows nothing of users.

    Of another issuer's token the ids are the issuer's own: what is kept by client is kept by ``(issuer, client_id)``.
    """

    client_id: str
    client_name: str
    token_id: str
    #: What the token was given, cut to what its client may have now, with implications applied.
    scopes: Scopes
    issuer: str = OWN_ISSUER
    #: Whom the token is about, in its issuer's words; None for the service's own tokens.
    subject: str | None = None
    #: All that another issuer has said in its token; empty for the service's own.
    claims: Claims = field(default=Claims(), repr=False)
