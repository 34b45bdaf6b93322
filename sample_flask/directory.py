"""The directory's people and groups, kept through SQLAlchemy Core. Nothing here knows of HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from . import database
from .errors import Invalid, NotFound, WrongStatus
from .ids import random_id
from .people import Group, Profile, User, is_login, login_key, merge

Item = TypeVar("Item", User, Group)


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of a list, in the order of ids; ``more`` tells whether anything comes after."""

    items: list[Item]
    more: bool


_users, _groups = database.users, database.groups
_SELECT_USER = sa.select(*(column for column in _users.c if column is not _users.c.login_key))
_LISTED_USERS = _SELECT_USER.where(_users.c.status != "DEPROVISIONED")
_SELECT_GROUP = sa.select(_groups)


class Directory:
    """The directory in the SQLite database at ``url``, which is made and filled if it is new."""

    def __init__(self, url: str) -> None:
        self._reader = database.open_database(url)
        self._writer = database.writing(self._reader)

    def close(self) -> None:
        """Close the connections that are kept open; the next call opens new ones."""
        self._reader.dispose()

    def users(self, limit: int, after: str | None = None) -> Page[User]:
        """Users with ids above ``after``. As at Okta, the DEPROVISIONED are only found one by one."""
        return self._page(User, _LISTED_USERS, limit, after)

    def user(self, key: str) -> User:
        """The user whose id or login is ``key``; raises NotFound."""
        with self._reader.connect() as connection:
            return _find_user(connection, key)

    def add_user(self, profile: Profile, *, active: bool) -> User:
        """A new user, ACTIVE or STAGED; raises Invalid if the login is taken."""
        now = _now()
        user = User(random_id("00u"), "STAGED", profile, now, None, None, now)
        if active:
            user = replace(user, status="ACTIVE", activated=now, status_changed=now)
        with self._writer.begin() as connection:
            _write(connection, sa.insert(_users), user)
        return user

    def update_user(self, key: str, changes: Mapping[str, str | None]) -> User:
        """Change some fields, None clears one; raises NotFound, and Invalid if the login is taken."""
        with self._writer.begin() as connection:
            user = _find_user(connection, key)
            return _save(connection, user, profile=merge(user.profile, changes))

    def replace_user(self, key: str, profile: Profile) -> User:
        """Give a user another profile; raises NotFound, and Invalid if the login is taken."""
        with self._writer.begin() as connection:
            return _save(connection, _find_user(connection, key), profile=profile)

    def activate_user(self, key: str) -> User:
        """From STAGED or DEPROVISIONED to ACTIVE; raises NotFound and WrongStatus."""
        with self._writer.begin() as connection:
            user = _find_user(connection, key)
            if user.status == "ACTIVE":
                raise WrongStatus
            now = _now()
            return _save(connection, user, status="ACTIVE", activated=now, status_changed=now)

    def deactivate_user(self, key: str) -> User:
        """From any other status to DEPROVISIONED; raises NotFound and WrongStatus."""
        with self._writer.begin() as connection:
            user = _find_user(connection, key)
            if user.status == "DEPROVISIONED":
                raise WrongStatus
            return _save(connection, user, status="DEPROVISIONED", status_changed=_now())

    def delete_user(self, key: str) -> User:
        """Delete a DEPROVISIONED user; only deactivate any other, as Okta does. Raises NotFound."""
        with self._writer.begin() as connection:
            user = _find_user(connection, key)
            if user.status != "DEPROVISIONED":
                return _save(connection, user, status="DEPROVISIONED", status_changed=_now())
            connection.execute(sa.delete(_users).where(_users.c.id == user.id))
            return user

    def groups(self, limit: int, after: str | None = None) -> Page[Group]:
        """Groups with ids above ``after``."""
        return self._page(Group, _SELECT_GROUP, limit, after)

    def group(self, group_id: str) -> Group:
        """The group with this id; raises NotFound."""
        with self._reader.connect() as connection:
            row = connection.execute(_SELECT_GROUP.where(_groups.c.id == group_id)).one_or_none()
        if row is None:
            raise _unknown(group_id, "UserGroup")
        return Group(**row._mapping)

    def _page(self, kind: type[Item], query: sa.Select[Any], limit: int, after: str | None) -> Page[Item]:
        # By the last id seen, not OFFSET: nobody is skipped or met twice when others come and go meanwhile.
        item_id = query.selected_columns["id"]
        if after is not None:
            query = query.where(item_id > after)
        # One more than asked for tells whether there is a next page.
        query = query.order_by(item_id).limit(limit + 1)
        with self._reader.connect() as connection:
            items = [kind(**row._mapping) for row in connection.execute(query)]
        return Page(items[:limit], more=len(items) > limit)


def _find_user(connection: sa.Connection, key: str) -> User:
    same = _users.c.login_key == login_key(key) if is_login(key) else _users.c.id == key
    row = connection.execute(_SELECT_USER.where(same)).one_or_none()
    if row is None:
        raise _unknown(key, "User")
    return User(**row._mapping)


def _save(connection: sa.Connection, user: User, **changes: Any) -> User:
    changed = replace(user, last_updated=_now(), **changes)
    _write(connection, sa.update(_users).where(_users.c.id == user.id), changed)
    return changed


def _write(connection: sa.Connection, statement: sa.Insert | sa.Update, user: User) -> None:
    row = asdict(user) | {"login_key": login_key(user.profile["login"])}
    try:
        connection.execute(statement.values(row))
    except IntegrityError:
        taken = "An object with this field already exists in the current organization"
        raise Invalid({"login": taken}) from None


def _unknown(key: str, kind: str) -> NotFound:
    return NotFound(f"Resource not found: {key[:100]} ({kind})")


def _now() -> int:
    return time.time_ns() // 1_000_000
