"""The revocation endpoint, at which the holder of a token revokes it (RFC 7009), as a blueprint."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from ..endpoints import READ_AT_MOST, to_response
from ..revocation import respond
from .routing import add_for_all_methods
from .views import service


def revocation_blueprint(rule: str = "/revoke", *, name: str = "tokenguard_revocation") -> Blueprint:
    """Return a blueprint that answers at ``rule``, for an application that has a :class:`TokenGuard`.

    A caller that posts a token there as the form field ``token`` revokes it, and is answered with 200; see
    :func:`tokenguard.revocation.respond`. No other credential is required.
    """
    blueprint = Blueprint(name, __name__)
    add_for_all_methods(blueprint, rule, "revoke", _revoke)
    return blueprint


def _revoke(**captured: Any) -> Response:
    found = service()
    request.max_content_length = READ_AT_MOST
    return to_response(respond(request, found.issuer, found.requests.guard), Response)
