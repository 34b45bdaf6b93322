"""The command line: one Click tree, the same as ``tokenguard …`` and ``flask tokenguard …``."""

from __future__ import annotations

from collections.abc import Callable

import click

from .. import __version__
from ..config import Options, from_environ
from ..hooks import Hooks
from ..service import open_store
from ..store import Store
from .base import Backend, Group
from .commands import COMMANDS
from .output import say


def command_tree(
    load: Callable[[], tuple[Options, Store]],
    *,
    hooks: Hooks | None = None,
    load_prefix: Callable[[], str] | None = None,
    name_options: Callable[[str], str] = str,
) -> click.Group:
    """The whole tree, on the options and the store that ``load`` gives when a command first needs them.

    ``load_prefix`` gives the prefix alone, where that can be had without the rest. ``name_options`` rewrites a
    message for where options are not set as ``TOKENGUARD_<OPTION>``: it names them as people set them.
    """
    return Group(
        "tokenguard",
        commands=dict(COMMANDS),
        help="Manage API clients and their tokens.",
        context_settings={
            "obj": Backend(load, hooks, load_prefix, name_options),
            "help_option_names": ["-h", "--help"],
        },
    )


def main() -> None:
    """``tokenguard``, set up by the environment variables TOKENGUARD_*."""
    tree = command_tree(_from_environ, load_prefix=_prefix_from_environ)
    tree.help = f"{tree.help}\n\nIt is configured by the environment variables TOKENGUARD_*, like the services."
    click.version_option(__version__, prog_name="tokenguard")(tree)(prog_name="tokenguard")


def _from_environ() -> tuple[Options, Store]:
    options = Options.read(from_environ())
    if options.database_url == "memory://":
        say("Note: memory:// is lost when this command ends, and no service sees it: set TOKENGUARD_DATABASE_URL.")
    return options, open_store(options.database_url, options.read_url)


def _prefix_from_environ() -> str:
    return Options.read({word: value for word, value in from_environ().items() if word == "PREFIX"}).prefix
