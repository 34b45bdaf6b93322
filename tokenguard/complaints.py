"""Lines in the log about what may be wrong for long, and is noticed at every request."""

from __future__ import annotations

import logging
import math
import time

log = logging.getLogger("tokenguard")
#: Seconds between two lines about the same thing.
COMPLAIN_EVERY = 60


class Complaint:
    """Says ``text`` and a reason at most once a minute, however often there is one."""

    def __init__(self, level: int, text: str) -> None:
        self._level = level
        self._text = text
        self._said_at = -math.inf

    def __call__(self, reason: str) -> None:
        """``reason`` must not be another library's words: they may quote a URL, and that may hold a password."""
        if time.monotonic() - self._said_at >= COMPLAIN_EVERY:
            self._said_at = time.monotonic()
            log.log(self._level, "%s: %s", self._text, reason)
