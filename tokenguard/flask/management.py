"""The management of tokens as a blueprint."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from flask import Blueprint, Response, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import RequestEntityTooLarge

from ..endpoints import to_response
from ..management import PREFIX, ROUTES, Call, Management, Rights, Route
from ..okta import NotWellFormed, TooLarge, WrongMethod
from .routing import add_for_all_methods
from .views import current_identity, needed_service, require_scopes, require_token, service


def management_blueprint(
    prefix: str = PREFIX,
    *,
    read_scope: str = Rights.read,
    manage_scope: str = Rights.manage,
    all_clients_scope: str = Rights.all_clients,
    name: str = "tokenguard_management",
) -> Blueprint:
    """Return a blueprint by which applications manage their own tokens, with calls below ``prefix`` as in Okta's API.

    Register it with an application that has a :class:`TokenGuard`: without one, or if its catalogue does not have the
    scopes, ConfigurationError is raised. Reading tokens requires ``read_scope``; issuing, changing, rotating and
    revoking them requires ``manage_scope``. With ``all_clients_scope`` these are the tokens of every client, and not
    only the caller's own.
    """
    rights = Rights(read_scope, manage_scope, all_clients_scope)
    blueprint = Blueprint(name, __name__, url_prefix=prefix)
    for path, found in groupby(ROUTES, key=lambda route: route.path):
        routes = list(found)
        for route in routes:
            view = _view(route, rights)
            blueprint.add_url_rule(path, route.name, view, methods=[route.method], provide_automatic_options=False)
        methods = {route.method for route in routes}
        add_for_all_methods(blueprint, path, f"not_{routes[0].name}", _other_methods(methods))

    @blueprint.record
    def check(state: BlueprintSetupState) -> None:
        rights.check(needed_service(state.app, "the management of tokens").options.catalog)

    return blueprint


def _other_methods(methods: set[str]) -> Any:
    """Return the view for all other methods. They are routed, as Flask's own refusal would have another form."""
    allowed = {*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}

    @require_token
    def refuse() -> Response:
        return to_response(service().requests.scheme.report(WrongMethod(allowed)), Response)

    def view(**captured: Any) -> Response:
        if request.method == "OPTIONS":  # as Flask's own answer, with the methods of this path
            return Response(headers={"Allow": ", ".join(sorted(allowed))})
        return refuse()

    return view


def _view(route: Route, rights: Rights) -> Any:
    def view(token_id: str = "", **captured: Any) -> Response:
        found = service()
        management = Management(found.issuer, found.requests.scheme, rights)
        url = url_for(".list_tokens", _external=True, **captured)
        identity = current_identity._get_current_object()  # type: ignore[attr-defined]
        call = Call(identity, url, request.args, _read, request.environ, token_id)
        return to_response(management.answer(route, call), Response)

    view.__name__ = route.name
    needed = route.requirement(rights).all_of
    return require_scopes(*needed)(view) if needed else require_token(view)


def _read(length: int) -> bytes:
    data = b""
    try:
        # A stream may return fewer bytes than it is asked for.
        while len(data) < length and (part := request.stream.read(length - len(data))):
            data += part
        return data or request.get_data()  # the application may have read the body before
    except RequestEntityTooLarge:
        raise TooLarge from None
    except Exception:  # noqa: BLE001 - each server has its own errors for a body that is cut off, or broken
        raise NotWellFormed from None
