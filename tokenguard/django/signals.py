"""What happens, as Django's signals. The sender is :class:`tokenguard.Hooks`, whose calls they pass on.

Receivers are plain functions, also on an async server; what one raises is logged and breaks nothing.
"""

from __future__ import annotations

from functools import partial

from django.dispatch import Signal

from ..hooks import Hooks

#: A request was let in: ``identity``, ``environ``.
token_authenticated = Signal()
#: A request was refused: ``error`` (whose ``reason`` says why), ``environ``.
token_refused = Signal()
#: A token was issued: ``token``, ``client``.
token_issued = Signal()
#: A token was replaced: ``token``, ``successor``.
token_rotated = Signal()
#: A token was revoked: ``token``.
token_revoked = Signal()


def signalling_hooks() -> Hooks:
    """Hooks that send these signals."""
    return Hooks(
        authenticated=[partial(token_authenticated.send, Hooks)],
        refused=[partial(token_refused.send, Hooks)],
        issued=[partial(token_issued.send, Hooks)],
        rotated=[partial(token_rotated.send, Hooks)],
        revoked=[partial(token_revoked.send, Hooks)],
    )
