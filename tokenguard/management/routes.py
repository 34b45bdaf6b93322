"""The calls, and the rights that they require."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from ..errors import ConfigurationError
from ..scopes import ANY_TOKEN, Requirement, ScopeCatalog

PREFIX = "/api/v1/api-tokens"


@dataclass(frozen=True)
class Rights:
    """The scopes that the calls require. With ``all_clients`` a caller reaches the tokens of other clients too.

    Raises InvalidValue for anything but the name of a scope.
    """

    read: str = "okta.apiTokens.read"
    manage: str = "okta.apiTokens.manage"
    all_clients: str = "okta.apiTokens.all"

    def __post_init__(self) -> None:
        # As plain text, as in the requirement: a refusal would show a member of an enumeration by its own name.
        for each, name in zip(fields(self), Requirement.scopes(*self.names).names, strict=True):
            object.__setattr__(self, each.name, name)

    @property
    def names(self) -> tuple[str, ...]:
        """All three scopes."""
        return (self.read, self.manage, self.all_clients)

    def check(self, catalog: ScopeCatalog) -> None:
        """Raise ConfigurationError if the catalogue does not have one of them."""
        if unknown := catalog.unknown(self.names):
            raise ConfigurationError(
                f"the management of tokens requires scopes that are not in the catalogue: {', '.join(unknown)}; "
                "declare them, or name others where it is mounted"
            )


class Route(NamedTuple):
    """One call: its name, its method, its path below the prefix, and the right that it requires.

    Without a right, any valid token is enough.
    """

    name: str
    method: str
    path: str
    right: Literal["read", "manage"] | None

    def requirement(self, rights: Rights) -> Requirement:
        """Return what the caller's token must meet."""
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
