"""Okta's conventions on the wire, for a service that answers as Okta's API does: its errors, pages and dates."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .clock import to_datetime
from .errors import CallerError
from .secret import redact
from .strict_json import STRICT

MAX_LIMIT = 200
#: Okta's error codes, and the summary of each.
SUMMARIES = {
    "E0000001": "Api validation failed: {0}",
    "E0000003": "The request body was not well-formed.",
    "E0000005": "Invalid session",
    "E0000006": "You do not have permission to perform the requested action",
    "E0000007": "Not found: {0}",
    "E0000009": "Internal Server Error",
    "E0000011": "Invalid token provided",
    "E0000022": "The endpoint does not support the provided HTTP method",
    "E0000038": "This operation is not allowed in the user's current status.",
    "E0000047": "API call exceeded rate limit due to too many requests.",
}


class ApiError(CallerError):
    """A request cannot be done, and the caller is told why. ``causes`` say what is wrong, one by one.

    ``about`` is inserted into the summary, where that names something. Like every message of tokenguard's, none of
    these shows what could be a token.
    """

    status = 400
    #: A stable name for programs: the ``code`` of a problem body.
    code = "invalid_request"
    #: Okta's ``errorCode`` for it.
    okta_code = "E0000001"
    #: Further headers of the answer.
    headers: Mapping[str, str] = {}

    def __init__(self, about: str = "", *, causes: Iterable[str] = ()) -> None:
        super().__init__(SUMMARIES[self.okta_code].format(about))
        self.causes = tuple(redact(cause) for cause in causes)


class Invalid(ApiError):
    """Fields that break a rule: each with the reason."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(next(iter(faults)), causes=(f"{name}: {why}" for name, why in faults.items()))


class Changed(Invalid):
    """Somebody else came first: the object of the request is no longer as it was."""

    status = 409
    code = "conflict"


class TooLarge(Invalid):
    """A body that is longer than any that makes sense."""

    status = 413
    code = "too_large"

    def __init__(self) -> None:
        super().__init__({"body": "The request body is too large"})


class NotWellFormed(ApiError):
    """The body is not a JSON object, or did not arrive whole."""

    okta_code = "E0000003"
    code = "malformed_body"


class Forbidden(ApiError):
    """The caller is known, and may not do this."""

    status = 403
    okta_code = "E0000006"
    code = "forbidden"


class NotFound(ApiError):
    """Nothing of this kind has this id; without a kind, nothing has this path."""

    status = 404
    okta_code = "E0000007"
    code = "not_found"

    def __init__(self, name: str, kind: str = "") -> None:
        named = f"{name[:100]} ({kind})" if kind else name[:100]
        super().__init__(f"Resource not found: {named}")


class WrongMethod(ApiError):
    """The path exists, but only for other HTTP methods."""

    status = 405
    okta_code = "E0000022"
    code = "method_not_allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.headers = {"Allow": ", ".join(sorted(allowed))}


def envelope(code: str, summary: str, causes: Iterable[str], identifier: str) -> dict[str, Any]:
    """Return the body of a refusal; ``identifier`` is its ``errorId``, for people to quote."""
    return {
        "errorCode": code,
        "errorSummary": summary,
        "errorLink": code,
        "errorId": identifier,
        "errorCauses": [{"errorSummary": cause} for cause in causes],
    }


def show_error(error: ApiError) -> dict[str, Any]:
    """Return the body that reports ``error``."""
    return envelope(error.okta_code, str(error), error.causes, error.id)


def show_date(micros: int | None) -> str | None:
    """Epoch microseconds as Okta writes a time: ``2026-01-31T12:00:00.000Z``."""
    if micros is None:
        return None
    return to_datetime(micros).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises NotWellFormed, also for a name that occurs twice."""
    try:
        found = json.loads(body, **STRICT)
    except (ValueError, RecursionError):
        raise NotWellFormed from None
    if not isinstance(found, dict):
        raise NotWellFormed
    return found


def read_argument(query: Mapping[str, str], name: str) -> str | None:
    """Return an argument of a request, None if it is missing; raises Invalid if it occurs more than once.

    ``query`` is Werkzeug's ``request.args`` or Django's ``request.GET``. Of several values, the former would take the
    first, and the latter the last.
    """
    getlist = getattr(query, "getlist", None)
    if getlist is not None and len(getlist(name)) > 1:
        raise Invalid({name: "The argument must not occur more than once"})
    return query.get(name)


@dataclass(frozen=True, slots=True)
class Paging:
    """What a caller asks of a list: how many, and after which item."""

    limit: int
    after: str | None

    @classmethod
    def read(cls, query: Mapping[str, str], item: str) -> Paging:
        """Read the arguments of a list whose items are identified by what the pattern ``item`` matches.

        Raises Invalid, also for a search.
        """
        for name in ("q", "filter", "search"):
            # Ignoring it would return everything to a caller who asked for a few items.
            if name in query:
                raise Invalid({name: "Searching is not supported"})
        return cls(_read_limit(read_argument(query, "limit")), _read_cursor(read_argument(query, "after"), item))

    def links(self, url: str, next_after: str | None) -> str:
        """The ``Link`` header of this page of the list at ``url``: ``self``, then ``next`` if there is one.

        One header for both, since many clients see only one of several.
        """
        found = [self._link(url, "self")]
        if next_after is not None:
            found.append(Paging(self.limit, next_after)._link(url, "next"))
        return ", ".join(found)

    def _link(self, url: str, rel: str) -> str:
        cursor = {} if self.after is None else {"after": _cursor(self.after)}
        return f'<{url}?{urlencode({**cursor, "limit": self.limit})}>; rel="{rel}"'


def _read_limit(text: str | None) -> int:
    if text is None:
        return MAX_LIMIT
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise Invalid({"limit": f"The limit must be a whole number from 1 to {MAX_LIMIT}"})
    return int(text)


def _read_cursor(text: str | None, item: str) -> str | None:
    if text is None:
        return None
    after = text[8:]
    if not re.fullmatch(item, after, re.ASCII) or text != _cursor(after):
        raise Invalid({"after": "The cursor is not valid; follow the links that the answers give"})
    return after


def _cursor(after: str) -> str:
    # The checksum detects a cursor that was cut or made up. It needs no key: any reader of the list may start anywhere.
    return hashlib.sha256(after.encode()).hexdigest()[:8] + after
