"""The endpoint that answers other services about tokens (RFC 7662), as a blueprint."""

from __future__ import annotations

from functools import wraps
from typing import Any

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState

from ..endpoints import READ_AT_MOST, to_response
from ..http import is_preflight
from ..introspection import Introspection, check_scope, take_basic
from ..scopes import Requirement
from .routing import add_for_all_methods
from .views import needed_service, require_scopes, service


def introspection_blueprint(
    scope: str,
    rule: str = "/introspect",
    *,
    issuer: str | None = None,
    name: str = "tokenguard_introspection",
) -> Blueprint:
    """Return a blueprint that answers at ``rule`` to callers whose token has ``scope``.

    A service posts a token there as the form field ``token``, and learns whether it is active and what it may do; see
    :meth:`tokenguard.introspection.Introspection.respond`. ``issuer`` is the URL that answers name as ``iss``. Register
    the blueprint with an application that has a :class:`TokenGuard`. Raises ConfigurationError without a guard, without
    a scope, or for a scope that the catalogue does not have.
    """
    endpoint = Introspection(issuer=issuer)
    blueprint = Blueprint(name, __name__)

    def answer() -> Response:
        return to_response(endpoint.respond(request, service().requests.guard), Response)

    @require_scopes(check_scope(scope))
    def introspect() -> Response:
        request.max_content_length = READ_AT_MOST
        return answer()

    @wraps(introspect)
    def view(**captured: Any) -> Response:
        if is_preflight(request.environ):
            return answer()  # Flask's own answer would list the routed methods, which are all
        take_basic(service().requests, request.environ)
        return introspect()

    add_for_all_methods(blueprint, rule, "introspect", view)

    @blueprint.record
    def check(state: BlueprintSetupState) -> None:
        needed_service(state.app, "introspection").options.catalog.check(Requirement.scopes(scope))

    return blueprint
