"""Clients, tokens and events as the command line and Django's admin show them."""

from __future__ import annotations

from typing import Any

from .clock import DAY, SECOND, duration_text, isoformat, to_datetime
from .conditions import Conditions
from .config import Options
from .events import Event, EventFilter, EventKind
from .records import Record, State
from .store import Store, walk
from .tokens import Client, Token

#: How many days of requests are shown.
DAYS = 30
#: The members of a token that people are shown only if they are set, as they do not apply to most tokens.
ONLY_IF_SET = {
    *("replaces", "successor_id", "rotated_at", "overlap_ends_at", "used_since_rotation"),
    *("revoked_by", "revocation_reason"),
}


def client_fields(client: Client) -> dict[str, Any]:
    """Return a client as JSON members."""
    return {
        "id": client.id,
        "name": client.name,
        "scopes": list(client.scopes),
        "enabled": client.enabled,
        "created_at": isoformat(client.created_at),
        "conditions": client.conditions.dump(),
    }


def token_fields(record: Record, now: int) -> dict[str, Any]:
    """Return a token as JSON members, never its digest."""
    token, client = record.token, record.client
    return {
        "id": token.id,
        "client_id": client.id,
        "client": client.name,
        "name": token.name,
        "scopes": list(token.scopes),
        "state": record.state(now).value,
        "created_at": isoformat(token.created_at),
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
        "idle_timeout": _duration(token.idle_timeout),
        "idle_ends_at": _time(token.idle_ended_at or record.idle_end),
        "last_used_at": _time(record.last_used_at),
        "last_address": record.use.address if record.use else None,
        "conditions": token.conditions.dump(),
        "successor_id": token.successor_id,
        "overlap_ends_at": _time(token.overlap_ends_at),
    }


def event_fields(event: Event) -> dict[str, Any]:
    """Return an event as JSON members."""
    return {
        "number": event.number,
        "id": event.id,
        "at": isoformat(event.at),
        "kind": event.kind,
        "actor": event.actor,
        "client_id": event.client_id,
        "token_id": event.token_id,
        "data": {key: [_change(key, value) for value in values] for key, values in event.data.items()},
    }


def conditions_text(conditions: Conditions) -> str:
    """Say in words from where, and how often, something may be used."""
    parts = []
    if conditions.allow:
        parts.append("only from " + ", ".join(map(str, conditions.allow)))
    if conditions.deny:
        parts.append("not from " + ", ".join(map(str, conditions.deny)))
    if conditions.rate:
        parts.append(f"at most {conditions.rate}")
    return "; ".join(parts) or "none"


def token_details(store: Store, options: Options, record: Record, now: int) -> dict[str, Any]:
    """Return a token as JSON members: those that ``list`` shows, and more about its use, key, rotation and end."""
    token = record.token
    rotated_at = _rotated_at(store, token)
    revoked = None if token.revoked_at is None else _event(store, token, EventKind.TOKEN_REVOKED)
    return token_fields(record, now) | {
        "effective_scopes": list(options.catalog.effective(token.scopes, record.client.scopes)),
        "unused_scopes": record.unused_scopes(options.catalog),
        "key": _key(options, token),
        "requests_by_day": _requests_by_day(store, token.id, now),
        "replaces": store.predecessor(token),
        "rotated_at": _time(rotated_at),
        "used_since_rotation": None if rotated_at is None else (record.last_used_at or 0) > rotated_at,
        "revoked_by": revoked and revoked.actor,
        "revocation_reason": revoked and revoked.data.get("reason", [None, None])[1],
    }


def client_details(store: Store, client: Client, now: int) -> dict[str, Any]:
    """Return a client as JSON members: those that ``list`` shows, and more by what is known of its tokens.

    No tokens are kept of another issuer's client: the requests with all of them are counted together.
    """
    last = use = store.find_foreign("", client.id).use
    active = 0
    for record in walk(store, client.id):  # not all at once, as there may be very many
        active += record.state(now) is State.ACTIVE
        last = max(filter(None, (record.use, last)), key=lambda use: use.last_used_at, default=None)
    return client_fields(client) | {
        "active_tokens": active,
        "last_used_at": None if last is None else isoformat(last.last_used_at),
        "last_address": None if last is None else last.address,
        **({} if use is None else {"requests_by_day": _requests_by_day(store, client.id, now)}),
    }


def _requests_by_day(store: Store, counted_as: str, now: int) -> dict[str, int]:
    days = {day: count for day, count in store.use_by_day(counted_as).items() if day > now // DAY - DAYS}
    return {f"{to_datetime(day * DAY):%Y-%m-%d}": count for day, count in days.items()}


def _key(options: Options, token: Token) -> str:
    if options.signing_keys is None:
        return "unknown"
    tokens = options.token_format()
    if token.key_fingerprint == tokens.key_fingerprint:
        return "current"
    return "old" if token.key_fingerprint in tokens.key_fingerprints else "dropped"


def _event(store: Store, token: Token, kind: EventKind) -> Event | None:
    return next(iter(store.events(1, EventFilter(token_id=token.id, kind=kind))), None)  # it may have been pruned


def _rotated_at(store: Store, token: Token) -> int | None:
    if token.successor_id is None:
        return None
    if (event := _event(store, token, EventKind.TOKEN_ROTATED)) is not None:
        return event.at
    # The event may have been pruned; the successor was made at the same time.
    successor = store.find(token.successor_id)
    return successor.token.created_at if successor else None


def _change(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key.endswith("_at"):
        return isoformat(value)
    return _duration(value) if key == "idle_timeout" else value


def _duration(micros: int | None) -> str | None:
    return None if micros is None else duration_text(micros // SECOND)


def _time(micros: int | None) -> str | None:
    return None if micros is None else isoformat(micros)
