"""All commands, and those that set a service up."""

from __future__ import annotations

import sys

import click

from ..signing import generate_key
from . import audit, clients, leaks, tokens
from .base import Backend, Failure, Group, pass_backend
from .output import say

_setup = Group()


@_setup.command()
def genkey() -> None:
    """Print a new signing key."""
    if sys.stdout is None:
        raise Failure("there is no standard output to write the key to")
    click.echo(generate_key())


@_setup.command()
@pass_backend
def init(backend: Backend) -> None:
    """Create the tables, or upgrade older ones."""
    before, after = backend.unchecked_store.upgrade()
    say(
        f"The tables are up to date (schema version {after})."
        if before == after
        else f"Schema version {after} is set up."
    )


#: All commands by name: the same in every framework.
COMMANDS: dict[str, click.Command] = {
    **_setup.commands,
    "client": clients.group,
    **tokens.group.commands,
    **audit.group.commands,
    **leaks.group.commands,
}
