"""What the endpoints of RFC 7009 and RFC 7662 have in common: a form with the text of one token, and the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from .errors import TemporarilyUnavailable
from .http import Answer, is_preflight
from .secret import MAX_CREDENTIAL_LENGTH, Secret

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

R = TypeVar("R", bound=Response)

#: Bytes that a request's body may have: twice as many as the longest token.
MAX_BODY = 2 * MAX_CREDENTIAL_LENGTH
#: Bytes that are read of it at most: the one more shows that a body is too long.
READ_AT_MOST = MAX_BODY + 1
FORM = "application/x-www-form-urlencoded"
NO_STORE = ("Cache-Control", "no-store")


class FormRequest(Request):
    """A request whose body is read only if it is a short one."""

    max_content_length = READ_AT_MOST


def form_app(respond: Callable[[FormRequest], Answer]) -> WSGIApplication:
    """Return a WSGI application that answers forms with ``respond``."""
    return lambda environ, start_response: to_response(respond(FormRequest(environ)), Response)(environ, start_response)


def to_response(answer: Answer, kind: type[R]) -> R:
    """Return the answer as a response of this kind, Werkzeug's or a framework's."""
    status, headers, body = answer
    response = kind([body], status, headers)
    if status == 204:
        del response.headers["Content-Type"]  # which Werkzeug sets even without a body
    return response


def is_whole(environ: Mapping[str, Any], length: int) -> bool:
    """Whether a body of ``length`` bytes is all of the body that the request announces.

    When a client stops sending, many servers end the stream as if that were its end. Of a body whose length is not
    announced, some frameworks and servers hand over nothing at all.
    """
    if declared := environ.get("CONTENT_LENGTH"):
        return str(declared).isdecimal() and int(declared) == length
    return length > 0 or "HTTP_TRANSFER_ENCODING" not in environ


def posted_token(request: Request, *, what: str) -> Secret | Answer:
    """Return the text that a POST has in its form as ``token``, or the answer to a request without one.

    There must be one, not empty; the query is ignored. 400 is RFC 6749 section 5.2's, 413 is for a long body, and 405
    for other methods says that ``what`` is done with POST. A CORS preflight gets an empty answer; put CORS middleware
    around it.
    """
    if is_preflight(request.environ):
        return Answer(204, [], b"")
    if request.method != "POST":
        return error_answer(405, "invalid_request", f"{what} with POST.", ("Allow", "POST"))
    try:
        if request.mimetype != FORM:
            return error_answer(400, "invalid_request", f"The body must be a form: {FORM}.")
        if len(body := _body_of(request)) > MAX_BODY:
            raise RequestEntityTooLarge
        # If the form has been read before, there is no body left.
        is_cut = bool(body) and not is_whole(request.environ, len(body))
        given = [] if is_cut else request.form.getlist("token")
    except RequestEntityTooLarge:
        return error_answer(413, "invalid_request", f"The body is longer than {MAX_BODY} bytes.")
    except HTTPException:  # the body did not arrive
        given = []
    if len(given) != 1 or not given[0]:
        return error_answer(400, "invalid_request", "The form must have the text of one token, as token.")
    # The text of a file ends with a line break, and nobody would be told that the token was not taken because of it.
    return Secret(given.pop().strip(), "credential")


def _body_of(request: Request) -> bytes:
    """Return the body; raises RequestEntityTooLarge, and some other HTTPException if it does not arrive."""
    try:
        return request.get_data()
    except HTTPException:
        raise
    except Exception:  # noqa: BLE001 - each server has its own errors for a body that is cut off, or broken
        raise ClientDisconnected from None


def unavailable_answer(description: str) -> Answer:
    """Return a 503 that says when to try again."""
    retry_after = ("Retry-After", str(TemporarilyUnavailable.retry_after))
    return error_answer(503, "temporarily_unavailable", description, retry_after)


def error_answer(status: int, code: str, description: str, *headers: tuple[str, str]) -> Answer:
    """Return an error in the form of RFC 6749 section 5.2."""
    return json_answer(status, {"error": code, "error_description": description}, *headers)


def json_answer(status: int, members: dict[str, object], *headers: tuple[str, str]) -> Answer:
    """Return a JSON object that must not be cached, with further ``headers``."""
    body = json.dumps(members).encode("ascii")
    about = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), NO_STORE]
    return Answer(status, [*about, *headers], body)
