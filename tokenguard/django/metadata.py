"""The metadata of the service as a protected resource (RFC 9728): the view, and the check that it can be reached."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

from ..errors import ConfigurationError
from ..resource import ProtectedResource
from .conf import configured_options, service
from .headers import to_response


def metadata(request: HttpRequest, *captured: Any, **named: Any) -> HttpResponse:
    """Return the document, for anybody. Raises Http404 unless the path is that of ``TOKENGUARD["RESOURCE"]``."""
    if (answer := service().requests.scheme.metadata(request.META)) is None:
        raise Http404
    return to_response(answer)


# It changes nothing, and is for callers that have no token yet.
vars(metadata).update({"csrf_exempt": True, "login_required": False})


def check_metadata(**kwargs: Any) -> list[CheckMessage]:
    """W009."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        identifier = configured_options().get("RESOURCE")
        path = ProtectedResource(identifier).metadata_path if identifier is not None else ""
    except ConfigurationError:
        return []  # reported by check_options
    if not path or _answers(path):
        return []
    message = f"Challenges send clients to {path}, but the URLconf does not route it to tokenguard."
    hint = 'Add path("", include("tokenguard.django.urls")) to the urlpatterns of ROOT_URLCONF.'
    return [checks.Warning(message, hint=hint, id="tokenguard.W009")]


def _answers(path: str) -> bool:
    try:
        return resolve(path).func is metadata
    except Resolver404:
        return False
