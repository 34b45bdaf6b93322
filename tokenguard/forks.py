"""What a forked child must not take over: locks that are held, and what others are doing."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType


def in_children(start: Callable[[], None]) -> None:
    """Call this method of an object in each forked child, as long as the object is there."""
    reference = weakref.WeakMethod(start)

    def started() -> None:
        if (alive := reference()) is not None:
            alive()

    os.register_at_fork(after_in_child=started)
    if (uwsgi := sys.modules.get("uwsgi")) is not None:
        _in_workers(uwsgi, started)


def _in_workers(uwsgi: ModuleType, started: Callable[[], None]) -> None:
    """The same for uWSGI, which forks without Python, whose hooks hear nothing of it, and has one hook of its own."""
    with suppress(Exception):  # it may not be installed, and wants a master
        __import__("uwsgidecorators")  # it would put its own in the place of ours
    others = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        started()  # first: the others may use what is to be forgotten
        if others is not None:
            others()

    uwsgi.post_fork_hook = hook  # type: ignore[attr-defined]
