from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import TemplateView
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from tokenguard import Identity
from tokenguard.django import (
    GuardedRequest,
    ScopesRequiredMixin,
    TokenGuardMiddleware,
    get_identity,
    protect,
    require_scopes,
    require_token,
)
from tokenguard.django.rest_framework import HasScopes, TokenAuthentication


@require_scopes("users:read")
def users(request: GuardedRequest) -> JsonResponse:
    assert_type(request.identity, Identity)
    return JsonResponse({"caller": request.identity.client_name})


@require_token
def user(request: GuardedRequest, pk: int) -> HttpResponse:
    return HttpResponse(request.identity.client_name)


@require_scopes(any_of=["users:read", "groups:read"])
async def report(request: GuardedRequest) -> JsonResponse:
    return JsonResponse({"for": request.identity.client_name})


# What is guarded keeps its signature.
checked: Callable[[GuardedRequest], JsonResponse] = users
checked_too: Callable[[GuardedRequest, int], HttpResponse] = user
awaited: Callable[[GuardedRequest], Coroutine[Any, Any, JsonResponse]] = report
user(GuardedRequest(), "1")  # type: ignore[arg-type]
# As a test calls it.
through = (TokenGuardMiddleware(users), TokenGuardMiddleware(report))


def index(request: HttpRequest) -> HttpResponse:
    identity = get_identity(request)
    return HttpResponse(identity.client_name if identity else "stranger")


class Groups(ScopesRequiredMixin, View):
    required_scopes = {"get": "groups:read", "delete": ("groups:read", "users:manage")}  # noqa: RUF012 - as users do

    def get(self, request: GuardedRequest) -> HttpResponse:
        return HttpResponse(request.identity.client_name)

    def delete(self, request: GuardedRequest) -> HttpResponse:
        return HttpResponse(status=204)


class Page(ScopesRequiredMixin, TemplateView):
    required_scopes = "users:read"
    template_name = "page.html"


# A mixin takes nothing away from the view that it guards.
paged: View[HttpResponse] = Page()
paging: Callable[..., HttpResponse] = Page.as_view()


@method_decorator(require_scopes("users:manage"), name="dispatch")
class Jobs(View):
    def post(self, request: GuardedRequest) -> HttpResponse:
        return HttpResponse(request.identity.client_name, status=202)


class Users(ViewSet):
    authentication_classes = [TokenAuthentication]  # noqa: RUF012 - as users do
    permission_classes = [HasScopes]  # noqa: RUF012 - as users do
    required_scopes = {"list": "users:read", "create": ["users:read", "users:manage"]}  # noqa: RUF012 - as users do

    def list(self, request: Request) -> Response:
        assert isinstance(request.auth, Identity)
        return Response({"caller": request.auth.client_name})

    @action(detail=False, required_scopes="groups:read")
    def groups(self, request: Request) -> Response:
        return Response([])


class ReadsUsers(HasScopes):
    required_scopes = "users:read"


class ReadsSomething(HasScopes):
    required_any_of = {"get": ["users:read", "groups:read"]}  # noqa: RUF012 - as users do


@api_view(["GET"])
@permission_classes([ReadsUsers | IsAdminUser])
def count(request: Request) -> Response:
    return Response({"count": 0})


urlpatterns = [
    path("", index),
    path("users", users),
    path("users/<int:pk>", user),
    path("report", report),
    path("groups", Groups.as_view()),
    path("jobs", Jobs.as_view()),
]
included = [
    path("module/", protect(include("urls"), "users:read")),
    path("patterns/", protect(include((urlpatterns, "directory")))),
    path("list/", include(protect(urlpatterns, any_of=["users:read"]))),
]
