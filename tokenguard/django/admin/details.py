"""What the pages of clients and tokens show, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.admin.utils import display_for_value
from django.utils import timezone
from django.utils.formats import date_format

from ...clock import to_datetime
from ...conditions import Conditions
from ...details import ONLY_IF_SET, client_details, conditions_text, event_fields, token_details
from ...events import Event, EventFilter
from ...records import Record
from ...rows import load_scopes
from ...tokens import Client
from ..conf import service
from ..models import Token
from .chart import Chart, chart
from .writes import database

#: At most this many events are shown, the newest first.
MAX_EVENTS = 50
NOTHING = "-"
_DAMAGED = "damaged"
# Those shown as a link or a chart instead, and one that is nobody's business.
_LEFT_OUT = {"client_id", "requests_by_day"}
_NOT_SHOWN = {"key_fingerprint"}
_ONLY_IF_SET = {*ONLY_IF_SET, "revoked_at"}
_CLIENT_EDITED = {"scopes", "enabled", "conditions"}


class Fact(NamedTuple):
    """One line of a page. ``kind`` is what the value is a link to, if anything: "client" or "token"."""

    label: str
    value: str
    kind: str = ""
    id: str = ""


class Happening(NamedTuple):
    """An event as it is shown."""

    number: int
    at: datetime | None
    kind: str
    actor: str
    token_id: str
    #: Whether the token still exists.
    known: bool
    changes: list[str]


def moment(micros: int | None) -> datetime | None:
    """Return epoch microseconds as the admin shows times: in the time zone of the project or the request."""
    return None if micros is None else _local(to_datetime(micros))


def moment_text(micros: int | None) -> str | None:
    """Return the same as a short text, which may wrap where a list is narrow."""
    time = moment(micros)
    return None if time is None else date_format(time, "SHORT_DATETIME_FORMAT")


def scopes_text(stored: str) -> str:
    """Return a column of scopes as one text."""
    try:
        return str(load_scopes(stored)) or NOTHING
    except ValueError:
        return _DAMAGED


def token_facts(record: Record, now: int) -> tuple[list[Fact], Chart]:
    """Return all that ``tokenguard show`` shows of a token, and the chart of its requests by day."""
    found = service()
    fields = token_details(found.store, found.options, record, now)
    links = {
        "client": ("client", record.client.id),
        "successor_id": ("token", fields["successor_id"]),
        "replaces": ("token", fields["replaces"]),
    }
    facts = [
        Fact(_label(key), _shown(key, value), *links.get(key, ()))
        for key, value in fields.items()
        if key not in _LEFT_OUT and not (value is None and key in _ONLY_IF_SET)
    ]
    requests = {date.fromisoformat(day): count for day, count in fields["requests_by_day"].items()}
    return facts, chart(requests, to_datetime(now).date())


def client_facts(client: Client, now: int, *, editable: bool) -> list[Fact]:
    """Return all that ``tokenguard client show`` shows of a client, without what the form beside it shows anyway."""
    # The address is that of a token's use, and not everybody who may see clients may see tokens.
    left_out = _LEFT_OUT | {"last_address"} | (_CLIENT_EDITED if editable else set())
    fields = client_details(service().store, client, now)
    return [Fact(_label(key), _shown(key, value)) for key, value in fields.items() if key not in left_out]


def happenings(which: EventFilter, *, of_tokens: bool = True) -> list[Happening]:
    """Return the newest of the events asked for, newest first; without ``of_tokens`` only those about clients."""
    events = [event for event in service().store.events(MAX_EVENTS, which) if of_tokens or event.token_id is None]
    ids = {event.token_id for event in events if event.token_id}
    known = set(Token.objects.using(database()).filter(pk__in=ids).values_list("pk", flat=True))
    return [_happening(event, known) for event in reversed(events)]


def _happening(event: Event, known: set[str]) -> Happening:
    data: Mapping[str, Sequence[Any]] = event_fields(event)["data"]
    changes = [_change(key, *values) for key, values in data.items() if key not in _NOT_SHOWN]
    token_id = event.token_id or ""
    return Happening(event.number, moment(event.at), event.kind, event.actor, token_id, token_id in known, changes)


def _change(key: str, old: Any, new: Any) -> str:
    after = _shown(key, new)
    return f"{_label(key)}: {after}" if old is None else f"{_label(key)}: {_shown(key, old)} → {after}"


def _label(key: str) -> str:
    return "ID" if key == "id" else key.replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if key == "conditions":
        return conditions_text(Conditions.load(value or {}))
    if value is None or value in ("", []):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_at"):
        return str(display_for_value(_local(datetime.fromisoformat(value)), NOTHING))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _local(time: datetime) -> datetime:
    # Without USE_TZ, Django takes naive times to be local, and shows aware ones unconverted.
    return timezone.localtime(time) if settings.USE_TZ else timezone.make_naive(time, timezone.get_default_timezone())
