"""Django REST framework: the token as an authentication, its scopes as permissions, and a throttle by token.

The middleware has read the token already, and the core decides. This module translates both into the framework's terms.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from ..errors import AuthError, InsufficientScope, InvalidToken, InvalidValue, MissingToken
from ..extras import from_extra
from ..http import is_preflight
from ..identity import OWN_ISSUER, Identity
from ..request import RequestGuard
from ..scopes import ANY_TOKEN, Requirement
from ..sources import local_client_id
from .middleware import LOOKED_AT_WITH, guard_of
from .views import Asked, get_identity, judge, keep_out_of_caches, scopes_for

with from_extra("drf", "rest_framework"):
    # Not rest_framework.views: that imports this module if the settings name one of its classes.
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.exceptions import APIException, PermissionDenied
    from rest_framework.permissions import AllowAny, BasePermission
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request
    from rest_framework.settings import api_settings
    from rest_framework.throttling import SimpleRateThrottle

__all__ = ["HasScopes", "HasToken", "Refused", "TokenAuthentication", "TokenRateThrottle"]

log = logging.getLogger("tokenguard")

#: Immutable types whose value alone determines what is asked for.
_PLAIN = {str, tuple, type(None)}

#: The errors that leave it to another permission, as an alternative to this one, to let the request in.
_LEFT_TO_OTHERS = (MissingToken, InvalidToken, InsufficientScope)

#: Marks a request whose view is just being asked for its permissions.
_BEING_ASKED = "_tokenguard_being_asked"


class TokenAuthentication(BaseAuthentication):
    """Set ``request.auth`` to the :class:`tokenguard.Identity` of a request with a valid token.

    A request without one is left to the other authentications of the view. But one whose token cannot be checked, or
    may not be used from there or this often, is refused, unless the view is open to all. Cookies are never read.
    """

    def authenticate(self, request: Request) -> tuple[Any, Identity] | None:
        asked: HttpRequest = request._request
        view = request.parser_context.get("view")
        if not hasattr(asked, LOOKED_AT_WITH) and getattr(view, "swagger_fake_view", False):
            return None  # made up for a schema, so it has passed no middleware
        identity = get_identity(asked)
        if identity is None:
            _refuse_what_nobody_else_could_let_in(request)
            return None
        _keep_out_of_caches(request)  # whatever the permissions are, the answer is for this caller alone
        return self.get_user(identity), identity

    def get_user(self, identity: Identity) -> Any:
        """Return ``request.user`` for this caller: an anonymous user, unless a subclass returns another."""
        anonymous: Any = api_settings.UNAUTHENTICATED_USER  # it is typed as a string
        return anonymous() if anonymous else None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of the framework's own 401, which is why it is asked for: so this is a refusal."""
        requests = judge(ANY_TOKEN, request._request)
        error = requests.objection(request.META, ANY_TOKEN)
        if isinstance(error, _LEFT_TO_OTHERS):
            requests.decide(request.META, ANY_TOKEN)
        return requests.scheme.challenge(error or MissingToken())


class Refused(APIException):
    """Raised for a request that lacks what a view asks for; ``error`` is the :class:`tokenguard.AuthError`."""

    def __init__(self, error: AuthError) -> None:
        super().__init__(error.detail, error.code)
        self.status_code = error.status
        self.error = error


class HasToken(BasePermission):
    """Allow any valid token."""

    _refuse: Callable[[], None] | None = None

    def get_requirement(self, view: Any, method: str) -> Requirement | None:
        """Return what is asked of a request with this HTTP method; None to refuse it in any case."""
        return ANY_TOKEN

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the token meets the requirement. Raises Refused where no other permission should decide.

        :attr:`message` tells the caller the reason: only then is it known that nothing else lets the request in.
        """
        # Django's own request is read where there is a choice: the framework's looks everything up in that, slowly.
        asked: HttpRequest = request._request
        method: Any = vars(request).get("method", asked.method)
        at_stake = method == asked.method and _is_in_dispatch(view)
        if at_stake and method == "OPTIONS" and is_preflight(asked.META):
            raise _preflight(request)
        requirement = self.get_requirement(view, method.lower())
        if not at_stake:
            return requirement is not None and _may_expect_to_pass(request, requirement)
        if requirement is None:
            raise PermissionDenied
        requests = guard_of(asked)
        _keep_out_of_caches(request)
        if requests.wave_through(asked.META, requirement) is None:
            error = judge(requirement, asked).objection(asked.META, requirement)
            if isinstance(error, _LEFT_TO_OTHERS):
                self._refuse = partial(_admit, requests, request, view, requirement)
                return False
            _admit(requests, request, view, requirement)
        return True

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        """Return the same for every object, so that ``~`` negates it as well."""
        return self.has_permission(request, view)

    @property
    def message(self) -> str | None:
        """Raise Refused: the view reads this when this permission by itself, and no combination, has refused."""
        if self._refuse is not None:
            self._refuse()
        return None


class HasScopes(HasToken):
    """Allow a token that has all of the view's ``required_scopes`` and, if given, one of its ``required_any_of``.

    Each is a scope, several scopes, or a mapping that names them for each action of a ViewSet, or for each HTTP method,
    in lower case, of another view. A subclass may define them itself; those of the view are then ignored. Raises
    ImproperlyConfigured if nothing is named. An action that a mapping leaves out is refused to everybody.
    """

    #: The scopes of which a token must have all.
    required_scopes: ClassVar[Asked] = ()
    #: The scopes of which a token must have one.
    required_any_of: ClassVar[Asked] = ()

    def get_requirement(self, view: Any, method: str) -> Requirement | None:
        names = _names_of_handler(view, method)
        if not names:
            return ANY_TOKEN  # the framework answers this by itself: OPTIONS, or a method without a handler
        owner = self if self.required_scopes or self.required_any_of else view
        all_of, any_of = getattr(owner, "required_scopes", None), getattr(owner, "required_any_of", None)
        try:
            # For most views the requirement is the same whatever is called, and can be cached.
            if type(all_of) in _PLAIN and type(any_of) in _PLAIN:
                return _requirement(all_of, any_of)
            return _by_name(view, names, all_of, any_of)
        except (InvalidValue, TypeError) as error:
            raise ImproperlyConfigured(f"{_name(type(owner))}.required_scopes: {error}") from None


class TokenRateThrottle(SimpleRateThrottle):
    """Count requests by token, or by client if another issuer has issued it: such a client gets new tokens at will.

    A request without a valid token is not counted: permissions refuse that.
    """

    scope = "token"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        identity = get_identity(request)
        if identity is None:
            return None
        own = identity.issuer == OWN_ISSUER
        counted = identity.token_id if own else local_client_id(identity.issuer, identity.client_id)
        return self.cache_format % {"scope": self.scope, "ident": counted}


class _Prepared(BaseRenderer):
    """Renders the body that it was made with, whatever data the framework passes."""

    format = "json"
    charset = None

    def __init__(self, body: bytes, media_type: str) -> None:
        self.body = body
        self.media_type = media_type

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return self.body


def _keep_out_of_caches(request: Request) -> None:
    if hasattr(request._request, "_cache_update_cache"):
        # A cache around one of the view's methods sees the framework's request.
        for each in (request._request, request):
            keep_out_of_caches(each)


def _refuse_what_nobody_else_could_let_in(request: Request) -> None:
    """Raise Refused where the framework's own permissions would answer 401, as if no token had been sent."""
    asked, view = request._request, request.parser_context.get("view")
    requests = guard_of(asked)
    error = requests.objection(asked.META, ANY_TOKEN)
    # A view may read the user to decide on its permissions, and that calls this again.
    if error is None or isinstance(error, _LEFT_TO_OTHERS) or view is None or _BEING_ASKED in vars(request):
        return
    vars(request)[_BEING_ASKED] = True
    try:
        permissions = view.get_permissions() if hasattr(view, "get_permissions") else []
    finally:
        del vars(request)[_BEING_ASKED]
    if not all(type(permission) is AllowAny for permission in permissions):
        _keep_out_of_caches(request)
        _admit(requests, request, view, ANY_TOKEN)


def _admit(requests: RequestGuard, request: Request, view: Any, requirement: Requirement) -> None:
    """Let the request in, or raise Refused."""
    try:
        requests.admit(request._request.META, requirement)
    except AuthError as error:
        error.__traceback__ = None  # it leads to the environ, which holds the error
        if _is_worded_here(request, view):
            _answer(request, requests.scheme.refusal(error).body, requests.scheme.form.content_type)
        raise Refused(error) from None


def _answer(request: Request, body: bytes, media_type: str) -> None:
    request.accepted_renderer = _Prepared(body, media_type)
    request.accepted_media_type = media_type


def _preflight(request: Request) -> APIException:
    """Return an exception that ends a CORS preflight with an empty answer, before anything of the view has run."""
    _answer(request, b"", "application/problem+json")
    empty = APIException()
    empty.status_code = 204
    return empty


def _is_worded_here(request: Request, view: Any) -> bool:
    """Whether the body is our own: not for a browser, nor if the project has its own exception handler."""
    from rest_framework.views import exception_handler

    renderer = getattr(request, "accepted_renderer", None)
    return getattr(renderer, "media_type", None) != "text/html" and view.get_exception_handler() is exception_handler


def _is_in_dispatch(view: Any) -> bool:
    """Whether the view is answering a request, so that this may be the request to let in.

    The browsable API, the metadata and schemas also ask permissions, to learn what they may offer to the caller, with
    the method of each offer. That refuses nobody, so it must not be logged, counted or shown in the answer's headers.
    """
    of_view = vars(view)
    return "headers" in of_view and "response" not in of_view


def _may_expect_to_pass(request: Request, requirement: Requirement) -> bool:
    # A schema's own request has not passed the middleware, but the caller who asks for the schema is known.
    identity = request.auth if isinstance(request.auth, Identity) else getattr(request, "identity", None)
    return isinstance(identity, Identity) and requirement.met_by(identity.scopes)


def _names_of_handler(view: Any, method: str) -> tuple[str, ...]:
    """Return the names by which a mapping may list the view's own handler for ``method``; none without a handler."""
    actions = getattr(view, "action_map", None) or {}
    if method not in view.http_method_names:
        return ()
    if method in actions:
        return (actions[method],)
    if not hasattr(view, method) or (method == "options" and _tells_options(view)):
        return ()
    return ("head", "get") if method == "head" else (method,)


def _tells_options(view: Any) -> bool:
    """Whether the answer to OPTIONS is the framework's own."""
    from rest_framework.views import APIView

    return type(view).options is APIView.options


@lru_cache(maxsize=1000)
def _requirement(all_of: str | tuple[str, ...] | None, any_of: str | tuple[str, ...] | None) -> Requirement:
    return Requirement.scopes(*scopes_for(all_of), any_of=scopes_for(any_of))


def _by_name(view: Any, names: tuple[str, ...], *asked: Asked | None) -> Requirement | None:
    """Return what is asked if that depends on the action or method; None for one that is left out."""
    scopes = [scopes_for(given, *names) for given in asked]
    # Scopes that do not depend on the action must not open an action that the other mapping leaves out.
    by_name = [found for given, found in zip(asked, scopes, strict=True) if isinstance(given, Mapping) and given]
    if by_name and not any(by_name):
        _log_unnamed(_name(type(view)), names[0])
        return None
    return _requirement(*scopes)


def _name(view: type) -> str:
    return f"{view.__module__}.{view.__qualname__}"


@cache
def _log_unnamed(view: str, name: str) -> None:
    # Once, or callers of the view could fill the log with it.
    log.error("%s is refused to everybody: it is not in required_scopes of %s", name, view)
