"""What happens, as signals: blinker's, which Flask brings along. The sender is the application."""

from __future__ import annotations

from typing import Any

from blinker import NamedSignal, Namespace
from flask import current_app

from ..hooks import Heard, Hooks, Receiver

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


def signalling_hooks() -> Hooks:
    """Hooks that send these signals."""
    return Hooks(
        authenticated=Heard(token_authenticated, _sender(token_authenticated)),
        refused=Heard(token_refused, _sender(token_refused)),
        issued=[_sender(token_issued)],
        rotated=[_sender(token_rotated)],
        revoked=[_sender(token_revoked)],
    )


def _sender(signal: NamedSignal) -> Receiver:
    def send(**arguments: Any) -> None:
        if signal.receivers:
            signal.send(current_app._get_current_object() if current_app else None, **arguments)  # type: ignore[attr-defined]

    return send
