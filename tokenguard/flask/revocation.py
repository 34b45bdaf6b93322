"""The endpoint by which whoever holds a token revokes it (RFC 7009), as a blueprint."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from ..posted import READ_AT_MOST
from ..revocation import respond
from ..wsgi import to_headers
from .views import service

#: Those that are routed at all, so that the answer to each is the endpoint's own.
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def revocation_blueprint(rule: str = "/revoke", *, name: str = "tokenguard_revocation") -> Blueprint:
    """A blueprint that answers at ``rule``, for an application that has a :class:`TokenGuard`.

    Whoever posts a token there as the form's ``token`` revokes it, and is answered with 200; see
    :func:`tokenguard.revocation.respond`. No other credential is asked for.
    """
    blueprint = Blueprint(name, __name__)
    blueprint.add_url_rule(rule, "revoke", _revoke, methods=METHODS, provide_automatic_options=False)
    return blueprint


def _revoke(**captured: Any) -> Response:
    found = service()
    request.max_content_length = READ_AT_MOST
    status, headers, body = respond(request, found.issuer, found.requests.guard)
    return Response(body, status, to_headers(headers))
