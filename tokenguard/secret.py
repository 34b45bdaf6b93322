"""Text that must not be seen by accident."""

from __future__ import annotations

import re
from typing import NoReturn

from .errors import TOKEN_SHAPED

_TOKEN = re.compile(rf"[a-z0-9]{{1,16}}_{TOKEN_SHAPED.pattern}")


class Secret:
    """Text that must not be seen by accident: only :meth:`reveal` returns it.

    Its repr, str and format show a token's public id, as ``<token 0123456789ABCDEF, not shown>``, and a label for any
    other text. It cannot be pickled or copied.
    """

    __slots__ = ("_label", "_text")

    def __init__(self, text: str, label: str = "secret") -> None:
        """``label`` says what the text is, if it does not have the shape of a token."""
        self._text = text
        self._label = label

    @property
    def label(self) -> str:
        """What may be shown: the kind of text and, for a token, its public id. The token need not be a good one."""
        # Worked out only on access: each request makes a Secret, and hardly any is ever shown.
        return f"token {self._text.split('_')[1]}" if _TOKEN.fullmatch(self._text) else self._label

    def reveal(self) -> str:
        """Return the text itself. Pass it on at once; do not keep it in a variable, log it or store it."""
        return self._text

    def __repr__(self) -> str:
        return f"<{self.label}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a secret cannot be pickled or copied: {self}")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a secret cannot be pickled or copied: {self}")
