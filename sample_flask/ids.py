"""Ids like Okta's: 20 letters and digits. The first three show the kind: ``00u`` a user, ``00g`` a group."""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 20


def random_id(prefix: str) -> str:
    """Return a new id that nobody can guess."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH - len(prefix)))


def stable_id(prefix: str, number: int) -> str:
    """Return an id that depends only on the arguments."""
    rest = int.from_bytes(hashlib.sha256(f"{prefix}{number}".encode()).digest(), "big")
    return prefix + "".join(_ALPHABET[rest // 62**place % 62] for place in range(LENGTH - len(prefix)))
