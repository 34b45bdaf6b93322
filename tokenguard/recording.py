"""Changes as events have them: what was before, and what is now."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .conditions import Conditions
from .scopes import Scopes
from .store import Change, EventKind
from .tokens import Client, Token

# Of whom an event speaks stands in its own columns; a digest is nobody's business.
_NOT_RECORDED = {"id", "client_id", "digest", "created_at"}


def recorded(
    kind: EventKind, at: int, actor: str, old: Client | Token | None, new: Client | Token, *, reason: str = ""
) -> Change:
    """The event of a change from ``old`` to ``new``."""
    before, after = _recorded(old), _recorded(new)
    data = {key: [before.get(key), value] for key, value in after.items() if before.get(key) != value}
    return Change(kind, at, actor, data | ({"reason": [None, reason]} if reason else {}))


def _recorded(item: Client | Token | None) -> dict[str, Any]:
    if item is None:
        return {}
    values = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in _NOT_RECORDED}
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Scopes):
        return list(value)
    return value.dump() if isinstance(value, Conditions) else value
