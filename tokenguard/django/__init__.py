"""tokenguard for Django: an entry in INSTALLED_APPS, one in MIDDLEWARE, and ``migrate``."""

from __future__ import annotations

from ..extras import from_extra

with from_extra("django", "django"):
    from .annotations import GuardedRequest
    from .conf import get_issuer, get_store
    from .managing import management_urls
    from .middleware import TokenGuardMiddleware
    from .protecting import protect
    from .signals import token_authenticated, token_issued, token_refused, token_revoked, token_rotated
    from .views import ScopesRequiredMixin, TokenRequiredMixin, get_identity, require_scopes, require_token

__all__ = [
    "GuardedRequest",
    "ScopesRequiredMixin",
    "TokenGuardMiddleware",
    "TokenRequiredMixin",
    "get_identity",
    "get_issuer",
    "get_store",
    "management_urls",
    "protect",
    "require_scopes",
    "require_token",
    "token_authenticated",
    "token_issued",
    "token_refused",
    "token_revoked",
    "token_rotated",
]
