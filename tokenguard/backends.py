"""From a database URL to its store: the one place that knows which there are."""

from __future__ import annotations

from .config import named
from .errors import ConfigurationError
from .store import MemoryStore, Store


def open_store(url: str) -> Store:
    """The store that ``url`` names: an SQLAlchemy URL, or ``memory://`` for one that dies with the process.

    Connects to nothing yet. Raises ConfigurationError for a URL that cannot be used, or a missing package.
    """
    if url == "memory://":
        return MemoryStore()
    try:
        from .sqlalchemy import SQLAlchemyStore
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'keeping tokens in a database needs {error.name}: pip install "wsgi-tokenguard[sqlalchemy]"'
        ) from None
    return named("DATABASE_URL", SQLAlchemyStore, url)
