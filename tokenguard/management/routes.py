"""Which calls there are, and which rights they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..errors import ConfigurationError
from ..scopes import ANY_TOKEN, Requirement, ScopeCatalog

PREFIX = "/api/v1/api-tokens"


@dataclass(frozen=True)
class Rights:
    """The scopes that the calls ask for. With ``all_clients`` a caller meets the tokens of other clients too.

    Raises InvalidValue for what is no name of a scope.
    """

    read: str = "okta.apiTokens.read"
    manage: str = "okta.apiTokens.manage"
    all_clients: str = "okta.apiTokens.all"

    def __post_init__(self) -> None:
        Requirement.scopes(*self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (self.read, self.manage, self.all_clients)

    def check(self, catalog: ScopeCatalog) -> None:
        """Raises ConfigurationError if the catalogue does not have one of them."""
        if unknown := catalog.unknown(self.names):
            raise ConfigurationError(
                f"the management of tokens asks for scopes that the catalogue does not have: {', '.join(unknown)}; "
                "declare them, or name others where it is mounted"
            )


class Route(NamedTuple):
    """One call: what it is named, its method, its path below the prefix, and which right it asks for.

    Without a right any valid token will do.
    """

    name: str
    method: str
    path: str
    right: Literal["read", "manage"] | None

    def requirement(self, rights: Rights) -> Requirement:
        """What a caller must hold."""
        return ANY_TOKEN if self.right is None else Requirement.scopes(getattr(rights, self.right))


ROUTES = (
    Route("list_tokens", "GET", "", "read"),
    Route("issue_token", "POST", "", "manage"),
    Route("revoke_current_token", "DELETE", "/current", None),
    Route("get_token", "GET", "/<token_id>", "read"),
    Route("update_token", "PUT", "/<token_id>", "manage"),
    Route("revoke_token", "DELETE", "/<token_id>", "manage"),
    Route("rotate_token", "POST", "/<token_id>/rotate", "manage"),
)
