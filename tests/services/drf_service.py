"""The contract's service on Django REST framework, with a view of each kind."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from tokenguard.django.introspection import introspection_view
from tokenguard.django.rest_framework import HasScopes, HasToken, TokenAuthentication
from tokenguard.django.revocation import revoke_token

from .common import ISSUER


def answer(request: Request) -> Response:
    return Response({"client": request.auth.client_name if request.auth else None})


class ManagesOrReadsGroups(HasScopes):
    required_any_of = ("users:manage", "groups:read")


@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([])
def open_(request: Request) -> Response:
    return answer(request)


@api_view(["GET"])
@authentication_classes([TokenAuthentication])
@permission_classes([ManagesOrReadsGroups])
def either(request: Request) -> Response:
    return answer(request)


class Any_(APIView):  # noqa: N801
    authentication_classes = (TokenAuthentication,)
    permission_classes = (HasToken,)

    def get(self, request: Request) -> Response:
        return answer(request)


class Users(ViewSet):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (HasScopes,)
    renderer_classes = (JSONRenderer,)  # with the browsable API as well, answers would also vary by Accept
    required_scopes = {"list": "users:read"}  # noqa: RUF012

    def list(self, request: Request) -> Response:
        return answer(request)


class Manage(APIView):
    authentication_classes = (TokenAuthentication,)
    permission_classes = (HasScopes,)
    required_scopes = ("users:read", "users:manage")

    def get(self, request: Request) -> Response:
        return answer(request)

    post = get


class Cached(Any_):
    def get(self, request: Request) -> Response:
        return Response(headers={"Cache-Control": "max-age=60", "Vary": "Accept, authorization"})


urlpatterns = [
    path("", include("tokenguard.django.urls")),
    path("open", open_),
    path("any", Any_.as_view()),
    path("read", Users.as_view({"get": "list"})),
    path("manage", Manage.as_view()),
    path("either", either),
    path("cached", Cached.as_view()),
    path("revoke", revoke_token),
    path("introspect", introspection_view("users:manage", issuer=ISSUER)),
]
