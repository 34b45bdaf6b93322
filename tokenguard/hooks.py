"""Plain callables that are called when something has happened."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Protocol

from .errors import AuthError, ConfigurationError
from .identity import Identity
from .secret import redact
from .tokens import Client, Token

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("tokenguard")
Receiver = Callable[..., object]


class OnAuthenticated(Protocol):
    """Called when a request was let in."""

    def __call__(self, *, identity: Identity, environ: WSGIEnvironment) -> object: ...


class OnRefused(Protocol):
    """Called when a request was refused."""

    def __call__(self, *, error: AuthError, environ: WSGIEnvironment) -> object: ...


class OnIssued(Protocol):
    """Called when a token was issued."""

    def __call__(self, *, token: Token, client: Client) -> object: ...


class OnRotated(Protocol):
    """Called when a token was replaced."""

    def __call__(self, *, token: Token, successor: Token) -> object: ...


class OnRevoked(Protocol):
    """Called when a token was revoked."""

    def __call__(self, *, token: Token) -> object: ...


@dataclass(frozen=True)
class Hooks:
    """Lists of callables, one for each kind of event: append yours. Each is called with keyword arguments.

    * ``authenticated(identity, environ)``: a request was let in.
    * ``refused(error, environ)``: a request was refused; ``error.reason`` says why, ``error.token_id`` whose token it
      was, and a set ``error.issuer`` that the id is that issuer's.
    * ``issued(token, client)``, ``rotated(token, successor)``, ``revoked(token)``: after the commit.

    Receivers are plain functions, not async ones. The failure of a receiver is logged and breaks nothing. Raises
    ConfigurationError for anything but lists.
    """

    authenticated: list[OnAuthenticated] = field(default_factory=list)
    refused: list[OnRefused] = field(default_factory=list)
    issued: list[OnIssued] = field(default_factory=list)
    rotated: list[OnRotated] = field(default_factory=list)
    revoked: list[OnRevoked] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Otherwise it would show after a commit, when an error loses the text of a new token.
        for kind in fields(self):
            if not isinstance(given := getattr(self, kind.name), list):
                raise ConfigurationError(f"{kind.name} must be a list of callables, not {type(given).__name__}")

    @classmethod
    def of(cls, given: Hooks | None) -> Hooks:
        """Return ``given``, or hooks without receivers; raises ConfigurationError for anything else."""
        if given is not None and not isinstance(given, Hooks):
            raise ConfigurationError(f"the hooks must be given as Hooks(…), not {type(given).__name__}")
        return cls() if given is None else given


class Signal(Protocol):
    """A framework's signal, blinker's or Django's."""

    @property
    def receivers(self) -> Collection[Any]:
        """The receivers of the signal."""


class Heard(list[Any]):
    """Receivers, one of which, ``send``, passes on to those of a framework's signal: false while nobody listens."""

    def __init__(self, signal: Signal, send: Receiver) -> None:
        super().__init__([send])
        self.signal = signal

    def __bool__(self) -> bool:
        return len(self) > 1 or bool(self.signal.receivers)


def call(receivers: Iterable[Receiver], **arguments: Any) -> None:
    """Call every one of ``receivers`` with these arguments."""
    # A copy: a receiver may remove itself, and other threads may add or remove one.
    for receiver in tuple(receivers):
        try:
            if iscoroutine(begun := receiver(**arguments)):
                begun.close()
                raise TypeError("it is async: nothing would run it, so give a plain function")
        except Exception as error:  # noqa: BLE001 - whatever it is, it breaks nothing
            log_failure(receiver, error)


def log_failure(receiver: Receiver, error: Exception) -> None:
    """Log that ``receiver`` has raised ``error``."""
    # The error may quote the request that the receiver was given, credential and all. The name of its class is code,
    # and is said apart, since a long one looks like a secret.
    told = redact("".join(traceback.format_exception(error)))
    log.error("a receiver failed: %s raised %s\n%s", redact(_name(receiver)), type(error).__name__, told)


def _name(receiver: Receiver) -> str:
    receiver = receiver.func if isinstance(receiver, partial) else receiver
    # Not the receiver's repr, which is somebody else's code too.
    return str(getattr(receiver, "__qualname__", type(receiver).__qualname__))
