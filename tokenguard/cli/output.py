"""How things are shown: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..clock import isoformat
from ..scopes import Scopes
from ..store import Event
from ..tokens import Client, Token


def say(message: str) -> None:
    """To the person, on standard error: standard output belongs to what programs read."""
    click.echo(message, err=True)


def client_fields(client: Client) -> dict[str, Any]:
    """A client as JSON members."""
    return {
        "id": client.id,
        "name": client.name,
        "scopes": list(client.scopes),
        "enabled": client.enabled,
        "created_at": isoformat(client.created_at),
    }


def token_fields(token: Token, client: Client, now: int) -> dict[str, Any]:
    """A token as JSON members: never its digest."""
    state = token.state(now)
    return {
        "id": token.id,
        "client_id": client.id,
        "client": client.name,
        "name": token.name,
        "scopes": list(token.scopes),
        "state": "client disabled" if state == "active" and not client.enabled else state,
        "created_at": isoformat(token.created_at),
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
    }


def event_fields(event: Event) -> dict[str, Any]:
    """An event as JSON members."""
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


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """As JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=indent))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """As a table; ``columns`` maps members to headings."""
    table = _table(*columns.values(), headed=True)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in columns))
    _print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its members."""
    table = _table("", "", headed=False)
    for key, value in fields.items():
        table.add_row(_cell(key.replace("_", " ")), _cell(value))
    _print(table)


def _change(key: str, value: Any) -> Any:
    return isoformat(value) if key.endswith("_at") and value is not None else value


def _time(micros: int | None) -> str | None:
    return None if micros is None else isoformat(micros)


def _table(*headings: str, headed: bool) -> Any:
    try:
        from rich import box
        from rich.table import Table
    except ModuleNotFoundError:
        raise click.ClickException('tables need rich: pip install "wsgi-tokenguard[cli]", or use --json') from None
    table = Table(box=box.SIMPLE_HEAD, show_header=headed, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")  # an id that is cut short is of no use
    return table


def _cell(value: Any) -> Any:
    from rich.text import Text  # not markup: a name may contain brackets

    if value is None or value == "":
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, (list, Scopes)):
        return Text(" ".join(value) or "none")
    if isinstance(value, Mapping):
        return Text("; ".join(_changed(key, *change) for key, change in value.items()))
    return Text(str(value))


def _changed(key: str, old: Any, new: Any) -> str:
    name, after = key.replace("_", " "), _cell(new).plain
    return f"{name} {after}" if old is None else f"{name} {_cell(old).plain} → {after}"


def _print(table: Any) -> None:
    from rich.console import Console

    # Where nobody looks there is no width to keep to: a pipe gets whole lines.
    Console(width=None if sys.stdout.isatty() else 250).print(table)
