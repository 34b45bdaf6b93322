"""The URLs, and the views that answer in case of an error."""

from __future__ import annotations

from contextlib import closing

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.core.exceptions import SuspiciousFileOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt

from sample_flask import okta
from tokenguard.django import management_urls

from .views import groups, users
from .web import DirectoryView


# Nothing is done here that another site could abuse, and the CSRF check would answer with a page of its own.
@method_decorator(csrf_exempt, name="dispatch")
class IndexView(DirectoryView):
    """The one page that needs no token."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return JsonResponse(okta.INDEX)


def static_file(request: HttpRequest, name: str) -> HttpResponse:
    """Serve the admin's styles and scripts. With much traffic, let a web server serve what collectstatic gathers."""
    try:
        found = serve(request, name, insecure=True)
    except (SuspiciousFileOperation, ValueError):
        raise Http404 from None
    with closing(found):
        # Read as a whole, because an async server cannot stream a file in Django's way.
        return HttpResponse(b"".join(found), status=found.status_code, headers=dict(found.headers))


urlpatterns = [
    path("", IndexView.as_view()),
    path("api/v1/users", users.UsersView.as_view(), name="users"),
    path("api/v1/users/<key>", users.UserView.as_view(), name="user"),
    path("api/v1/users/<key>/lifecycle/activate", users.ActivateView.as_view()),
    path("api/v1/users/<key>/lifecycle/deactivate", users.DeactivateView.as_view()),
    path("api/v1/groups", groups.GroupsView.as_view(), name="groups"),
    path("api/v1/groups/<group_id>", groups.GroupView.as_view(), name="group"),
    path("", include(management_urls())),
    path("admin/", admin.site.urls),
    path("static/<path:name>", static_file),
]
handler400 = "sample_django.web.bad_request"
handler404 = "sample_django.web.not_found"
handler500 = "sample_django.web.server_error"
