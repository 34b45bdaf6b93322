"""What is to be installed for a part of the package whose libraries are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def from_extra(name: str, *packages: str) -> Iterator[None]:
    """For imports of these packages: where one is missing, the ModuleNotFoundError says which extra brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        # Any other has its own cause, such as a misspelled module of the project's.
        if error.name not in packages:
            raise
        message = f'this needs {error.name}: pip install "wsgi-tokenguard[{name}]"'
        raise ModuleNotFoundError(message, name=error.name) from None
