"""The store on SQLAlchemy Core: SQLite by default, PostgreSQL by changing the URL."""

from __future__ import annotations

from ..extras import from_extra

with from_extra("sqlalchemy", "sqlalchemy"):
    from .store import SQLAlchemyStore
    from .tables import include_name, metadata

__all__ = ["SQLAlchemyStore", "include_name", "metadata"]
