"""The table that Authlib's validator queries, as in Authlib's own documentation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe

from authlib.integrations.sqla_oauth2 import OAuth2TokenMixin
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    """Of this one table."""


class Token(Base, OAuth2TokenMixin):
    """A token, its scopes and its expiry."""

    __tablename__ = "oauth2_token"
    id: Mapped[int] = mapped_column(primary_key=True)


def open_sessions(path: Path) -> sessionmaker[Session]:
    """Return sessions on a new database."""
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    return sessionmaker(engine)


def issue_token(sessions: sessionmaker[Session], scope: str, hours: int) -> tuple[Callable[[str], Token | None], str]:
    """Return a function that finds a token by its text, and the text of a new token."""
    text = token_urlsafe(32)
    with sessions.begin() as session:
        token = Token(access_token=text, token_type="Bearer", scope=scope, expires_in=hours * 3600)
        token.issued_at = int(time.time())
        session.add(token)

    def find(token_string: str) -> Token | None:
        with sessions() as session:
            return session.scalars(select(Token).where(Token.access_token == token_string)).first()

    return find, text
