"""An answer's headers, read and set at little cost.

Django's mapping looks at each name and each text again, and raises and catches an error for a name that is not there:
for the few headers that each answer is given, that would cost more than all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders

from ..http import Answer
from ..request import RequestGuard

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Whether the mapping keeps what it holds as all versions of Django do that there are.
_IS_KNOWN = getattr(ResponseHeaders({"Vary": "x"}), "_store", None) == {"vary": ("Vary", "x")}


def finish_headers(requests: RequestGuard, environ: WSGIEnvironment, response: HttpResponseBase) -> None:
    """:meth:`RequestGuard.finish` done to a response."""
    held = response.headers._store if _IS_KNOWN else {}
    marks = requests.plain_marks(environ)
    if marks is None:
        if (refused := requests.refused_with(environ)) is not None:
            # It is in our own log, by its reason: Django would warn of every stranger's attempt. It may report errors.
            if response.status_code < 500:
                response._has_been_logged = True  # type: ignore[attr-defined]
            if [*held.values()][2:] == refused:
                return  # it is as it was made
    elif _IS_KNOWN and "vary" not in held and "cache-control" not in held:
        held["cache-control"], held["vary"] = marks
        return
    cache_control, vary = header(response, "Cache-Control"), header(response, "Vary") or ""
    set_headers(response, requests.finish(environ, cache_control, vary))


def to_response(answer: Answer) -> HttpResponse:
    """The answer of an endpoint of ours, as Django's."""
    status, headers, body = answer
    response = HttpResponse(body, status=status)
    del response.headers["Content-Type"]  # the answer names its own, where there is something in it
    set_headers(response, headers)
    # Django would log the path, and somebody may have put a token's text there.
    response._has_been_logged = status < 500  # type: ignore[attr-defined]
    return response


def header(response: HttpResponseBase, name: str) -> str | None:
    """What the response says there, if it has that header."""
    if not _IS_KNOWN:
        return response.headers.get(name)
    held: tuple[str, str] | None = response.headers._store.get(name.lower())
    return None if held is None else held[1]


def set_headers(response: HttpResponseBase, headers: Iterable[tuple[str, str]]) -> None:
    """Set these headers, which are printable ASCII."""
    if not _IS_KNOWN:
        for name, value in headers:
            response.headers[name] = value
        return
    stored = response.headers._store
    for field in headers:
        stored[field[0].lower()] = field
