"""What all commands have in common: their backend, their refusals, who runs them.

Exit status: 0 done, 1 refused (with one line that says why), 2 wrong usage.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

import click

from ..config import PREFIX, Options, named
from ..errors import ConfigurationError, InvalidValue, TokenGuardError, UnknownClient, UnknownToken
from ..hooks import Hooks
from ..issuer import Issuer
from ..records import Record
from ..secret import redact
from ..service import publish
from ..store import Store
from ..tokens import Client, TokenFormat, check_prefix
from .output import say

# Raised for a command without arguments, to print its help; Click 8.1 prints it without raising anything.
_HELP: type[click.UsageError] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Backend:
    """What the commands work on, loaded when one first needs it: ``genkey`` needs nothing."""

    def __init__(
        self,
        load: Callable[[], tuple[Options, Store]],
        hooks: Hooks | None,
        load_prefix: Callable[[], str] | None,
        name_options: Callable[[str], str],
    ) -> None:
        self._load = load
        self._hooks = hooks
        self._load_prefix = load_prefix
        #: Names the options in a message as they are set here.
        self.name_options = name_options

    @cached_property
    def _loaded(self) -> tuple[Options, Store]:
        options, store = self._load()
        try:
            publish(options, store)
        except ConfigurationError as error:
            # This must not keep anybody from revoking a token now: services learn of it from the feed.
            say(self.name_options(f"Note: services learn of this within TOKENGUARD_STALENESS, not at once: {error}."))
        return options, store

    @property
    def options(self) -> Options:
        """The options of the service."""
        return self._loaded[0]

    @property
    def prefix(self) -> str:
        """What the service's tokens begin with; raises ConfigurationError for what none can."""
        prefix = self.options.prefix if self._load_prefix is None else self._load_prefix()
        return named("PREFIX", check_prefix, prefix)

    @cached_property
    def store(self) -> Store:
        """The store, found to be ready."""
        store = self._loaded[1]
        store.check()
        return store

    @property
    def unchecked_store(self) -> Store:
        """The store as it is, for the commands that make it ready or find out whether it is."""
        return self._loaded[1]

    @property
    def reader(self) -> TokenFormat:
        """What tells the service's tokens from any other text; raises ConfigurationError without its signing key."""
        # The usual error for a missing key offers a fresh one, with which no token would be found, as if all were well.
        if self.options.signing_keys is None:
            raise ConfigurationError(
                f"{PREFIX}SIGNING_KEY is required: set it to the service's key, so that its tokens are recognised"
            )
        return self.options.token_format()

    @property
    def issuer(self) -> Issuer:
        """The granting side."""
        return self.options.issuer(self.store, hooks=self._hooks)

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


class Failure(click.ClickException):
    """One line on standard error, and the exit status."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class _Misuse(Failure):
    exit_code = 2


class _Redacting(click.Command):
    """Click quotes what it cannot place, and that may be a token's text."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except _HELP:
            raise
        except click.UsageError as error:
            raise click.UsageError(redact(error.format_message()), error.ctx) from None


class Command(_Redacting):
    """A command whose refusals are one line on standard error and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise Failure(ctx.obj.name_options(str(error))) from None
        except TokenGuardError as error:
            raise (_Misuse if isinstance(error, InvalidValue) else Failure)(str(error)) from None
        except BrokenPipeError:
            raise  # Click ends quietly when nobody reads the output any more
        except (OSError, UnicodeError) as error:
            raise Failure(f"cannot read or write: {error}") from None


class Group(_Redacting, click.Group):
    """A group of such commands."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(redact(error.format_message()), error.ctx) from None


pass_backend = click.make_pass_decorator(Backend)


def actor() -> str:
    """Who runs this, for the audit trail."""
    # Asked of the system: an environment variable such as LOGNAME can be set to anything.
    try:
        import pwd
    except ModuleNotFoundError:  # Windows has none
        return f"cli:{os.getlogin()}"
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"cli:{os.getuid()}"
