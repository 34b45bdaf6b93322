"""What a person, a group and a valid profile are. Nothing here knows of HTTP or of the database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from tokenguard.okta import Invalid

#: A user's fields by name. An optional field that is not set is absent.
Profile = dict[str, str]


@dataclass(frozen=True, slots=True)
class User:
    """One person; ``status`` is STAGED, ACTIVE or DEPROVISIONED. Times are epoch milliseconds."""

    id: str
    status: str
    profile: Profile
    created: int
    activated: int | None
    status_changed: int | None
    last_updated: int


@dataclass(frozen=True, slots=True)
class Group:
    """One group of people. Times are epoch milliseconds."""

    id: str
    name: str
    description: str
    created: int
    last_updated: int
    last_membership_updated: int


Item = TypeVar("Item", User, Group)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a list, in the order of ids; ``more`` is true if there are further items."""

    items: list[Item]
    more: bool

    @classmethod
    def cut(cls, items: list[Item], limit: int) -> Page[Item]:
        """Return the first ``limit`` of ``items``, which has one more if there is a next page."""
        return cls(items[:limit], more=len(items) > limit)


# Narrower than RFC 5322 on purpose: a login is a segment of a path, so it has no "/" and no white space,
# and ASCII alone leaves no two logins that look the same.
_ADDRESS = re.compile(r"[A-Za-z0-9._%+'-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,63}")
# Control characters and lone surrogates; the latter arrive as "\ud800" in JSON, and cannot be encoded again.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BLANK = "The field cannot be left blank"


@dataclass(frozen=True, slots=True)
class Field:
    """The rule for one field of a profile."""

    shortest: int = 1
    longest: int = 100
    required: bool = False
    is_address: bool = False

    def fault(self, value: object) -> str | None:
        """What is wrong with ``value``, or None."""
        if value is None:
            return _BLANK if self.required else None
        if not isinstance(value, str):
            return "The field must be a string"
        if not value.strip():
            return _BLANK
        if not self.shortest <= len(value) <= self.longest:
            return f"The field must have {self.shortest} to {self.longest} characters"
        return self._fault_in_characters(value)

    def _fault_in_characters(self, text: str) -> str | None:
        if _UNPRINTABLE.search(text):
            return "The field contains characters that are not allowed"
        if self.is_address and not _ADDRESS.fullmatch(text):
            return "The field must have the form of an email address"
        return None


FIELDS = {
    "firstName": Field(longest=50, required=True),
    "lastName": Field(longest=50, required=True),
    "email": Field(shortest=5, required=True, is_address=True),
    "login": Field(shortest=5, required=True, is_address=True),
    "mobilePhone": Field(),
    "department": Field(),
    "title": Field(),
}


def is_login(text: str) -> bool:
    """Whether ``text`` can be a login; an id never can."""
    return FIELDS["login"].fault(text) is None


def login_key(login: str) -> str:
    """What must be unique: logins that differ only in case are the same, as at Okta."""
    return login.lower()


def whole_profile(given: object) -> Profile:
    """Return ``given`` as the profile of a user that is new or replaced; raises Invalid."""
    fields = _fields(given)
    return merge({}, _checked({name: fields.get(name) for name in FIELDS}))


def profile_changes(given: object) -> dict[str, str | None]:
    """Return ``given`` as a part of a profile, with None for an optional field to clear; raises Invalid."""
    return _checked(_fields(given))


def merge(profile: Profile, changes: Mapping[str, str | None]) -> Profile:
    """Return ``profile`` with ``changes`` applied."""
    return {name: value for name, value in {**profile, **changes}.items() if value is not None}


def _fields(given: object) -> dict[str, object]:
    if not isinstance(given, dict):
        raise Invalid({"profile": "The profile must be an object"})
    if unknown := sorted(given.keys() - FIELDS.keys()):
        # Only one of them, and cut: an answer should not be many times as long as the request.
        raise Invalid({unknown[0][:50]: "The field is not part of a user's profile"})
    return given


def _checked(fields: Mapping[str, object]) -> dict[str, str | None]:
    faults = {name: fault for name, value in fields.items() if (fault := FIELDS[name].fault(value))}
    if faults:
        raise Invalid(faults)
    return {name: value for name, value in fields.items() if value is None or isinstance(value, str)}
