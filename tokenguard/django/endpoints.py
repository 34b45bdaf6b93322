"""Django's side of the endpoints to which the text of a token is posted."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from django.http import HttpRequest
from django.http.request import UnreadablePostError

from ..endpoints import READ_AT_MOST, FormRequest


def form_request(request: HttpRequest) -> FormRequest:
    """Return the request as the endpoints expect it, with no more of its body than shows whether that is too long."""
    try:
        body = read_body(request, READ_AT_MOST)
    except UnreadablePostError:  # the client has gone away in the middle of it
        body = b""
    return FormRequest({**request.META, "wsgi.input": BytesIO(body), "wsgi.input_terminated": True})


def read_body(request: HttpRequest, length: int) -> bytes:
    """Read at most ``length`` bytes of the body; raises UnreadablePostError."""
    body = b""
    try:
        while len(body) < length and (part := request.read(length - len(body))):
            body += part  # a server may hand over less than it is asked for
    except Exception:  # noqa: BLE001 - each server has its own errors for a body that is cut off, or broken
        raise UnreadablePostError from None
    return body


class _Every(set[str]):
    """Every database alias: the settings name them, and a view may be imported before they are loaded."""

    def __contains__(self, alias: object) -> bool:
        return True


def outside_transactions(view: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the view outside the transaction that a project may have around each request, in every database."""
    view._non_atomic_requests = _Every()  # type: ignore[attr-defined]  # as Django's non_atomic_requests does
    return view
