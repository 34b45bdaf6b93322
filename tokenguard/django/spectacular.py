"""drf-spectacular: tokens as a security scheme, with the scopes that each operation asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drf_spectacular.drainage import set_override
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import spectacular_settings
from rest_framework.permissions import AND, OR

from .conf import load_options
from .rest_framework import HasToken, TokenAuthentication

#: Ways to meet permissions with a token, each a list of scopes; empty if they do not ask for a token.
Ways = list[list[str]]

# A subclass that returns another user is still the same scheme: there is no collision to warn of.
set_override(TokenAuthentication, "suppress_collision_warning", True)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How TokenAuthentication and its subclasses appear in a schema."""

    target_class = "tokenguard.django.rest_framework.TokenAuthentication"
    match_subclasses = True
    name = "apiToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": _description()}

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        view, method = auto_schema.view, auto_schema.method.lower()
        ways = _all(_ways(permission, view, method) for permission in view.get_permissions())
        if spectacular_settings.OAS_VERSION.startswith("3.0"):
            ways = []  # in OpenAPI 3.0 only OAuth may name scopes
        return [{self.name: scopes} for scopes in ways or [[]]]


def _description() -> str:
    options = load_options()
    headers = "".join(f", or alone as `{name}`" for name in options.scheme.vary[1:])
    scopes = "".join(f"\n- `{name}`: {options.catalog.descriptions[name]}" for name in options.catalog)
    return f"An API token, as `Authorization: Bearer`{headers}." + (f"\n\nScopes:\n{scopes}" if scopes else "")


def _ways(permission: Any, view: Any, method: str) -> Ways:
    if isinstance(permission, (AND, OR)):
        operands: list[Any] = [vars(permission)[name] for name in ("op1", "op2")]
        ways = [_ways(operand, view, method) for operand in operands]
        return _all(ways) if isinstance(permission, AND) else ways[0] + ways[1]
    asked = permission.get_requirement(view, method) if isinstance(permission, HasToken) else None
    if asked is None:
        return []
    return [[*asked.all_of, name] for name in asked.any_of] or [list(asked.all_of)]


def _all(each: Iterable[Ways]) -> Ways:
    """Return the ways to meet all of these together."""
    found: Ways = []
    for ways in each:
        if found and ways:
            found = [list(dict.fromkeys(one + other)) for one in found for other in ways]
        else:
            found = found or ways
    return found
