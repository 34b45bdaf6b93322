"""The commands. Exit status: 0 done, 1 refused (with one line that says why), 2 wrong usage."""

from __future__ import annotations

import getpass
import os
import pwd
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import click

from ..clock import isoformat, now, parse_duration
from ..config import Options
from ..errors import InvalidToken, InvalidValue, StoreError, TokenGuardError, UnknownClient, UnknownToken, redact
from ..issuer import Issuer
from ..scopes import Scopes
from ..store import Record, Store
from ..tokens import Client, Secret, generate_key
from .output import (
    client_fields,
    event_fields,
    print_fields,
    print_json,
    print_rows,
    say,
    token_fields,
)

MAX_INPUT = 10_000
_CLIENT_COLUMNS = {"id": "ID", "name": "Name", "scopes": "Scopes", "enabled": "Enabled", "created_at": "Created"}
_TOKEN_COLUMNS = {
    "id": "ID",
    "client": "Client",
    "name": "Name",
    "scopes": "Scopes",
    "state": "State",
    "created_at": "Created",
    "expires_at": "Expires",
}
_EVENT_COLUMNS = {
    "number": "No.",
    "at": "At",
    "kind": "Event",
    "client_id": "Client",
    "token_id": "Token",
    "actor": "By",
    "data": "Changed",
}


class Backend:
    """What the commands work on, loaded when one first needs it: ``genkey`` needs nothing."""

    def __init__(self, load: Callable[[], tuple[Options, Store]]) -> None:
        self._load = load

    @cached_property
    def _loaded(self) -> tuple[Options, Store]:
        return self._load()

    @property
    def options(self) -> Options:
        """The options of the service."""
        return self._loaded[0]

    @cached_property
    def store(self) -> Store:
        """The store, found to be ready."""
        store = self._loaded[1]
        store.check()
        return store

    @property
    def unchecked_store(self) -> Store:
        """The store as it is, for the command that makes it ready."""
        return self._loaded[1]

    @property
    def issuer(self) -> Issuer:
        """The granting side."""
        return self.options.issuer(self.store)

    def client(self, ref: str) -> Client:
        """The client with this id or name; raises UnknownClient."""
        client = self.store.client(ref)
        if client is None:
            raise UnknownClient(ref)
        return client

    def record(self, token_id: str) -> Record:
        """The token with this id and its client; raises UnknownToken."""
        record = self.store.find(token_id)
        if record is None:
            raise UnknownToken([token_id])
        return record


class _Failure(click.ClickException):
    """One line on standard error, and the exit status."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class _Misuse(_Failure):
    exit_code = 2


class _Redacting(click.Command):
    """Click quotes what it cannot place, and that may be a token's text."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise click.UsageError(redact(error.format_message()), error.ctx) from None


class Command(_Redacting):
    """A command whose refusals are one line on standard error and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TokenGuardError as error:
            raise (_Misuse if isinstance(error, InvalidValue) else _Failure)(str(error)) from None
        except BrokenPipeError:
            raise  # Click ends quietly when nobody reads on
        except (OSError, UnicodeError) as error:
            raise _Failure(f"cannot read or write here: {error}") from None


class Group(_Redacting, click.Group):
    """A group of such commands."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(redact(error.format_message()), error.ctx) from None


_tree = Group()
_client = Group("client", help="Manage the applications that may hold tokens.")
_tree.add_command(_client)
#: All commands by name, for a tree of any frame.
COMMANDS = _tree.commands

_pass = click.make_pass_decorator(Backend)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _actor() -> str:
    # Who the system says it is: an environment variable such as LOGNAME says whatever its user likes.
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"cli:{os.getuid()}"


@_tree.command()
def genkey() -> None:
    """Print a new signing key."""
    click.echo(generate_key())


@_tree.command()
@_pass
def init(backend: Backend) -> None:
    """Create the tables, or upgrade older ones."""
    before, after = backend.unchecked_store.upgrade()
    say(
        f"The tables are up to date (schema version {after})."
        if before == after
        else f"Schema version {after} is set up."
    )


@_client.command("add")
@click.argument("name")
@click.option("--scopes", required=True, metavar='"A B"', help="What its tokens may ever do, separated by spaces.")
@_pass
def client_add(backend: Backend, name: str, scopes: str) -> None:
    """Register the client NAME."""
    client = backend.issuer.register(name, Scopes.parse(scopes), actor=_actor())
    say(f"Client {client.name} has the id {client.id}. Its tokens may have: {client.scopes or 'nothing'}.")


@_client.command("list")
@_as_json
@_pass
def client_list(backend: Backend, as_json: bool) -> None:
    """List all clients."""
    rows = [client_fields(client) for client in backend.store.clients()]
    print_json(rows) if as_json else print_rows(rows, _CLIENT_COLUMNS)


@_client.command("show")
@click.argument("client")
@_as_json
@_pass
def client_show(backend: Backend, client: str, as_json: bool) -> None:
    """Show a CLIENT, by its id or name."""
    found = backend.client(client)
    states = [token.state(now()) for token in backend.store.tokens(found.id)]
    fields = client_fields(found) | {"active_tokens": states.count("active")}
    print_json(fields) if as_json else print_fields(fields)


@_client.command("disable")
@click.argument("client")
@_pass
def client_disable(backend: Backend, client: str) -> None:
    """Refuse all tokens of a CLIENT until it is enabled."""
    disabled = backend.issuer.disable(client, actor=_actor())
    say(f"Client {disabled.name} is disabled: its tokens are refused.")


@_client.command("enable")
@click.argument("client")
@_pass
def client_enable(backend: Backend, client: str) -> None:
    """Let the tokens of a CLIENT work again."""
    enabled = backend.issuer.enable(client, actor=_actor())
    say(f"Client {enabled.name} is enabled: its tokens work.")


@_client.command("set-scopes")
@click.argument("client")
@click.argument("scopes", metavar='"A B"')
@_pass
def client_set_scopes(backend: Backend, client: str, scopes: str) -> None:
    """Change what the tokens of a CLIENT may do, those already issued included."""
    changed = backend.issuer.set_scopes(client, Scopes.parse(scopes), actor=_actor())
    say(f"The tokens of client {changed.name} may now have: {changed.scopes or 'nothing'}.")


@_tree.command()
@click.argument("client")
@click.option("--scopes", required=True, metavar='"A B"', help="What the token may do, separated by spaces.")
@click.option("--name", default="", help="What you call the token.")
@click.option("--expires-in", metavar="DURATION", help="How long it lives: 90d, 12h, 30m; for ever without this.")
@_pass
def issue(backend: Backend, client: str, scopes: str, name: str, expires_in: str | None) -> None:
    """Issue a token to a CLIENT and print its text, this once."""
    lifetime = None if expires_in is None else parse_duration(expires_in)
    backend.options.token_format()  # without a signing key, this says which option is missing
    token, text = backend.issuer.issue(client, Scopes.parse(scopes), name=name, expires_in=lifetime, actor=_actor())
    until = "does not expire" if token.expires_at is None else f"expires at {isoformat(token.expires_at)}"
    say(f"Token {token.id} {until}. Its text is shown this once:")
    try:
        _show_text(text)
    except OSError as error:
        # A token that nobody has seen is nobody's, and must not stay alive.
        backend.issuer.revoke(token.id, actor=_actor())
        raise _Failure(f"the text could not be written ({error}): the token is revoked again") from None


@_tree.command("list")
@click.option("--client", help="Only the tokens of this client, by its id or name.")
@_as_json
@_pass
def list_tokens(backend: Backend, client: str | None, as_json: bool) -> None:
    """List tokens, oldest first."""
    tokens = backend.store.tokens(backend.client(client).id if client else None)
    clients = {found.id: found for found in backend.store.clients()}  # read later, so the clients of all are there
    if any(token.client_id not in clients for token in tokens):
        raise StoreError("a row of tokenguard_client is missing: restore the database from a backup")
    rows = [_fields(Record(token, clients[token.client_id], 0)) for token in tokens]
    print_json(rows) if as_json else print_rows(rows, _TOKEN_COLUMNS)


@_tree.command()
@click.argument("token_id", metavar="ID")
@_as_json
@_pass
def show(backend: Backend, token_id: str, as_json: bool) -> None:
    """Show the token with this ID."""
    _show(backend, backend.record(token_id), as_json)


@_tree.command()
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@_pass
def revoke(backend: Backend, token_ids: tuple[str, ...]) -> None:
    """End the tokens with these IDs for good: all of them, or none if one is unknown."""
    for token in backend.issuer.revoke(*token_ids, actor=_actor()):
        say(f"Token {token.id} is revoked since {isoformat(token.revoked_at or 0)}.")


@_tree.command()
@_as_json
@_pass
def inspect(backend: Backend, as_json: bool) -> None:
    """Read a token's text from standard input, and show what it is."""
    try:
        read = backend.options.token_format().read(_token_on_stdin())
    except InvalidToken as error:
        raise _Failure(f"this text is no valid token: {error.reason}") from None
    record = backend.record(read.id)
    if record.token.digest != read.digest:
        raise _Failure(f"this text is signed, but it is not the one on record for token {read.id}")
    _show(backend, record, as_json)


@_tree.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line.")
@_pass
def events(backend: Backend, limit: int, as_json: bool) -> None:
    """List the newest events, oldest first."""
    rows = [event_fields(event) for event in backend.store.events(limit)]
    if as_json:
        for row in rows:
            print_json(row, indent=None)
    else:
        print_rows(rows, _EVENT_COLUMNS)


def _token_on_stdin() -> Secret:
    if sys.stdin is None:
        raise _Failure("there is no standard input to read the text from")
    if sys.stdin.isatty():
        return Secret(getpass.getpass("Token: ").strip())
    return Secret(sys.stdin.buffer.read(MAX_INPUT).decode("ascii", "replace").strip())


def _show_text(text: Secret) -> None:
    if sys.stdout is None:
        raise OSError("there is no standard output")
    click.echo(text.reveal())
    sys.stdout.flush()


def _show(backend: Backend, record: Record, as_json: bool) -> None:
    effective = backend.options.catalog.effective(record.token.scopes, record.client.scopes)
    fields = _fields(record) | {"effective_scopes": list(effective)}
    print_json(fields) if as_json else print_fields(fields)


def _fields(record: Record) -> dict[str, Any]:
    return token_fields(record.token, record.client, now())
