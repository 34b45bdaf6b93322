"""Tokens: issue, rotate, revoke, and what is known of them."""

from __future__ import annotations

import getpass
import re
import sys

import click

from ..clock import SECOND, isoformat, now, overlap_seconds
from ..conditions import Conditions
from ..details import token_details, token_fields
from ..errors import InvalidToken, StoreError
from ..foreign import revoke_token
from ..issuer import Issued
from ..records import Record, State
from ..secret import TOKEN, Secret
from ..store import walk
from ..tokens import Token
from .arguments import as_json, duration, given, read_scopes, with_conditions, with_foreign_client
from .base import Backend, Failure, Group, actor, pass_backend
from .foreign import foreign_fields, note_issuer, verified
from .output import print_fields, print_json, print_list, readable, say

MAX_INPUT = 10_000
group = Group()
_COLUMNS = {
    "id": "ID",
    "client": "Client",
    "name": "Name",
    "scopes": "Scopes",
    "state": "State",
    "created_at": "Created",
    "expires_at": "Expires",
    "last_used_at": "Last used",
}
_STATES = click.Choice([state.value for state in State])  # of an enumeration, Click would take the names


@group.command()
@click.argument("client")
@click.option("--scopes", required=True, metavar='"A B"', help="The scopes of the token, separated by spaces.")
@click.option("--name", default="", help="A name for the token.")
@click.option(
    "--expires-in",
    metavar="DURATION",
    help="The lifetime, such as 90d, 12h or 30m; without it, the token does not expire.",
)
@click.option(
    "--idle", metavar="DURATION", help="The idle timeout, such as 30d: the token ends when unused for so long."
)
@with_conditions
@pass_backend
def issue(
    backend: Backend,
    client: str,
    scopes: str,
    name: str,
    expires_in: str | None,
    idle: str | None,
    conditions: Conditions,
) -> None:
    """Issue a token to a CLIENT.

    Prints its text, which is shown only once.
    """
    lifetime, idle_timeout = duration(expires_in), duration(idle)
    backend.options.token_format()  # without a signing key, this says which option is missing
    issued = backend.issuer.issue(
        client,
        read_scopes(scopes),
        name=name,
        expires_in=lifetime,
        idle_timeout=idle_timeout,
        conditions=conditions,
        actor=actor(),
    )
    message = f"Token {issued.token.id} {_until(issued.token)}. Its text is shown only once:"
    _hand_over(backend, issued, message)


@group.command()
@click.argument("token_id", metavar="ID")
@click.option(
    "--overlap",
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How long the old token keeps working; 0 ends it at once.",
)
@pass_backend
def rotate(backend: Backend, token_id: str, overlap: str) -> None:
    """Replace the token with this ID.

    Issues its successor and prints the successor's text, which is shown only once.
    """
    backend.options.token_format()
    if sys.stdout is None:
        raise Failure("there is no standard output to write the successor's text to: nothing was changed")
    seconds = overlap_seconds(overlap)
    issued = backend.issuer.rotate(token_id, overlap=seconds, actor=actor())
    end = isoformat(issued.token.created_at + seconds * SECOND)
    _hand_over(
        backend,
        issued,
        f"Token {token_id} is rotated and ends at {end}.\n"
        f"Its successor {issued.token.id} {_until(issued.token)}. Its text is shown only once:",
        f"; token {token_id} stays rotated and ends at {end}: issue a new one in its place",
    )


@group.command("list")
@click.option("--client", callback=given, metavar="CLIENT", help="Only tokens of this client (its id or name).")
@click.option("--state", type=_STATES, metavar="STATE", help=f"Only tokens in this state: {', '.join(State)}.")
@as_json
@pass_backend
def list_tokens(backend: Backend, client: str | None, state: str | None, as_json: bool) -> None:
    """List tokens, oldest first."""
    at = now()
    records = walk(backend.store, None if client is None else backend.client(client).id)
    rows = (token_fields(record, at) for record in records if state is None or record.state(at) == state)
    print_list(rows, _COLUMNS, as_json=as_json)


@group.command()
@click.argument("token_id", metavar="ID")
@as_json
@pass_backend
def show(backend: Backend, token_id: str, as_json: bool) -> None:
    """Show the token with this ID."""
    _show(backend, backend.record(token_id), as_json)


@group.command()
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", metavar="TEXT", help="The reason, for the audit trail.")
@with_foreign_client
@click.option(
    "--expires-in",
    metavar="DURATION",
    help="With --issuer: the tokens expire within this time, and may be pruned then.",
)
@pass_backend
def revoke(
    backend: Backend,
    token_ids: tuple[str, ...],
    reason: str,
    issuer: str | None,
    client_id: str | None,
    expires_in: str | None,
) -> None:
    """End the tokens with these IDs for good.

    Revokes all of them, or none if one is unknown.

    With --issuer and --client-id the IDs are the "jti" of tokens of that issuer, which are refused here from now on.
    """
    lifetime = duration(expires_in)
    if issuer is not None and client_id is not None:
        note_issuer(backend, issuer)
        expires_at = None if lifetime is None else now() + lifetime * SECOND
        more = {"actor": actor(), "reason": reason}
        revoked = [
            revoke_token(backend.issuer, issuer, client_id, token_id, expires_at=expires_at, **more)
            for token_id in token_ids
        ]
    elif lifetime is not None:
        raise click.UsageError("--expires-in requires --issuer: the expiry of a token of this service is known")
    else:
        revoked = backend.issuer.revoke(*token_ids, actor=actor(), reason=reason)
    for token in revoked:
        say(f"Token {token.id} was revoked at {isoformat(token.revoked_at or 0)}.")


@group.command()
@as_json
@pass_backend
def inspect(backend: Backend, as_json: bool) -> None:
    """Show the token whose text is given on standard input.

    It may also be a token of another issuer.
    """
    credential = _token_on_stdin()
    try:
        if (foreign := verified(backend, credential)) is not None:
            fields = foreign_fields(backend, foreign)
            print_json(fields) if as_json else print_fields(fields)
            return
    except InvalidToken as error:
        raise Failure(f"this is not a valid token: {error.reason}") from None
    try:
        read = backend.reader.read(credential)
    except InvalidToken as error:
        wrong = _mistake(backend, credential, error.token_id)
        raise Failure(f"this is not a valid token: {error.reason}{wrong}") from None
    record = backend.record(read.id)
    if record.token.digest != read.digest:
        raise Failure(f"this text has a valid signature, but is not the one on record for token {read.id}")
    _show(backend, record, as_json)


def _until(token: Token) -> str:
    return "does not expire" if token.expires_at is None else f"expires at {isoformat(token.expires_at)}"


def _token_on_stdin() -> Secret:
    if sys.stdin is None:
        raise Failure("there is no standard input to read the token from")
    if sys.stdin.isatty():
        return Secret(getpass.getpass("Token: ").strip())
    if not (given := sys.stdin.buffer.read(MAX_INPUT).strip()):
        raise Failure("standard input is empty: the token is read from there")
    return Secret(given.decode("ascii", "replace"))


def _mistake(backend: Backend, credential: Secret, token_id: str | None) -> str:
    """Say how a text came to be no token, as far as that can be seen: people cut tokens off, and mix services up."""
    if token_id is not None:
        return f"; token {token_id} is {'not ' if backend.store.find(token_id) is None else ''}on record here"
    tokens, text = backend.reader, credential.reveal()
    if TOKEN.fullmatch(text):
        return f"; it begins with {text.partition('_')[0]}_, and tokens of this service with {tokens.beginning}"
    if tokens.beginning not in text:
        return ""
    if not re.fullmatch("[0-9A-Za-z_]+", text):
        return "; it has a character that no token has, such as a quote or a space"
    return "" if len(text) == tokens.length else f"; it has {len(text)} characters instead of {tokens.length}"


def _hand_over(backend: Backend, issued: Issued, message: str, otherwise: str = "") -> None:
    try:
        say(message)
        _show_text(issued.text)
    except (OSError, KeyboardInterrupt) as error:
        token_id = issued.token.id
        try:
            # Nobody has received this token, so it must not stay alive.
            backend.issuer.revoke(token_id, actor=actor())
            outcome = f"token {token_id} has been revoked"
        except (StoreError, KeyboardInterrupt) as away:
            outcome = f"token {token_id} could not be revoked ({_reason(away)}), so revoke it"
        raise Failure(f"the text could not be written ({_reason(error)}): {outcome}{otherwise}") from None


def _reason(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)


def _show_text(text: Secret) -> None:
    if sys.stdout is None:
        raise OSError("there is no standard output")
    click.echo(text.reveal())
    sys.stdout.flush()


def _show(backend: Backend, record: Record, as_json: bool) -> None:
    fields = token_details(backend.store, backend.options, record, now())
    print_json(fields) if as_json else print_fields(readable(fields))
