"""What happens, as Django's signals. The sender is :class:`tokenguard.Hooks`, whose calls they pass on.

Receivers are plain functions, also on an async server, where they are called in a thread. What one raises is logged and
breaks nothing, and the others are called all the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.dispatch import Signal

from ..hooks import Hooks, Receiver, log_failure


class _Signal(Signal):
    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # Django's own line would show the message as it is.
        log_failure(receiver, err)


#: A request was let in: ``identity``, ``environ``.
token_authenticated = _Signal()
#: A request was refused: ``error`` (whose ``reason`` says why), ``environ``.
token_refused = _Signal()
#: A token was issued: ``token``, ``client``.
token_issued = _Signal()
#: A token was replaced: ``token``, ``successor``.
token_rotated = _Signal()
#: A token was revoked: ``token``.
token_revoked = _Signal()


class _Heard(list[Receiver]):
    """What sends a signal on every request; empty as long as nobody wants to hear of it."""

    def __init__(self, signal: Signal) -> None:
        super().__init__([partial(signal.send_robust, Hooks)])
        self._signal = signal

    def __bool__(self) -> bool:
        return len(self) > 1 or bool(self._signal.receivers)


def signalling_hooks() -> Hooks:
    """Hooks that send these signals."""
    return Hooks(
        authenticated=_Heard(token_authenticated),
        refused=_Heard(token_refused),
        issued=[partial(token_issued.send_robust, Hooks)],
        rotated=[partial(token_rotated.send_robust, Hooks)],
        revoked=[partial(token_revoked.send_robust, Hooks)],
    )


def heard() -> bool:
    """Whether anybody wants to hear of requests: what answers one may take its time then."""
    return bool(token_authenticated.receivers or token_refused.receivers)
