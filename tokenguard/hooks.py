"""Plain callables that are told what happened."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from .errors import redact

log = logging.getLogger("tokenguard")
Receiver = Callable[..., object]


@dataclass(frozen=True)
class Hooks:
    """Lists of callables: append to the one that you want to hear of. Each is called with keyword arguments.

    * ``authenticated(identity, environ)``: a request was let in.
    * ``refused(error, environ)``: a request was refused; ``error.reason`` says why, ``error.token_id`` whose, and
      ``error.issuer`` that this is what another issuer calls it.
    * ``issued(token, client)``, ``rotated(token, successor)``, ``revoked(token)``: after the commit.

    A receiver that fails is logged and breaks nothing.
    """

    authenticated: list[Receiver] = field(default_factory=list)
    refused: list[Receiver] = field(default_factory=list)
    issued: list[Receiver] = field(default_factory=list)
    rotated: list[Receiver] = field(default_factory=list)
    revoked: list[Receiver] = field(default_factory=list)


class Signal(Protocol):
    """A framework's own, blinker's or Django's."""

    @property
    def receivers(self) -> Collection[Any]:
        """Who hears of it."""


class Heard(list[Receiver]):
    """Receivers of which one, ``send``, passes on to those of a framework's signal: empty while nobody would hear."""

    def __init__(self, signal: Signal, send: Receiver) -> None:
        super().__init__([send])
        self.signal = signal

    def __bool__(self) -> bool:
        return len(self) > 1 or bool(self.signal.receivers)


def call(receivers: list[Receiver], **arguments: Any) -> None:
    """Tell every one of ``receivers``."""
    for receiver in receivers:
        try:
            receiver(**arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it breaks nothing
            log_failure(receiver, error)


def log_failure(receiver: Receiver, error: Exception) -> None:
    """Say that ``receiver`` has raised ``error``."""
    # Its message may quote the request that it was given, credential and all.
    log.error("a receiver failed: %s", redact(f"{_name(receiver)}\n{''.join(traceback.format_exception(error))}"))


def _name(receiver: Receiver) -> str:
    # Not its repr, which is somebody else's code too.
    return str(getattr(receiver, "__qualname__", type(receiver).__qualname__))
