"""Read and set the headers of an answer at little cost.

Django's mapping validates each name and each value again, and raises and catches an error for a name that is missing.
For the few headers that each answer gets, that would cost more than all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders

from ..http import Answer
from ..request import RequestGuard

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Whether Django's mapping stores headers in the way of all Django versions so far.
_IS_KNOWN = getattr(ResponseHeaders({"Vary": "x"}), "_store", None) == {"vary": ("Vary", "x")}
#: The attribute of the answer to a refused request that holds the headers which it was made with.
_REFUSED_WITH = "_tokenguard_refused_with"


def finish_headers(requests: RequestGuard, environ: WSGIEnvironment, response: HttpResponseBase) -> None:
    """Apply :meth:`RequestGuard.finish` to a response."""
    held = response.headers._store if _IS_KNOWN else {}
    if vars(response).get(_REFUSED_WITH) == held:
        return  # unchanged since it was made
    marks = requests.plain_marks(environ)
    if marks is None:
        if requests.refused_with(environ) is not None:
            _leave_out_of_djangos_log(response)
    elif _IS_KNOWN and "vary" not in held and "cache-control" not in held:
        held["cache-control"], held["vary"] = marks
        return
    cache_control, vary = header(response, "Cache-Control"), header(response, "Vary") or ""
    set_headers(response, requests.finish(environ, cache_control, vary))


def refusal(answer: Answer, method: str) -> HttpResponse:
    """Return the response to a refused request with this HTTP method."""
    status, headers, body = answer
    # Django leaves it to the server to send no body to a HEAD (RFC 9110 section 9.3.2), and not every server does.
    sent = b"" if method == "HEAD" else body
    response = HttpResponse(sent, content_type=headers[0][1], status=status)
    _leave_out_of_djangos_log(response)
    if not _IS_KNOWN:
        set_headers(response, headers)
        return response
    kept = _as_kept(tuple(headers))
    response.headers._store.update(kept)
    vars(response)[_REFUSED_WITH] = kept
    return response


def to_response(answer: Answer) -> HttpResponse:
    """Return the answer of one of our endpoints as Django's response."""
    status, headers, body = answer
    response = HttpResponse(body, status=status)
    del response.headers["Content-Type"]  # the answer names its own if it has a body
    set_headers(response, headers)
    # Django would log the path, and somebody may have put a token's text there.
    _leave_out_of_djangos_log(response)
    return response


def header(response: HttpResponseBase, name: str) -> str | None:
    """Return the value of this header, or None if the response does not have it."""
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


@lru_cache
def _as_kept(headers: tuple[tuple[str, str], ...]) -> Mapping[str, tuple[str, str]]:
    # There are few kinds of refusal, but each may be given many times.
    return {field[0].lower(): field for field in headers}


def _leave_out_of_djangos_log(response: HttpResponseBase) -> None:
    # Django would warn of every stranger's attempt, which our own log has with its reason. It still reports errors.
    if response.status_code < 500:
        response._has_been_logged = True  # type: ignore[attr-defined]
