"""``client …``: the applications that may hold tokens."""

from __future__ import annotations

import click

from ..clock import now
from ..conditions import UNCONDITIONAL, Conditions
from ..details import client_details, client_fields, conditions_text
from ..foreign import register_client
from .arguments import as_json, read_scopes, with_conditions, with_foreign_client
from .base import Backend, Group, actor, pass_backend
from .foreign import note_issuer
from .output import print_fields, print_json, print_list, readable, say

group = Group("client", help="Manage the applications that may hold tokens.")
_COLUMNS = {"id": "ID", "name": "Name", "scopes": "Scopes", "enabled": "Enabled", "created_at": "Created"}


@group.command("add")
@click.argument("name")
@click.option(
    "--scopes", required=True, metavar='"A B"', help="The scopes that its tokens may have, separated by spaces."
)
@with_foreign_client
@with_conditions
@pass_backend
def add(
    backend: Backend, name: str, scopes: str, issuer: str | None, client_id: str | None, conditions: Conditions
) -> None:
    """Register the client NAME. Networks and rate hold for all its tokens together.

    With --issuer and --client-id it is the client that this issuer knows by that id.
    """
    granted = read_scopes(scopes)
    if issuer is None or client_id is None:
        client = backend.issuer.register(name, granted, conditions=conditions, actor=actor())
    else:
        client = register_client(
            backend.issuer, issuer, client_id, name=name, scopes=granted, conditions=conditions, actor=actor()
        )
        note_issuer(backend, issuer)
    say(f"Client {client.name} has the id {client.id}. Its tokens may have: {client.scopes or 'nothing'}.")
    if conditions != UNCONDITIONAL:
        say(f"Conditions for all its tokens together: {conditions_text(conditions)}.")


@group.command("list")
@as_json
@pass_backend
def list_clients(backend: Backend, as_json: bool) -> None:
    """List all clients."""
    rows = map(client_fields, backend.store.clients())
    print_list(rows, _COLUMNS, as_json=as_json)


@group.command("show")
@click.argument("client")
@as_json
@pass_backend
def show(backend: Backend, client: str, as_json: bool) -> None:
    """Show a CLIENT, by its id or name."""
    fields = client_details(backend.store, backend.client(client), now())
    print_json(fields) if as_json else print_fields(readable(fields))


@group.command("disable")
@click.argument("client")
@pass_backend
def disable(backend: Backend, client: str) -> None:
    """Refuse all tokens of a CLIENT until it is enabled."""
    disabled = backend.issuer.disable(client, actor=actor())
    say(f"Client {disabled.name} is disabled: its tokens are refused.")


@group.command("enable")
@click.argument("client")
@pass_backend
def enable(backend: Backend, client: str) -> None:
    """Let the tokens of a CLIENT work again."""
    enabled = backend.issuer.enable(client, actor=actor())
    say(f"Client {enabled.name} is enabled: its tokens work.")


@group.command("set-scopes")
@click.argument("client")
@click.argument("scopes", metavar='"A B"')
@pass_backend
def set_scopes(backend: Backend, client: str, scopes: str) -> None:
    """Change what the tokens of a CLIENT may do.

    That goes for those already issued, too.
    """
    changed = backend.issuer.set_scopes(client, read_scopes(scopes), actor=actor())
    say(f"The tokens of client {changed.name} may now have: {changed.scopes or 'nothing'}.")


@group.command("set-conditions")
@click.argument("client")
@with_conditions
@pass_backend
def set_conditions(backend: Backend, client: str, conditions: Conditions) -> None:
    """Limit from where, and how often, a CLIENT may call.

    This is for all its tokens together. Exactly what is given holds from then on; without any option, nothing is
    restricted.
    """
    changed = backend.issuer.set_conditions(client, conditions, actor=actor())
    say(f"Conditions for all tokens of client {changed.name} together: {conditions_text(changed.conditions)}.")
