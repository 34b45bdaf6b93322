"""The endpoint by which the holder of a token revokes it (RFC 7009), as a view."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters

from ..revocation import respond
from .conf import service
from .endpoints import form_request, outside_transactions
from .headers import to_response


# No cookie and no session is read, so there is nothing that another site could abuse.
@csrf_exempt
@outside_transactions  # so that a store that fails is answered with 503, and nobody waits for its lock
@sensitive_post_parameters("token")
def revoke_token(request: HttpRequest, *captured: Any, **named: Any) -> HttpResponse:
    """Revoke the token that is posted as the form field ``token``, and answer with 200.

    See :func:`tokenguard.revocation.respond`. No other credential is asked for.
    """
    found = service()
    return to_response(respond(form_request(request), found.issuer, found.requests.guard))


revoke_token.login_required = False  # type: ignore[attr-defined]
