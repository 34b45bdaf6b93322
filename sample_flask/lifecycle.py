"""The changes that can be made to a user, wherever users are kept.

A change that the user's status does not allow raises WrongStatus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from .errors import WrongStatus
from .ids import random_id
from .people import Profile, User, merge

#: Returns the changed user, or None to delete the user.
Change = Callable[[User], User | None]


def new_user(profile: Profile, *, active: bool) -> User:
    """Return a new user, ACTIVE or STAGED."""
    now = _now()
    user = User(random_id("00u"), "STAGED", profile, now, None, None, now)
    return replace(user, status="ACTIVE", activated=now, status_changed=now) if active else user


def updated(changes: Mapping[str, str | None]) -> Change:
    """Change some fields of the profile; None clears one."""
    return lambda user: replace(user, profile=merge(user.profile, changes), last_updated=_now())


def replaced(profile: Profile) -> Change:
    """Replace the whole profile."""
    return lambda user: replace(user, profile=profile, last_updated=_now())


def activated(user: User) -> User:
    """Change the status from STAGED or DEPROVISIONED to ACTIVE."""
    if user.status == "ACTIVE":
        raise WrongStatus
    now = _now()
    return replace(user, status="ACTIVE", activated=now, status_changed=now, last_updated=now)


def deactivated(user: User) -> User:
    """Change the status from any other to DEPROVISIONED."""
    if user.status == "DEPROVISIONED":
        raise WrongStatus
    now = _now()
    return replace(user, status="DEPROVISIONED", status_changed=now, last_updated=now)


def deleted(user: User) -> User | None:
    """As at Okta, the first deletion deactivates the user, and the second, of a DEPROVISIONED one, deletes it."""
    return None if user.status == "DEPROVISIONED" else deactivated(user)


def _now() -> int:
    return time.time_ns() // 1_000_000
