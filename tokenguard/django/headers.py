"""An answer's headers, read and set at little cost.

Django's mapping looks at each name and each text again, and raises and catches an error for a name that is not there:
for the few headers that each answer is given, that would cost more than all the rest.
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

#: Whether the mapping keeps what it holds as all versions of Django do that there are.
_IS_KNOWN = getattr(ResponseHeaders({"Vary": "x"}), "_store", None) == {"vary": ("Vary", "x")}
#: Where the answer to a refused request has the headers that it was made with.
_REFUSED_WITH = "_tokenguard_refused_with"


def finish_headers(requests: RequestGuard, environ: WSGIEnvironment, response: HttpResponseBase) -> None:
    """:meth:`RequestGuard.finish` done to a response."""
    held = response.headers._store if _IS_KNOWN else {}
    if vars(response).get(_REFUSED_WITH) == held:
        return  # it is as it was made
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
    """The answer to a refused request with this HTTP method."""
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
    """The answer of an endpoint of ours, as Django's."""
    status, headers, body = answer
    response = HttpResponse(body, status=status)
    del response.headers["Content-Type"]  # the answer names its own, where there is something in it
    set_headers(response, headers)
    # Django would log the path, and somebody may have put a token's text there.
    _leave_out_of_djangos_log(response)
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


@lru_cache
def _as_kept(headers: tuple[tuple[str, str], ...]) -> Mapping[str, tuple[str, str]]:
    # Of refusals there are few kinds, of which there may be many.
    return {field[0].lower(): field for field in headers}


def _leave_out_of_djangos_log(response: HttpResponseBase) -> None:
    # It would warn of every stranger's attempt, which is in our own log by its reason. It may report errors.
    if response.status_code < 500:
        response._has_been_logged = True  # type: ignore[attr-defined]
