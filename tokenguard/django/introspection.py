"""The endpoint that answers other services about tokens (RFC 7662), as a view."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters

from ..introspection import Introspection, check_scope, take_basic
from .endpoints import form_request, outside_transactions
from .headers import to_response
from .middleware import guard_of
from .views import require_scopes


def introspection_view(scope: str, *, issuer: str | None = None) -> Callable[..., Any]:
    """Return a view for callers whose token has ``scope``: ``path("introspect", introspection_view("…"))``.

    A service posts a token there as the form field ``token``, and learns whether it is active and what it may do; see
    :meth:`tokenguard.introspection.Introspection.respond`. ``issuer`` is the URL that answers name as ``iss``. Raises
    ConfigurationError without a scope; the system checks report one that is not in the catalogue.
    """
    endpoint = Introspection(issuer=issuer)

    @require_scopes(check_scope(scope))
    @sensitive_post_parameters("token")
    def introspect_token(request: HttpRequest, *captured: Any, **named: Any) -> HttpResponse:
        return to_response(endpoint.respond(form_request(request), guard_of(request).guard))

    @wraps(introspect_token)
    def view(request: HttpRequest, *captured: Any, **named: Any) -> HttpResponse:
        take_basic(guard_of(request), request.META)
        return introspect_token(request)

    # So that a store that fails is answered with 503, and nobody waits for a lock.
    return outside_transactions(view)
