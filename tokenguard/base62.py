"""Numbers and random text in base 62."""

from __future__ import annotations

import secrets

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = bytes.maketrans(BASE62.encode(), bytes(range(len(BASE62))))
# How a text of up to 64 digits, one in each byte, becomes a number: every digit is joined with its neighbour, all at
# once, then every pair with its neighbour, and so on. For each step the bits from one to the next, those of the lower
# ones, and by how much less a higher one counts than it does where it stands.
_JOINTS = [
    (
        8 << step,
        sum(((1 << (8 << step)) - 1) << (place * (16 << step)) for place in range(32 >> step)),
        (1 << (8 << step)) - 62 ** (1 << step),
    )
    for step in range(6)
]


def random_text(length: int) -> str:
    """So many random characters."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def encode(number: int, length: int) -> str:
    """``number`` in so many characters, which must do."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(BASE62))
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def decode(text: str) -> int:
    """The number of a text of up to 64 characters, all of this base."""
    number = int.from_bytes(text.encode("ascii").translate(_DIGITS))
    for distance, lower, less in _JOINTS:
        number -= (number >> distance & lower) * less
    return number
