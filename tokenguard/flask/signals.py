"""Signals for what happens, made with blinker, a dependency of Flask. The sender is the application."""

from __future__ import annotations

from functools import partial
from typing import Any

from blinker import NamedSignal, Namespace
from flask import Flask

from ..hooks import Heard, Hooks, Receiver, call
from .views import request_context

_signals = Namespace()
#: A request was let in: ``identity``, ``environ``.
token_authenticated = _signals.signal("tokenguard-authenticated")
#: A request was refused: ``error`` (whose ``reason`` says why), ``environ``.
token_refused = _signals.signal("tokenguard-refused")
#: A token was issued: ``token``, ``client``.
token_issued = _signals.signal("tokenguard-issued")
#: A token was replaced: ``token``, ``successor``.
token_rotated = _signals.signal("tokenguard-rotated")
#: A token was revoked: ``token``.
token_revoked = _signals.signal("tokenguard-revoked")


def shared_hooks() -> Hooks:
    """Return the hooks of a guard, shared by all of its applications.

    Signals about requests are sent from here: that costs nothing while nobody listens, and during a request the
    application is known.
    """
    return Hooks(
        authenticated=Heard(token_authenticated, _sender(token_authenticated)),
        refused=Heard(token_refused, _sender(token_refused)),
    )


def hooks_of(app: Flask, shared: Hooks) -> Hooks:
    """Return the hooks of one application, which also call everything that is appended to ``shared``.

    Tokens are also issued and revoked where there is no current application, so these hooks hold their signals' sender.
    """
    return Hooks(
        authenticated=shared.authenticated,
        refused=shared.refused,
        issued=[partial(_send, token_issued, app), partial(call, shared.issued)],
        rotated=[partial(_send, token_rotated, app), partial(call, shared.rotated)],
        revoked=[partial(_send, token_revoked, app), partial(call, shared.revoked)],
    )


def _sender(signal: NamedSignal) -> Receiver:
    def send(**arguments: Any) -> None:
        # Not current_app: another application may be the current one for a while.
        _send(signal, request_context.app if request_context else None, **arguments)

    return send


def _send(signal: NamedSignal, app: Flask | None, /, **arguments: Any) -> None:
    if signal.receivers and not signal.is_muted:
        # Not by the signal's own ``send``, which ends with the first receiver that fails.
        call([partial(receiver, app) for receiver in signal.receivers_for(app)], **arguments)
