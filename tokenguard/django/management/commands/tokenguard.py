"""``manage.py tokenguard``: the one command tree, on the project's settings."""

from __future__ import annotations

from argparse import REMAINDER
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from ....extras import from_extra
from ...conf import load, name_options
from ...signals import signalling_hooks

with from_extra("django", "click"):
    import click

    from ....cli import command_tree


class Command(BaseCommand):
    """Passes what it is given on to Click."""

    help = "Manage API clients and their tokens."
    # An error in the project's own models must not keep anybody from revoking a token.
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """As from a terminal: ``argv`` is ``["manage.py", "tokenguard", …]``."""
        program = f"{Path(argv[0]).name} tokenguard"
        _, arguments = _django_options(program).parse_known_args(argv[2:])
        _tree().main(arguments, program)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """What ``manage.py help tokenguard`` shows: that of the command tree, which lists its commands."""
        _tree().main(["--help"], f"{Path(prog_name).name} {subcommand}", standalone_mode=False)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs=REMAINDER, help="what follows the command's name in a terminal")

    def handle(self, *args: str, **options: Any) -> None:
        """As from code: ``call_command("tokenguard", "client", "list")``. Raises CommandError for what is refused."""
        # Without Django's wrappers: what they add is meant for Django's own lines.
        out, err = cast(TextIO, self.stdout._out), cast(TextIO, self.stderr._out)
        with redirect_stdout(out), redirect_stderr(err):
            try:
                _tree().main(list(options["arguments"]), "tokenguard", standalone_mode=False)
            except click.ClickException as error:
                raise CommandError(error.format_message(), returncode=error.exit_code) from None


def _django_options(program: str) -> CommandParser:
    """Those that every command of Django takes, wherever they stand. No command of the tree has one of their names."""
    parser = CommandParser(prog=program, add_help=False, allow_abbrev=False, called_from_command_line=True)
    # Django has already acted on these two.
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    # These change nothing: no checks are run, nothing is coloured, and messages are as short as can be. A refusal has
    # no stack trace, as it is not a fault of the program; any other error has one anyway.
    for name in ("--skip-checks", "--no-color", "--force-color", "--traceback"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4))
    return parser


def _tree() -> click.Group:
    return command_tree(load, hooks=signalling_hooks(), name_options=name_options)
