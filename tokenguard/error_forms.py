"""How an error is worded: as problem details (RFC 9457), or as Okta's envelope."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .errors import AuthError, InsufficientScope, InvalidRequest, MissingToken
from .okta import SUMMARIES, ApiError, envelope, show_error

_ERROR_ID = re.compile(rb'(?<="errorId": ")[^"]+')
#: Okta's codes for refusals of a token, by HTTP status.
_CODES = {400: "E0000001", 401: "E0000011", 403: "E0000006", 429: "E0000047"}


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """One way of wording errors, and what goes with it."""

    #: The Content-Type of a body.
    content_type: str
    #: The members of a body.
    members: Callable[[AuthError | ApiError], dict[str, Any]]
    #: Turns a body into one for another request, where a part of it is new each time.
    renew: Callable[[bytes, AuthError], bytes] | None = None
    #: Makes the header that identifies an answer, where each has one.
    stamp: Callable[[], tuple[str, str]] | None = None
    #: The headers that report a rate, unless others are asked for.
    rate_headers: str = "none"
    #: Whether ``X-Rate-Limit-Reset`` says when to try again.
    tells_reset: bool = False

    def body(self, error: AuthError | ApiError) -> bytes:
        """Return the body that tells the caller of ``error``."""
        return json.dumps(self.members(error)).encode("ascii")

    def logged_id(self, error: AuthError | ApiError) -> str:
        """Return what a line in the log ends with, so that it can be found by what the caller was told."""
        return "" if self.renew is None else f", errorId {error.id}"

    def again(self, body: bytes, error: AuthError) -> bytes:
        """Return the same body for another request, which is refused for ``error``."""
        return body if self.renew is None else self.renew(body, error)


def problem(error: AuthError | ApiError) -> dict[str, Any]:
    """Return the problem details (RFC 9457) that tell the caller of an error."""
    detail = error.detail if isinstance(error, AuthError) else "; ".join(error.causes) or str(error)
    members: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": detail,
        "code": error.code,
    }
    if isinstance(error, InsufficientScope):
        members["scope"] = " ".join(error.scopes)
    return members


def _envelope(error: AuthError | ApiError) -> dict[str, Any]:
    if isinstance(error, ApiError):
        return show_error(error)
    # Okta answers a request without a credential with 403; the standard's 401 stays, with Okta's code.
    code = "E0000005" if isinstance(error, MissingToken) else _CODES.get(error.status, "E0000009")
    about = "credential" if isinstance(error, InvalidRequest) else ""
    return envelope(code, SUMMARIES[code].format(about), [error.detail], error.id)


def _renewed(body: bytes, error: AuthError) -> bytes:
    return _ERROR_ID.sub(error.id.encode("ascii"), body, count=1)


def _request_id() -> tuple[str, str]:
    return ("X-Okta-Request-Id", secrets.token_urlsafe(16))


FORMS = {
    "problem": ErrorForm("application/problem+json", problem),
    "okta": ErrorForm("application/json", _envelope, _renewed, _request_id, rate_headers="okta", tells_reset=True),
}
