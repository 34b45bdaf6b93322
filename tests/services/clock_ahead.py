"""Settings of gunicorn that put the clock for issuers' keys ahead, by as many seconds as a file holds."""

from __future__ import annotations

import os
from pathlib import Path

from tokenguard import clock

_ahead, _monotonic = Path(os.environ["CLOCK_AHEAD"]), clock.monotonic
# gunicorn reads this before it imports the application, and the cache of the keys takes its clock from there.
clock.monotonic = lambda: _monotonic() + float(_ahead.read_text())
