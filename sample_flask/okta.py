"""Users and groups in Okta's wire format, without any framework; ``tokenguard.okta`` has the general parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.okta import Invalid, Paging, read_argument, read_object, show_date

from .people import FIELDS, Group, User

#: Bytes of a body: many times a profile, and too few to keep the JSON parser busy.
MAX_BODY = 16 * 1024
#: The one page that needs no token.
INDEX = {
    "name": "tokenguard sample directory",
    "users": "/api/v1/users",
    "groups": "/api/v1/groups",
    "tokens": "/api/v1/api-tokens",
}
_USER_TYPE = "oty1defaultusertype0"


def read_paging(query: Mapping[str, str]) -> Paging:
    """Read the paging from the arguments of a list; raises Invalid."""
    return Paging.read(query, "[0-9A-Za-z]{20}")


def read_flag(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Read ``true`` or ``false`` from the arguments; raises Invalid for anything else."""
    text = read_argument(query, name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise Invalid({name: "The value must be true or false"})
    return text == "true"


def read_profile(body: bytes) -> object:
    """Read the profile from a user that was sent, None if there is none; raises NotWellFormed.

    Other members are ignored, as at Okta, so that a user can be sent back as it was received.
    """
    return read_object(body).get("profile")


def show_user(user: User, url: str) -> dict[str, Any]:
    """Return a user as Okta shows it; ``url`` is its URL."""
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
    """Return a group as Okta shows it; ``url`` is its URL."""
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


def _date(millis: int | None) -> str | None:
    return None if millis is None else show_date(millis * 1000)
