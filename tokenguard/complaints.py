"""Log lines about problems that may last for long and are noticed at every request."""

from __future__ import annotations

import logging
import math
import time

log = logging.getLogger("tokenguard")
#: Seconds between two lines about the same problem.
COMPLAIN_EVERY = 60


class Complaint:
    """Logs ``text`` and a reason at most once a minute, however often it is called."""

    def __init__(self, level: int, text: str) -> None:
        self._level = level
        self._text = text
        self._said_at = -math.inf

    def __call__(self, reason: str) -> None:
        """``reason`` must not quote another library's message, which may show a URL and a password in it."""
        if time.monotonic() - self._said_at >= COMPLAIN_EVERY:
            self._said_at = time.monotonic()
            log.log(self._level, "%s: %s", self._text, reason)
