"""Okta's conventions on the wire, free of any framework: what is read from a request, what an answer says."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlencode

from .errors import DirectoryError, Invalid, NotWellFormed
from .people import FIELDS, Group, User

MAX_LIMIT = 200
#: Many times a profile, and too little to keep the JSON parser busy.
MAX_BODY = 16 * 1024
#: The one page that needs no token.
INDEX = {"name": "tokenguard sample directory", "users": "/api/v1/users", "groups": "/api/v1/groups"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_USER_TYPE = "oty1defaultusertype0"


@dataclass(frozen=True, slots=True)
class Paging:
    """What a caller asks of a list: how many, and after which id."""

    limit: int
    after: str | None


def read_paging(query: Mapping[str, str]) -> Paging:
    """The paging in the arguments of a list; raises Invalid."""
    for name in ("q", "filter", "search"):
        # To leave one out of account would answer with everybody, to a caller who asked for a few.
        if name in query:
            raise Invalid({name: "This directory does not search"})
    return Paging(_read_limit(query.get("limit", str(MAX_LIMIT))), _read_cursor(query.get("after")))


def read_flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    """``true`` or ``false`` in the arguments; raises Invalid for anything else."""
    text = query.get(name, str(default).lower())
    if text not in ("true", "false"):
        raise Invalid({name: "The value must be true or false"})
    return text == "true"


def read_profile(body: bytes) -> object:
    """The profile in a user that is sent, None if there is none; raises NotWellFormed.

    Other members are passed over, as at Okta, so that a user can be sent back as it was got.
    """
    try:
        user = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise NotWellFormed from None
    if not isinstance(user, dict):
        raise NotWellFormed
    return user.get("profile")


def links(url: str, paging: Paging, next_after: str | None) -> str:
    """The ``Link`` header of a page: ``self``, then ``next`` if there is one.

    One header for both, since many clients see only one of several.
    """
    found = [_link(url, paging, "self")]
    if next_after is not None:
        found.append(_link(url, Paging(paging.limit, next_after), "next"))
    return ", ".join(found)


def show_user(user: User, url: str) -> dict[str, Any]:
    """A user as Okta shows it; ``url`` is where it is found."""
    return {
        "id": user.id,
        "status": user.status,
        "created": _date(user.created),
        "activated": _date(user.activated),
        "statusChanged": _date(user.status_changed),
        "lastLogin": None,
        "lastUpdated": _date(user.last_updated),
        "passwordChanged": None,
        "type": {"id": _USER_TYPE},
        "profile": {name: user.profile.get(name) for name in FIELDS},
        "credentials": {"provider": {"type": "OKTA", "name": "OKTA"}},
        "_links": {"self": {"href": url}},
    }


def show_group(group: Group, url: str) -> dict[str, Any]:
    """A group as Okta shows it; ``url`` is where it is found."""
    return {
        "id": group.id,
        "created": _date(group.created),
        "lastUpdated": _date(group.last_updated),
        "lastMembershipUpdated": _date(group.last_membership_updated),
        "objectClass": ["okta:user_group"],
        "type": "OKTA_GROUP",
        "profile": {"name": group.name, "description": group.description},
        "_links": {"self": {"href": url}},
    }


def show_error(error: DirectoryError) -> dict[str, Any]:
    """The envelope of every refusal. Its ``errorId`` is only for people to quote."""
    return {
        "errorCode": error.code,
        "errorSummary": str(error),
        "errorLink": error.code,
        "errorId": "oae" + secrets.token_urlsafe(16),
        "errorCauses": [{"errorSummary": cause} for cause in error.causes],
    }


def _read_limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise Invalid({"limit": f"The limit must be a whole number from 1 to {MAX_LIMIT}"})
    return int(text)


def _read_cursor(text: str | None) -> str | None:
    if text is None:
        return None
    after = text[8:]
    if not re.fullmatch("[0-9A-Za-z]{20}", after) or text != _cursor(after):
        raise Invalid({"after": "The cursor is not valid; follow the links that the answers give"})
    return after


def _cursor(after: str) -> str:
    # The checksum finds what was cut or made up. It needs no key: who may read the list may start anywhere.
    return hashlib.sha256(after.encode()).hexdigest()[:8] + after


def _link(url: str, paging: Paging, rel: str) -> str:
    cursor = {} if paging.after is None else {"after": _cursor(paging.after)}
    return f'<{url}?{urlencode({**cursor, "limit": paging.limit})}>; rel="{rel}"'


def _date(millis: int | None) -> str | None:
    if millis is None:
        return None
    moment = _EPOCH + timedelta(milliseconds=millis)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
