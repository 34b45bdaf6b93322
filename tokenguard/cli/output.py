"""How things are shown: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from ..conditions import Conditions
from ..details import ONLY_IF_SET, conditions_text, event_fields
from ..events import Event

EVENT_COLUMNS = {
    "number": "No.",
    "at": "At",
    "kind": "Event",
    "client_id": "Client",
    "token_id": "Token",
    "actor": "By",
    "data": "Changed",
}
# Values that could not be copied or read if they wrapped. Any other column is wide enough with _PART characters.
_WHOLE = {"id", "number", "at", "kind", "state", "enabled", "level"}
_PART = 12
#: How many rows a table of a long list has: its columns are as wide as the widest of them.
ROWS = 1000


def say(message: str) -> None:
    """To the person, on standard error: standard output belongs to what programs read."""
    click.echo(message, err=True)


def printable(text: str) -> str:
    """``text`` with escapes for what a terminal obeys, or cannot show."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if text.isascii():
        return text
    # One name that the locale has no characters for must not keep anybody from seeing, or revoking, everything else.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def event_line(event: Event) -> str:
    """An event on one line, for people who watch them come."""
    fields = event_fields(event)
    return "  ".join(_cell(fields[key]).plain for key in EVENT_COLUMNS)


def readable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON members of one client or token as a person reads them; what does not apply to it is left out."""
    shown = {key: value for key, value in fields.items() if value is not None or key not in ONLY_IF_SET}
    if "requests_by_day" in shown:
        shown["requests_by_day"] = ", ".join(f"{day}: {count}" for day, count in shown["requests_by_day"].items())
    if (used := shown.pop("used_since_rotation", None)) is not None:
        last = f"last at {shown['last_used_at']}" if shown["last_used_at"] else "never"
        shown["still_used"] = f"yes, {last}" if used else f"no, {last}"
    return shown | {"conditions": conditions_text(Conditions.load(fields["conditions"]))}


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """As JSON on standard output."""
    click.echo("\n".join(_json_lines(value, indent)))


def print_list(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool) -> None:
    """As one JSON array or as tables of ROWS rows, each row as soon as it is there: there may be a million."""
    rows = iter(rows)
    if as_json:
        before = "["
        for row in rows:
            click.echo("\n  ".join([before, *_json_lines(row, 2)]), nl=False)
            before = ","
        click.echo("[]" if before == "[" else "\n]")
        return
    some = [*islice(rows, ROWS)]
    print_rows(some, columns)
    while len(some) == ROWS and (some := [*islice(rows, ROWS)]):
        print_rows(some, columns)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """As a table; ``columns`` maps members to headings. Where there is no room for one, each row by itself."""
    whole = {key for key in columns if key in _WHOLE or key.endswith(("_id", "_at"))}
    table = _table(*columns.values(), headed=True, whole=[columns[key] for key in whole])
    least = {key: _least(heading, key in whole) for key, heading in columns.items()}
    for row in rows:
        cells = {key: _cell(row[key]) for key in columns}
        table.add_row(*cells.values())
        least = {key: max(least[key], _least(cell.plain, key in whole)) for key, cell in cells.items()}
    between = 3 * len(columns) - 1
    if rows and sum(least.values()) + between > _width():
        for row in rows:
            print_fields({heading: row[key] for key, heading in columns.items()})
        return
    _print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its members."""
    table = _table("", "", headed=False)
    for key, value in fields.items():
        table.add_row(_cell(key.replace("_", " ")), _cell(value))
    _print(table)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of rows just done, which moves a bar if somebody sits before a terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn(label), BarColumn(), TextColumn("{task.completed} rows"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda rows: bar.advance(task, rows)


def _json_lines(value: Any, indent: int | None) -> list[str]:
    lines = json.dumps(value, ensure_ascii=False, indent=indent).split("\n")
    return [line if printable(line) == line else "".join(map(_json_character, line)) for line in lines]


def _json_character(character: str) -> str:
    return character if printable(character) == character else json.dumps(character)[1:-1]


def _table(*headings: str, headed: bool, whole: Collection[str] = ()) -> Any:
    try:
        from rich import box
        from rich.table import Table
    except ModuleNotFoundError:
        raise click.ClickException('tables need rich: pip install "wsgi-tokenguard[cli]", or use --json') from None
    table = Table(box=box.SIMPLE_HEAD, show_header=headed, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in whole)
    return table


def _cell(value: Any) -> Any:
    from rich.text import Text  # not markup: a name may contain brackets

    if value is None or value == "":
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list):
        return Text(printable(" ".join(map(str, value))) or "none")
    if isinstance(value, Mapping):
        return Text(printable("; ".join(_changed(key, *change) for key, change in value.items())))
    return Text(printable(str(value)))


def _changed(key: str, old: Any, new: Any) -> str:
    name, after = key.replace("_", " "), _cell(_in_words(key, new)).plain
    return f"{name} {after}" if old is None else f"{name} {_cell(_in_words(key, old)).plain} → {after}"


def _in_words(key: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return conditions_text(Conditions.load(value)) if key == "conditions" else json.dumps(value)


def _least(text: str, whole: bool) -> int:
    """How wide a column must be for this text."""
    from rich.cells import cell_len

    return cell_len(text) if whole else min(max(map(cell_len, text.split()), default=0), _PART)


def _width() -> int:
    from rich.console import Console

    # Only a terminal has a width to keep to: a pipe gets whole lines.
    return Console().width if sys.stdout and sys.stdout.isatty() else 1_000_000


def _print(table: Any) -> None:
    from rich.console import Console

    Console(width=_width()).print(table)
