"""Text that must not be seen by accident: what it looks like, and how it is kept out of what is shown."""

from __future__ import annotations

import re
from typing import NoReturn

#: How many characters a credential may have, and the header that carries it. A longer one is refused unread.
MAX_CREDENTIAL_LENGTH = 8192
#: The syntax of a credential (RFC 9110 section 11.2), as a regular expression.
TOKEN68 = r"[A-Za-z0-9\-._~+/]+=*"
#: Matches any service's tokens, whatever their prefix and tag: an id, and a secret with its tag.
TOKEN_SHAPED = re.compile(r"[0-9A-Za-z]{16}_[0-9A-Za-z]{75}")
#: Matches the whole of such a token.
TOKEN = re.compile(rf"[a-z0-9]{{1,16}}_{TOKEN_SHAPED.pattern}")
# Longer than an id, and shorter than any part of a token's text that would help to guess the rest.
_SECRET = re.compile(r"[0-9A-Za-z]{24,}")


def redact(text: str) -> str:
    """Return ``text`` without anything that could be the secret part of a token or key; public ids stay."""
    return _SECRET.sub("(not shown)", text)


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
        return f"token {self._text.split('_')[1]}" if TOKEN.fullmatch(self._text) else self._label

    def reveal(self) -> str:
        """Return the text itself. Pass it on at once; do not keep it in a variable, log it or store it."""
        return self._text

    def __repr__(self) -> str:
        return f"<{self.label}, not shown>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a secret cannot be pickled or copied: {self}")

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a secret cannot be pickled or copied: {self}")
