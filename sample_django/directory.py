"""The directory's people and groups, kept through Django's ORM. Nothing here knows of HTTP."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from sample_flask.errors import LoginTaken
from sample_flask.lifecycle import Change
from sample_flask.people import Group, Page, User, is_login, login_key
from tokenguard.okta import NotFound

from . import models

Rows = QuerySet[Any, dict[str, Any]]


def users(limit: int, after: str | None = None) -> Page[User]:
    """Return users with ids above ``after``. As at Okta, DEPROVISIONED users are only found one by one."""
    rows = _page(_users().exclude(status="DEPROVISIONED"), limit, after)
    return Page.cut([User(**row) for row in rows], limit)


def user(key: str) -> User:
    """Return the user whose id or login is ``key``; raises NotFound."""
    return _find_user(_users(), key)


def add_user(user: User) -> User:
    """Store a new user; raises LoginTaken."""
    try:
        models.User.objects.create(**_row(user))
    except IntegrityError:
        raise LoginTaken from None
    return user


@transaction.atomic
def change_user(key: str, change: Change) -> User:
    """Store what ``change`` makes of a user, and return it; if that is None, delete the user.

    Raises NotFound, LoginTaken, and whatever ``change`` raises.
    """
    user = _find_user(_users().select_for_update(), key)
    same = models.User.objects.filter(id=user.id)
    changed = change(user)
    if changed is None:
        same.delete()
        return user
    try:
        same.update(**_row(changed))
    except IntegrityError:
        raise LoginTaken from None
    return changed


async def groups(limit: int, after: str | None = None) -> Page[Group]:
    """Return groups with ids above ``after``."""
    rows = _page(_groups(), limit, after)
    return Page.cut([Group(**row) async for row in rows], limit)


async def group(group_id: str) -> Group:
    """Return the group with this id; raises NotFound."""
    row = await _groups().filter(id=group_id).afirst()
    if row is None:
        raise NotFound(group_id, "UserGroup")
    return Group(**row)


def _users() -> Rows:
    return models.User.objects.values(*(field.name for field in fields(User)))


def _groups() -> Rows:
    return models.Group.objects.values(*(field.name for field in fields(Group)))


def _page(rows: Rows, limit: int, after: str | None) -> Rows:
    # By the last id seen, not OFFSET: no row is skipped or repeated when others come and go meanwhile.
    if after is not None:
        rows = rows.filter(id__gt=after)
    return rows.order_by("id")[: limit + 1]


def _find_user(rows: Rows, key: str) -> User:
    row = rows.filter(login_key=login_key(key)).first() if is_login(key) else rows.filter(id=key).first()
    if row is None:
        raise NotFound(key, "User")
    return User(**row)


def _row(user: User) -> dict[str, Any]:
    return asdict(user) | {"login_key": login_key(user.profile["login"])}
