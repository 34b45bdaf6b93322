"""The contract's service on Django, with async views on an async server."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from tokenguard.django import ScopesRequiredMixin, require_scopes, require_token
from tokenguard.django.introspection import introspection_view
from tokenguard.django.revocation import revoke_token

from .common import ISSUER
from .django_service import answer, cached


async def answer_async(request: HttpRequest) -> JsonResponse:
    return answer(request)


async def cached_async(request: HttpRequest) -> HttpResponse:
    return cached(request)


@method_decorator(require_token, name="dispatch")
class AnyAsync(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class ManageAsync(ScopesRequiredMixin, View):
    required_scopes = ("users:read", "users:manage")

    async def get(self, request: HttpRequest) -> HttpResponse:
        return answer(request)

    post: Any = get


urlpatterns = [
    path("", include("tokenguard.django.urls")),
    path("open", answer_async),
    path("any", AnyAsync.as_view()),
    path("read", require_scopes("users:read")(answer_async)),
    path("manage", ManageAsync.as_view()),
    path("either", require_scopes(any_of=("users:manage", "groups:read"))(answer_async)),
    path("cached", require_token(cached_async)),
    path("revoke", revoke_token),
    path("introspect", introspection_view("users:manage", issuer=ISSUER)),
]
