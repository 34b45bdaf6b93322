"""What the views share: reading a body, answering with a page, and errors in Okta's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin
from django.views import View

from sample_flask import errors, okta
from sample_flask.people import Item, Page
from tokenguard.okta import ApiError, NotFound, NotWellFormed, Paging, TooLarge, WrongMethod, show_error


class DirectoryView(View):
    """A view that answers other methods than its own in Okta's form."""

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> NoReturn:
        raise WrongMethod(name.upper() for name in self.http_method_names if hasattr(self, name))


class ErrorsMiddleware(MiddlewareMixin):
    """Answers the directory's errors. tokenguard's refusals never come here, and have the same form."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return _answer(exception) if isinstance(exception, ApiError) else None


def body(request: HttpRequest) -> bytes:
    """Return the request's body; raises TooLarge, and NotWellFormed if it did not arrive whole."""
    try:
        # At most one byte too many, whatever Content-Length says.
        data = request.read(okta.MAX_BODY + 1)
    except UnreadablePostError:
        raise NotWellFormed from None
    if len(data) > okta.MAX_BODY:
        raise TooLarge
    return data


def url(request: HttpRequest, name: str, *args: str) -> str:
    """Return the absolute URL of a view."""
    return request.build_absolute_uri(reverse(name, args=args))


def answer_page(
    request: HttpRequest, name: str, paging: Paging, page: Page[Item], show: Callable[[Item], dict[str, Any]]
) -> HttpResponse:
    """Answer with a page of a list, and links to itself and to the next."""
    next_after = page.items[-1].id if page.more else None
    links = paging.links(url(request, name), next_after)
    return JsonResponse([show(item) for item in page.items], safe=False, headers={"Link": links})


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django itself finds wrong with a request, before or outside of the directory's views."""
    return _answer(errors.BadHost() if isinstance(exception, DisallowedHost) else NotWellFormed())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(NotFound(request.path))


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(errors.Internal())


def _answer(error: ApiError) -> HttpResponse:
    return JsonResponse(show_error(error), status=error.status, headers=error.headers)
