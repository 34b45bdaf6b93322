"""Answers to other services about this service's own tokens: the endpoint of RFC 7662, a request in, an answer out.

It is guarded like any view, by a scope of its own. Frameworks route a URL here, guard it and translate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from .clock import SECOND
from .conditions import read_address, without_port
from .endpoints import error_answer, form_app, json_answer, posted_token, unavailable_answer
from .errors import ConfigurationError, InvalidToken, TemporarilyUnavailable
from .frames import clear_frames
from .guard import Guard, whose_token
from .hooks import Hooks
from .http import Answer, AuthScheme, basic_to_bearer
from .records import Standing
from .request import RequestGuard
from .scopes import ScopeCatalog, Scopes
from .urls import checked_url
from .wsgi import TokenGuardMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: The parameter with the address that presented the token to the caller: RFC 7662 section 2.1 allows further ones.
CLIENT_ADDRESS = "client_address"


class Introspection:
    """Answers about tokens. ``issuer`` is the URL that they name as ``iss``; without it they have none.

    Raises ConfigurationError for an issuer that is no such URL.
    """

    def __init__(self, *, issuer: str | None = None) -> None:
        self.issuer = None if issuer is None else checked_url("an issuer", issuer)

    def respond(self, request: Request, guard: Guard) -> Answer:
        """Return the answer to a POST whose form has the text of a token as ``token``, from a caller that was let in.

        200 with what is known of a token that is good now, or with ``{"active": false}`` and nothing more (RFC 7662
        section 2.2): for what is unknown, malformed, forged, expired, revoked or of a disabled client, for tokens of
        other issuers, and for one that is limited to networks, unless the form's ``client_address`` lies in them. 400,
        405 and 413 for a request that names no token, 503 when the store cannot be asked. A ``token_type_hint`` changes
        nothing. A text that was not signed here never reaches the store, and being asked about is no use of a token.
        """
        credential = posted_token(request, what="A token is introspected")
        if isinstance(credential, Answer):
            return credential
        addresses = request.form.getlist(CLIENT_ADDRESS)
        if len(addresses) > 1:
            return error_answer(400, "invalid_request", f"{CLIENT_ADDRESS} must not occur more than once.")
        try:
            token_id, standing = guard.introspect(credential)
        except InvalidToken:
            return json_answer(200, {"active": False})
        except TemporarilyUnavailable:
            return unavailable_answer("Whether the token is active is unknown at the moment. Try again shortly.")
        if not _may_be_used_from(addresses[0] if addresses else None, standing):
            return json_answer(200, {"active": False})
        return json_answer(200, self._members(token_id, standing, guard))

    def _members(self, token_id: str, standing: Standing, guard: Guard) -> dict[str, object]:
        members: dict[str, object] = {
            "active": True,
            "scope": _spelt_out(guard.catalog, guard.catalog.effective(standing.scopes, standing.ceiling)),
            "client_id": standing.client_id,
            "token_type": "Bearer",
            "iat": standing.created_at // SECOND,
            "jti": token_id,
        }
        if (end := standing.end) is not None:
            members["exp"] = end // SECOND  # rounded down, for callers that cache the answer until then
        if self.issuer is not None:
            members["iss"] = self.issuer
        return members


def introspection_app(
    guard: Guard,
    scope: str,
    *,
    issuer: str | None = None,
    scheme: AuthScheme | None = None,
    hooks: Hooks | None = None,
) -> WSGIApplication:
    """Return the endpoint as a WSGI application, to mount without a framework, for callers whose token has ``scope``.

    Raises as :class:`Introspection` and :class:`tokenguard.TokenGuardMiddleware` do.
    """
    endpoint = Introspection(issuer=issuer)
    app = form_app(lambda request: endpoint.respond(request, guard))
    guarded = TokenGuardMiddleware(app, guard, check_scope(scope), scheme=scheme, hooks=hooks)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            take_basic(guarded.requests, environ)
            return guarded(environ, start_response)
        except BaseException:
            del environ  # this frame is in the traceback
            raise

    return application


def take_basic(requests: RequestGuard, environ: WSGIEnvironment) -> None:
    """Take the password of HTTP Basic, by which stock OAuth clients authenticate, as the token.

    To be called before the guard, which then finds that token and judges it like any other. The token is refused as a
    bad one unless the user name is the id or the name of its client. No challenge names Basic: a browser would then ask
    for a password, and send it by itself from then on.
    """
    if (user := basic_to_bearer(environ)) is None:
        return
    try:
        identity = requests.authenticate(environ)
    except BaseException as error:
        clear_frames(error)
        del environ
        raise
    if identity is None or user in (identity.client_id, identity.client_name):
        return
    environ["HTTP_AUTHORIZATION"] = "Basic"  # a later check must not find the token, which is a good one
    requests.remember(environ, InvalidToken("the user name does not belong to its client", **whose_token(identity)))


def check_scope(scope: str) -> str:
    """Return the scope that guards the endpoint; raises ConfigurationError if there is none."""
    if not isinstance(scope, str) or not scope:
        raise ConfigurationError('introspection requires a scope that guards it, such as "tokens:introspect"')
    return scope


def _spelt_out(catalog: ScopeCatalog, scopes: Scopes) -> str:
    """Return scopes as RFC 6749 section 3.3 writes them: no other service knows what a wildcard of ours covers."""
    return " ".join(name for name in sorted(catalog) if name in scopes) if len(catalog) else str(scopes)


def _may_be_used_from(address: str | None, standing: Standing) -> bool:
    """Whether the conditions admit the address; they admit an unknown one only if they name no network."""
    # The caller's own proxy may have added a port.
    origin = None if address is None else read_address(without_port(address))
    return all(held.admit(origin) for held in (standing.conditions, standing.client_conditions))
