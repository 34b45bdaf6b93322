"""Says what to install for a part of the package whose libraries are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def from_extra(name: str, *packages: str) -> Iterator[None]:
    """Wrap imports of these packages: if one is missing, the ModuleNotFoundError says which extra installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        # Any other missing module has another cause, such as a misspelled import in the project.
        if error.name not in packages:
            raise
        message = f'this requires {error.name}: pip install "wsgi-tokenguard[{name}]"'
        raise ModuleNotFoundError(message, name=error.name) from None
