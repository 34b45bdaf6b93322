"""Text that must not be seen by accident."""

from __future__ import annotations

import re
from typing import NoReturn

from .errors import TOKEN_SHAPED

_TOKEN = re.compile(rf"[a-z0-9]{{1,16}}_{TOKEN_SHAPED.pattern}")


class Secret:
    """Text that must not be seen by accident: only :meth:`reveal` gives it.

    Its repr, str and format show the public id of a token, as ``<token 0123456789ABCDEF, not shown>``, and of any other
    text a label. It is not pickled or copied.
    """

    __slots__ = ("_label", "_text")

    def __init__(self, text: str, label: str = "secret") -> None:
        """``label`` says what it is, where the text has not the shape of a token."""
        self._text = text
        self._label = label

    @property
    def label(self) -> str:
        """What may be shown: the kind of text and, of a token, its public id. Whether it is a good one is not known."""
        # Found out when somebody looks: each request makes one of these, and hardly any is ever shown.
        return f"token {self._text.split('_')[1]}" if _TOKEN.fullmatch(self._text) else self._label

    def reveal(self) -> str:
        """The text itself. Hand it on at once; do not keep it in a variable, log it or store it."""
        return self._text

    def __repr__(self) -> str:
        return f"<{self.label}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a secret is not pickled or copied: {self}")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a secret is not pickled or copied: {self}")
