"""What a forked child must not take over: locks that are held, and what others are doing."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def in_children(start: Callable[[], None]) -> None:
    """Call this method of an object in each forked child, as long as the object is there."""
    reference = weakref.WeakMethod(start)

    def started() -> None:
        if (alive := reference()) is not None:
            alive()

    os.register_at_fork(after_in_child=started)
