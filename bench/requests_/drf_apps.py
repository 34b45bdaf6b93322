"""Django REST framework: the view, the least that a guard could do, and tokenguard."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tokenguard.django import get_store
from tokenguard.django.rest_framework import HasScopes, TokenAuthentication

from ..django_project import GUARD, handler
from ..fixtures import SCOPE, issue
from . import by_hand
from .contestants import Contestant
from .django_apps import ask, contestant, entering, with_middleware
from .wsgi_apps import MANY, REFUSED, floors, tokenguard_contestants


class Users(APIView):
    """A small answer in JSON, with no guard before it."""

    authentication_classes: Any = ()
    permission_classes: Any = ()
    renderer_classes = (JSONRenderer,)
    required_scopes = (SCOPE,)

    def get(self, request: Request) -> Response:
        return Response({"users": []})


def view(authentication: Any, permission: Any) -> Any:
    """The same view, for callers that these two let in."""
    return Users.as_view(
        authentication_classes=[authentication] if authentication else [], permission_classes=[permission]
    )


def floor(find: by_hand.Find) -> Any:
    """The least that a guard could do."""

    class Authentication(BaseAuthentication):
        def authenticate(self, request: Request) -> tuple[Any, Any]:
            caller = find(request.META["HTTP_AUTHORIZATION"][7:])
            if caller is None:
                raise AuthenticationFailed
            request.META["bench.identity"] = caller[0]
            return None, caller

        def authenticate_header(self, request: Request) -> str:
            return REFUSED["WWW-Authenticate"]

    class Marked(Users):
        authentication_classes = (Authentication,)
        permission_classes = (HasScope,)

        def finalize_response(self, *given: Any, **more: Any) -> Response:
            response = super().finalize_response(*given, **more)
            response.headers["Vary"] = "Authorization"
            response.headers["Cache-Control"] = "private" if response.status_code == 200 else "no-store"
            return response

    return Marked.as_view()


class Found(BaseAuthentication):
    """Takes the caller that the middleware has found."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        if (caller := request._request.caller) is None:  # type: ignore[attr-defined]
            raise AuthenticationFailed
        return None, caller


class HasScope(BasePermission):
    """Lets callers in that have the scope."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return SCOPE in request.auth[1]  # type: ignore[index]


def make_contestants() -> tuple[Contestant, list[Contestant]]:
    """Return the view without a guard, and with each of the guards."""
    tokens = issue(get_store(), 1 + MANY)
    plain, guarded = handler(), handler(GUARD)
    return contestant("bare", plain, Users.as_view(), tokens[0]), [
        *floors(lambda find: (plain, entering(floor(find))), tokens, by_hand.asking(ask)),
        with_middleware(view(Found, HasScope), tokens[0]),
        *tokenguard_contestants((guarded, entering(view(TokenAuthentication, HasScopes))), tokens),
    ]
