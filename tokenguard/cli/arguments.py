"""Options that several commands have, and how times are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from ..clock import SECOND, from_datetime, now, parse_duration
from ..conditions import Conditions
from ..errors import InvalidValue
from ..scopes import Scopes
from .output import say

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def given(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the option's value; raises BadParameter if it is empty, as an unset variable is: it limits nothing."""
    if value is not None and not value.strip():
        raise click.BadParameter("must not be empty; leave the option out instead")
    return value


def with_conditions(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--network``, ``--deny-network`` and ``--rate``, which the command gets as one ``conditions``."""

    @click.option(
        "--network", "allow", multiple=True, metavar="CIDR", help="Accept requests only from this network; repeatable."
    )
    @click.option(
        "--deny-network", "deny", multiple=True, metavar="CIDR", help="Refuse requests from this network; repeatable."
    )
    @click.option("--rate", metavar="N/PERIOD", help="Limit the rate of requests: 100/minute (second, hour, day).")
    @wraps(command)
    def with_options(*args: Any, allow: tuple[str, ...], deny: tuple[str, ...], rate: str | None, **rest: Any) -> Any:
        return command(*args, conditions=Conditions.parse(allow, deny, rate), **rest)

    return with_options


def with_foreign_client(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--issuer`` and ``--client-id``, which the command gets as ``issuer`` and ``client_id``: both or neither."""

    @click.option("--issuer", callback=given, metavar="URL", help="The identifier of another issuer.")
    @click.option("--client-id", callback=given, metavar="ID", help="The id of the client at that issuer.")
    @wraps(command)
    def with_options(*args: Any, issuer: str | None, client_id: str | None, **rest: Any) -> Any:
        if (issuer is None) != (client_id is None):
            raise click.UsageError("--issuer and --client-id go together: give both, or neither")
        return command(*args, issuer=issuer, client_id=client_id, **rest)

    return with_options


def read_scopes(text: str) -> Scopes:
    """The scopes; raises InvalidValue."""
    scopes = Scopes.parse(text)
    if joined := [scope for scope in scopes if "," in scope]:
        say(f"Note: {joined[0]!r} is a single scope; separate several with spaces.")
    return scopes


def duration(text: str | None) -> int | None:
    """Return the seconds of a duration, None for an option that is missing; raises InvalidValue."""
    return None if text is None else parse_duration(text)


def moment(text: str | None) -> int | None:
    """Return the epoch microseconds of a date, of a time (by default in UTC), or of a duration ago.

    Raises InvalidValue.
    """
    if text is None:
        return None
    if re.fullmatch("[0-9]+[smhdw]", text):
        return now() - parse_duration(text) * SECOND
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(
            f"{text!r} is not a time: write 2026-01-31, 2026-01-31T12:00:00Z, or 24h for 24 hours ago"
        ) from None
    return from_datetime(read if read.tzinfo else read.replace(tzinfo=UTC))
