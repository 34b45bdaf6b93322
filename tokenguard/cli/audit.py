"""What happened, what can go, and what is wrong: ``events``, ``prune``, ``doctor``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import click

from ..clock import parse_duration
from ..details import event_fields
from ..doctor import examine
from ..errors import InvalidValue, StoreUnavailable, UnknownToken
from ..events import FEED_LIMIT, Event, EventFilter, EventKind
from ..prune import PruningInterrupted
from ..prune import prune as remove
from ..service import open_limiter, publish
from ..store import Store
from .arguments import as_json, given, moment
from .base import Backend, Failure, Group, actor, pass_backend
from .output import EVENT_COLUMNS, event_line, print_json, print_rows, progress_bar, say

POLL_EVERY = 1.0
#: Far above any event's number, and still within what every database can compare.
MAX_NUMBER = 2**62
#: Seconds between two batches of a prune: a writer that waits for SQLite tries again after a tenth of a second at most.
PAUSE = 0.1
group = Group()
_FINDING_COLUMNS = {"level": "Level", "message": "What", "advice": "What to do"}


@group.command()
@click.option("--client", callback=given, metavar="CLIENT", help="Only events of this client (its id or name).")
@click.option("--token", "token_id", callback=given, metavar="ID", help="Only events of this token.")
@click.option("--kind", metavar="KIND", help="Only events of this kind, such as token.issued.")
@click.option("--since", metavar="TIME", help="Only events since 2026-01-31, 2026-01-31T12:00:00Z, or 24h (ago).")
@click.option("--after", type=click.IntRange(0, MAX_NUMBER), metavar="NUMBER", help="Only events with a higher number.")
@click.option(
    "--limit",
    metavar="N",
    default=50,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="The maximum number of events.",
)
@click.option("--follow", "-f", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event per line.")
@pass_backend
def events(
    backend: Backend,
    client: str | None,
    token_id: str | None,
    kind: str | None,
    since: str | None,
    after: int | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """List the newest events, oldest first."""
    client_id = None if client is None else backend.client(client).id
    # A token's text, pasted in a hurry, must not look like a token without events; and unprintable text is no id.
    if token_id is not None and ("_" in token_id or not token_id.isprintable()):
        raise UnknownToken([token_id])
    which = EventFilter(client_id, token_id, _kind(kind), moment(since), after or 0)
    if follow and after is not None:  # all of them, however many: the earlier ones have been seen
        _follow(backend.store, which, as_json)
        return
    newest = backend.store.events(1)  # read first, so that an event in between is shown once, and not missed
    found = backend.store.events(limit + 1, which)  # one more, to know whether any is left out
    if after is not None and len(found) > limit:
        say(f"Note: of the events after number {after}, these are the newest {limit}. For all, set a higher --limit.")
    found = found[-limit:]
    if not (follow or as_json):
        print_rows([event_fields(event) for event in found], EVENT_COLUMNS)
        return
    _print_lines(found, as_json)
    if follow:
        seen = max((event.number for event in [*newest, *found]), default=0)
        _follow(backend.store, which._replace(after=seen), as_json)


def new_events(store: Store, which: EventFilter, wait: Callable[[], object]) -> Iterator[Event]:
    """Yield the events above ``which.after`` that the filter selects, as they come; calls ``wait`` between readings.

    Events that are no longer there are reported, and so is an outage of the store, which is waited out. Ends only by
    an error: of ``wait``, or another of the store.
    """
    seen, which = which.after, which._replace(after=0)
    away = False
    while True:
        try:
            feed = store.feed(seen + 1)
        except StoreUnavailable as error:
            if not away:
                say(f"Warning: {error}. Events continue once it is available again.")
            away = True
            wait()
            continue
        away = False
        if seen and feed.events and (first := feed.events[0].number) > seen + 1:
            say(f"Warning: event {seen} is followed by event {first}. Those in between were pruned.")
        for event in feed.events:
            seen = event.number
            if which.takes(event):
                yield event
        if feed.revision < seen:
            say(f"Warning: the newest event is {feed.revision} and not {seen}, as after a restore. Events go on there.")
            seen = feed.revision
        if len(feed.events) < FEED_LIMIT:
            wait()


@group.command()
@click.option(
    "--older-than", "age", required=True, metavar="DURATION", help="The minimum age, such as 90d; at least 1 day."
)
@pass_backend
def prune(backend: Backend, age: str) -> None:
    """Remove what ended long ago.

    That is tokens that ended for good longer ago than --older-than, and counts of requests and events of that age.
    """
    seconds = parse_duration(age)
    try:
        with progress_bar("Removing") as progress:
            removed = remove(backend.store, seconds, actor=actor(), progress=progress, pause=lambda: time.sleep(PAUSE))
    except PruningInterrupted as error:
        raise Failure(str(error)) from None
    say(f"Removed: {removed}.")


@group.command()
@as_json
@pass_backend
def doctor(backend: Backend, as_json: bool) -> None:
    """Check configuration, database, replica and Redis.

    Exit status 1 means that a finding needs action.
    """
    options = backend.options
    tokens = options.token_format() if options.signing_keys else None
    found = examine(
        backend.unchecked_store,
        tokens=tokens,
        catalog=options.catalog,
        policy=options.policy,
        push=lambda: publish(options, backend.unchecked_store),
        limiter=lambda: open_limiter(options),
    )
    name = backend.name_options
    findings = [each._replace(message=name(each.message), advice=name(each.advice)) for each in found]
    rows = [finding._asdict() | {"ids": list(finding.ids)} for finding in findings]
    if as_json:
        print_json(rows)
    elif rows:
        print_rows(rows, _FINDING_COLUMNS)
    urgent = sum(finding.needs_action for finding in findings)
    if urgent:
        raise Failure(f"{urgent} of {len(findings)} findings {'needs' if urgent == 1 else 'need'} action")
    if not as_json:
        say("All is well; nothing listed needs action." if rows else "All is well.")


def _kind(text: str | None) -> EventKind | None:
    if text is None:
        return None
    try:
        return EventKind(text)
    except ValueError:
        raise InvalidValue(f"unknown kind of event {text!r}; the kinds are {', '.join(EventKind)}") from None


def _follow(store: Store, which: EventFilter, as_json: bool) -> None:
    try:
        _print_lines(new_events(store, which, _wait), as_json)
    except KeyboardInterrupt:
        return  # the usual way to end it


def _wait() -> None:
    time.sleep(POLL_EVERY)


def _print_lines(found: Iterable[Event], as_json: bool) -> None:
    for event in found:
        print_json(event_fields(event), indent=None) if as_json else click.echo(event_line(event))
