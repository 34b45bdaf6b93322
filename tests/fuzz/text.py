"""A token has only one text: ``TokenFormat`` reads what was minted, and nothing similar.

Input: a text, in which ``$`` and a letter stand for one of ``PARTS`` | changes to it: a place and its new content.
"""

from __future__ import annotations

import hashlib
import re

from tokenguard import InvalidToken, Secret, SigningKeys, TokenFormat
from tokenguard.base62 import BASE62
from tokenguard.tokens import Read

from . import fields

KEY, OLD_KEY, DROPPED_KEY = (f"a signing key that only the tests know, {number}" for number in (1, 2, 3))
DICTIONARY = (
    "$t", "$o", "$d", "$p", "$i", "$s", "$g", "tg_", "_", "|", "||", "=", " ", "\n", "\x00", "é", "0" * 43,
)  # fmt: skip
FORMAT = TokenFormat(SigningKeys(KEY, old=[OLD_KEY]))
CURRENT, OLD = FORMAT.mint().text.reveal(), TokenFormat(SigningKeys(OLD_KEY)).mint().text.reveal()
LENGTH = len(CURRENT)
#: What the letters stand for: tokens of the current, the old and a dropped key; another service's; and parts.
PARTS = {
    "t": CURRENT,
    "o": OLD,
    "d": TokenFormat(SigningKeys(DROPPED_KEY)).mint().text.reveal(),
    "p": TokenFormat(SigningKeys(KEY), "live").mint().text.reveal(),
    "i": CURRENT[3:19],
    "s": CURRENT[20:52],
    "g": CURRENT[52:],
}


def test_one_input(data: bytes) -> None:
    """Read one text in every way there is."""
    text = _made(*fields(data, 2))
    examined = FORMAT.examine(text)
    _check_key(text)
    if text in {CURRENT, OLD}:
        expected = Read(text[3:19], hashlib.sha256(text.encode()).hexdigest())
        assert examined == FORMAT.read(Secret(text)) == expected
        return
    assert not isinstance(examined, Read)
    assert (examined is None) == (not _has_shape(text))
    assert examined is None or examined.token_id == text[3:19]
    try:
        FORMAT.read(Secret(text))
    except InvalidToken as error:
        shown = f"{error} {error.reason} {error.detail} {error!r}"
        assert not any(part in shown for part in re.findall("[0-9A-Za-z]{17,}", text))
    else:
        raise AssertionError("a text was read that was never minted")


def _made(template: str, changes: str) -> str:
    text = re.sub(r"\$([a-z])", lambda found: PARTS.get(found[1], found[0]), template)
    for change in changes.split("|"):
        if change and text:
            place = ord(change[0]) % len(text)
            text = text[:place] + change[1:] + text[place + max(1, len(change) - 1) :]
    return text


def _has_shape(text: str) -> bool:
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    digits = all(character in BASE62 for character in token_id + secret)
    return len(text) == LENGTH and (prefix, len(token_id), len(secret)) == ("tg", 16, 75) and digits


def _check_key(text: str) -> None:
    key = FORMAT.key(text)
    assert bool(key) == (len(text) == LENGTH and all(ord(character) < 128 for character in text))
    assert key == FORMAT.key(text)
    assert not key or (key == FORMAT.key(CURRENT)) == (text == CURRENT)
