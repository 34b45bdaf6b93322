"""Settings of gunicorn for a machine whose clock for issuers' keys is ahead: by as many seconds as a file says."""

from __future__ import annotations

import os
from pathlib import Path

from tokenguard import clock

_ahead, _monotonic = Path(os.environ["CLOCK_AHEAD"]), clock.monotonic
# gunicorn reads this before the application is imported, and what keeps the keys takes its clock from there.
clock.monotonic = lambda: _monotonic() + float(_ahead.read_text())
