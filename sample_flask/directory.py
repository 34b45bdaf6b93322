"""The directory's people and groups, kept through SQLAlchemy Core. Nothing here knows of HTTP."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokenguard.okta import NotFound

from . import database
from .errors import LoginTaken
from .lifecycle import Change
from .people import Group, Item, Page, User, is_login, login_key

_users, _groups = database.users, database.groups
_SELECT_USER = sa.select(*(column for column in _users.c if column is not _users.c.login_key))
_LISTED_USERS = _SELECT_USER.where(_users.c.status != "DEPROVISIONED")
_SELECT_GROUP = sa.select(_groups)


class Directory:
    """The directory in the SQLite database at ``url``, which is created and filled if it is new."""

    def __init__(self, url: str) -> None:
        self._reader = database.open_database(url)
        self._writer = database.writing(self._reader)

    def close(self) -> None:
        """Close the pooled connections; the next call opens new ones."""
        self._reader.dispose()

    def users(self, limit: int, after: str | None = None) -> Page[User]:
        """Users with ids above ``after``. As at Okta, DEPROVISIONED users are not listed, only found one by one."""
        return self._page(User, _LISTED_USERS, limit, after)

    def user(self, key: str) -> User:
        """The user whose id or login is ``key``; raises NotFound."""
        with self._reader.connect() as connection:
            return _find_user(connection, key)

    def add_user(self, user: User) -> User:
        """Store a new user; raises LoginTaken."""
        with self._writer.begin() as connection:
            _write(connection, sa.insert(_users), user)
        return user

    def change_user(self, key: str, change: Change) -> User:
        """Store what ``change`` makes of a user, and return it, or delete the user if that is None.

        Raises NotFound, LoginTaken, and whatever ``change`` raises.
        """
        with self._writer.begin() as connection:
            user = _find_user(connection, key)
            same = _users.c.id == user.id
            changed = change(user)
            if changed is None:
                connection.execute(sa.delete(_users).where(same))
                return user
            _write(connection, sa.update(_users).where(same), changed)
            return changed

    def groups(self, limit: int, after: str | None = None) -> Page[Group]:
        """Groups with ids above ``after``."""
        return self._page(Group, _SELECT_GROUP, limit, after)

    def group(self, group_id: str) -> Group:
        """The group with this id; raises NotFound."""
        with self._reader.connect() as connection:
            row = connection.execute(_SELECT_GROUP.where(_groups.c.id == group_id)).one_or_none()
        if row is None:
            raise NotFound(group_id, "UserGroup")
        return Group(**row._mapping)

    def _page(self, kind: type[Item], query: sa.Select[Any], limit: int, after: str | None) -> Page[Item]:
        # By the last id seen, not OFFSET: nothing is skipped or listed twice when items come and go meanwhile.
        item_id = query.selected_columns["id"]
        if after is not None:
            query = query.where(item_id > after)
        query = query.order_by(item_id).limit(limit + 1)
        with self._reader.connect() as connection:
            items = [kind(**row._mapping) for row in connection.execute(query)]
        return Page.cut(items, limit)


def _find_user(connection: sa.Connection, key: str) -> User:
    same = _users.c.login_key == login_key(key) if is_login(key) else _users.c.id == key
    row = connection.execute(_SELECT_USER.where(same)).one_or_none()
    if row is None:
        raise NotFound(key, "User")
    return User(**row._mapping)


def _write(connection: sa.Connection, statement: sa.Insert | sa.Update, user: User) -> None:
    row = asdict(user) | {"login_key": login_key(user.profile["login"])}
    try:
        connection.execute(statement.values(row))
    except IntegrityError:
        raise LoginTaken from None
