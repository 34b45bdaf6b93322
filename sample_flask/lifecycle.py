"""What may be done to a user, and what becomes of it: the same wherever users are kept.

What the user's status does not allow raises WrongStatus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from .errors import WrongStatus
from .ids import random_id
from .people import Profile, User, merge

#: What is to become of a user; None if it is to be deleted.
Change = Callable[[User], User | None]


def new_user(profile: Profile, *, active: bool) -> User:
    """A new user, ACTIVE or STAGED."""
    now = _now()
    user = User(random_id("00u"), "STAGED", profile, now, None, None, now)
    return replace(user, status="ACTIVE", activated=now, status_changed=now) if active else user


def updated(changes: Mapping[str, str | None]) -> Change:
    """Some fields of the profile changed; None clears one."""
    return lambda user: replace(user, profile=merge(user.profile, changes), last_updated=_now())


def replaced(profile: Profile) -> Change:
    """Given another profile."""
    return lambda user: replace(user, profile=profile, last_updated=_now())


def activated(user: User) -> User:
    """From STAGED or DEPROVISIONED to ACTIVE."""
    if user.status == "ACTIVE":
        raise WrongStatus
    now = _now()
    return replace(user, status="ACTIVE", activated=now, status_changed=now, last_updated=now)


def deactivated(user: User) -> User:
    """From any other status to DEPROVISIONED."""
    if user.status == "DEPROVISIONED":
        raise WrongStatus
    now = _now()
    return replace(user, status="DEPROVISIONED", status_changed=now, last_updated=now)


def deleted(user: User) -> User | None:
    """As at Okta it takes two: the first deactivates the user, the second, of one DEPROVISIONED, deletes."""
    return None if user.status == "DEPROVISIONED" else deactivated(user)


def _now() -> int:
    return time.time_ns() // 1_000_000
