"""JSON objects that mean one thing to whoever reads them."""

from __future__ import annotations

import json
from typing import Any


def members(text: bytes) -> dict[str, Any]:
    """The members of a JSON object, each of which is named once; raises ValueError for anything else."""
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
