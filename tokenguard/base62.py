"""Random text in base 62."""

from __future__ import annotations

import secrets

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int) -> str:
    """Return ``length`` random characters."""
    return "".join(secrets.choice(BASE62) for _ in range(length))
