"""tokenguard for Flask: :class:`TokenGuard`, :func:`require_scopes`, :func:`require_token`, ``current_identity``."""

from __future__ import annotations

from ..extras import from_extra

with from_extra("flask", "flask", "click"):  # imported first; click is a dependency of Flask
    from .extension import TokenGuard
    from .introspection import introspection_blueprint
    from .management import management_blueprint
    from .revocation import revocation_blueprint
    from .signals import token_authenticated, token_issued, token_refused, token_revoked, token_rotated
    from .views import Refused, current_identity, get_identity, require_scopes, require_token

__all__ = [
    "Refused",
    "TokenGuard",
    "current_identity",
    "get_identity",
    "introspection_blueprint",
    "management_blueprint",
    "require_scopes",
    "require_token",
    "revocation_blueprint",
    "token_authenticated",
    "token_issued",
    "token_refused",
    "token_revoked",
    "token_rotated",
]
