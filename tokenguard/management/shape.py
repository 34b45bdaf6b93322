"""A token as Okta shows one, and the parts of it that callers send: only here do our nouns become Okta's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..clock import SECOND, earliest, from_datetime
from ..conditions import Conditions
from ..errors import InvalidValue
from ..okta import show_date
from ..records import Record

#: How many networks callers may name for a token: each request with it checks them, and they are compared pairwise.
MAX_NETWORKS = 200
_UNITS = {"W": 7 * 86_400, "D": 86_400, "H": 3600, "M": 60, "S": 1}
# ISO 8601 without years and months, which have no fixed length.
_WINDOW = re.compile(
    r"P(?=.)(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?=.)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


def show_token(record: Record, url: str) -> dict[str, Any]:
    """Return the token as Okta shows one; ``url`` is its URL.

    ``expiresAt`` is when it ends unless it is used, and ``lastUpdated`` is when a use last put that off. ``userId`` is
    left out: a client is not a user.
    """
    token = record.token
    return {
        "id": token.id,
        "name": token.name,
        "clientId": record.client.id,
        "clientName": record.client.name,
        "scopes": list(token.scopes),
        "tokenWindow": None if token.idle_timeout is None else show_duration(token.idle_timeout // SECOND),
        "network": show_network(token.conditions),
        "rate": str(token.conditions.rate) if token.conditions.rate else None,
        "created": show_date(token.created_at),
        "lastUpdated": show_date(max(token.created_at, record.last_used_at or 0)),
        "expiresAt": show_date(earliest(token.expires_at, token.overlap_ends_at, record.idle_end)),
        "_links": {"self": {"href": url, "hints": {"allow": ["GET", "PUT", "DELETE"]}}},
    }


def show_network(conditions: Conditions) -> dict[str, Any]:
    """Return the conditions as Okta's ``network``, with networks where Okta names zones."""
    if not (conditions.allow or conditions.deny):
        return {"connection": "ANYWHERE"}
    shown = {"connection": "ZONE", "include": [*map(str, conditions.allow)], "exclude": [*map(str, conditions.deny)]}
    return {name: value for name, value in shown.items() if value}


def read_network(given: object) -> Conditions:
    """Read what :func:`show_network` returns; raises InvalidValue."""
    if not isinstance(given, Mapping) or not given.keys() <= {"connection", "include", "exclude"}:
        raise InvalidValue("a network must be an object with connection, include and exclude")
    include, exclude = (given.get(name) or [] for name in ("include", "exclude"))
    if not (isinstance(include, list) and isinstance(exclude, list)):
        raise InvalidValue("include and exclude must be lists of networks, such as 10.0.0.0/8")
    if len(include) + len(exclude) > MAX_NETWORKS:
        raise InvalidValue(f"a token has at most {MAX_NETWORKS} networks")
    named = bool(include or exclude)
    if given.get("connection") != ("ZONE" if named else "ANYWHERE"):
        raise InvalidValue("the connection must be ZONE with networks to include or exclude, and ANYWHERE without")
    return Conditions.parse(include, exclude)


def show_duration(seconds: int) -> str:
    """Return seconds as an ISO 8601 duration: ``P30D``, ``PT12H``."""
    days, rest = divmod(seconds, 86_400)
    time = ""
    for unit in "HMS":
        count, rest = divmod(rest, _UNITS[unit])
        time += f"{count}{unit}" if count else ""
    day = f"{days}D" if days else ""
    if time:
        return f"P{day}T{time}"
    return f"P{day}" if day else "PT0S"


def read_duration(given: object) -> int:
    """Read an ISO 8601 duration, in seconds; raises InvalidValue."""
    if not isinstance(given, str) or not (match := _WINDOW.fullmatch(given)):
        raise InvalidValue("a duration must be in ISO 8601, of weeks, days, hours, minutes and seconds: P30D")
    return sum(int(count) * _UNITS[unit] for count, unit in zip(match.groups(), _UNITS, strict=True) if count)


def read_date(given: object) -> int:
    """Read a time with its zone (RFC 3339), in epoch microseconds; raises InvalidValue."""
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise InvalidValue("a time must have a zone: 2026-01-31T12:00:00Z")
    return from_datetime(moment)
