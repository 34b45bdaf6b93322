"""The hooks as Django's signals. The sender is :class:`tokenguard.Hooks`, whose calls they pass on.

Receivers are plain functions, even on an async server, where they are called in a thread. If one raises an error, that
is logged and breaks nothing, and the others are called all the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.dispatch import Signal

from ..hooks import Heard, Hooks, Receiver, log_failure


class _Signal(Signal):
    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        # Django's own log line would show the error's message unredacted.
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


def signalling_hooks() -> Hooks:
    """Hooks that send these signals."""
    return Hooks(
        authenticated=Heard(token_authenticated, _sender(token_authenticated)),
        refused=Heard(token_refused, _sender(token_refused)),
        issued=[_sender(token_issued)],
        rotated=[_sender(token_rotated)],
        revoked=[_sender(token_revoked)],
    )


def _sender(signal: Signal) -> Receiver:
    return partial(signal.send_robust, Hooks)


def heard() -> bool:
    """Whether the signals about requests have receivers: if so, answering a request may take some time."""
    return bool(token_authenticated.receivers or token_refused.receivers)
