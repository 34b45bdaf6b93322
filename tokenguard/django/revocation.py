"""The endpoint by which whoever holds a token revokes it (RFC 7009), as a view."""

from __future__ import annotations

from io import BytesIO

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters

from ..revocation import MAX_BODY, RevocationRequest, respond
from .conf import service


# No cookie and no session is looked at, so there is nothing that another site could abuse.
@csrf_exempt
@transaction.non_atomic_requests  # so that a store that fails is answered with 503, and nobody waits for its lock
@sensitive_post_parameters("token")
def revoke_token(request: HttpRequest) -> HttpResponse:
    """Revokes the token that is posted as the form's ``token``, and answers with 200.

    See :func:`tokenguard.revocation.respond`. No other credential is asked for.
    """
    found = service()
    form = {"wsgi.input": BytesIO(_body(request)), "wsgi.input_terminated": True}
    guard = found.requests.guard
    answer = respond(RevocationRequest({**request.META, **form}), found.issuer, guard.tokens, guard.sources)
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


revoke_token.login_required = False  # type: ignore[attr-defined]


def _body(request: HttpRequest) -> bytes:
    """As much of it as tells whether it is too long."""
    try:
        return request.read(MAX_BODY + 1)
    except UnreadablePostError:  # the client has gone away in the middle of it
        return b""
