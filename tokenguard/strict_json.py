"""JSON that means the same to every reader: each name is there once, and no number is one that only some know."""

from __future__ import annotations

import json
from typing import Any, NoReturn

#: How deeply objects and lists may be nested.
MAX_DEPTH = 32
#: The white space that may surround an object (RFC 8259 section 2).
_BLANKS = " \t\n\r"


def read_members(text: bytes) -> dict[str, Any]:
    """Return the members of a JSON object, each of which is named once; raises ValueError for anything else."""
    written = text.decode("utf-8").strip(_BLANKS)
    try:
        found, end = _DECODER.raw_decode(written)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict) or end < len(written):
        raise ValueError("not an object")
    # Every level needs an opening bracket, so hardly any text has enough of them to need a closer look.
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and not _is_shallow(found):
        raise ValueError("nested too deeply")
    # Half of a surrogate pair can only be written as an escape, which hardly any text has.
    if b"\\u" in text and not _is_unicode(found):
        raise ValueError("half of a character")
    return found


def _is_unicode(found: dict[str, Any]) -> bool:
    """Whether no text in it has half of a surrogate pair (RFC 8259 section 8.2), which no store or page accepts."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_shallow(found: dict[str, Any]) -> bool:
    # Layer by layer, not by recursion: neither this nor later code that recurses must run out of stack.
    layer: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        within = (value for each in layer for value in (each.values() if isinstance(each, dict) else each))
        layer = [value for value in within if isinstance(value, dict | list)]
        if not layer:
            return True
    return False


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two, only one would be used; and something in front of the service may have checked the other one.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate member")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


#: The arguments by which json.loads refuses everything else.
STRICT: dict[str, Any] = {"object_pairs_hook": _each_once, "parse_constant": _no_number}
# Shared: json.loads would make a new decoder each time.
_DECODER = json.JSONDecoder(**STRICT)
