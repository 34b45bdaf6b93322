"""The contract's service on Django, with sync views."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from tokenguard.django import TokenRequiredMixin, get_identity, require_scopes, require_token
from tokenguard.django.introspection import introspection_view
from tokenguard.django.revocation import revoke_token

from .common import ISSUER


def answer(request: HttpRequest) -> JsonResponse:
    identity = get_identity(request)
    return JsonResponse({"client": identity.client_name if identity else None})


def cached(request: HttpRequest) -> HttpResponse:
    return HttpResponse(headers={"Cache-Control": "max-age=60", "Vary": "Accept, authorization"})


class Any_(TokenRequiredMixin, View):  # noqa: N801
    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


@method_decorator(require_scopes("users:read", "users:manage"), name="dispatch")
class Manage(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(request)

    post = get


urlpatterns = [
    path("", include("tokenguard.django.urls")),
    path("open", answer),
    path("any", Any_.as_view()),
    path("read", require_scopes("users:read")(answer)),
    path("manage", Manage.as_view()),
    path("either", require_scopes(any_of=("users:manage", "groups:read"))(answer)),
    path("cached", require_token(cached)),
    path("revoke", revoke_token),
    path("introspect", introspection_view("users:manage", issuer=ISSUER)),
    path("admin/", admin.site.urls),
    path("static/<path:path>", serve, {"insecure": True}),
]
