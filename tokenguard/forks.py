"""What a forked child must not take over: locks that are held, and what others are doing."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import ModuleType

log = logging.getLogger("tokenguard")
#: What uwsgidecorators sets of the module uwsgi when it is imported.
_HOOKS = {"mule_msg_hook", "post_fork_hook", "spooler"}
#: The methods that are called in each forked child, in the order in which they came.
_starts: dict[weakref.WeakMethod[Callable[[], None]], None] = {}


def in_children(start: Callable[[], None]) -> None:
    """Call this method of an object in each forked child, as long as the object is there."""
    reference = weakref.WeakMethod(start, _starts.pop)
    _starts[reference] = None
    if (uwsgi := sys.modules.get("uwsgi")) is not None:
        _in_workers(uwsgi, partial(_start, reference))


def _start_all() -> None:
    for reference in [*_starts]:
        try:
            _start(reference)
        except Exception:  # nobody else may go on with what is the parent's
            log.exception("a forked child could not start anew")


def _start(reference: weakref.WeakMethod[Callable[[], None]]) -> None:
    if (start := reference()) is not None:
        start()


# Once: Python forgets none of these, and a process may make and drop any number of guards.
os.register_at_fork(after_in_child=_start_all)


def _in_workers(uwsgi: ModuleType, started: Callable[[], None]) -> None:
    """The same for uWSGI, which forks without Python, whose hooks hear nothing of it, and has one hook of its own."""
    own = {name: value for name, value in vars(uwsgi).items() if name in _HOOKS}
    with suppress(Exception):  # it may not be installed, and wants a master
        __import__("uwsgidecorators")  # it would put its own in the place of ours
    others = dict.fromkeys([own.get("post_fork_hook"), getattr(uwsgi, "post_fork_hook", None)])
    vars(uwsgi).update(own)  # nor may it take the place of the service's, which has not asked for it

    def hook() -> None:
        started()  # first: the others may use what is to be forgotten
        for other in others:
            if other is not None:
                other()

    uwsgi.post_fork_hook = hook  # type: ignore[attr-defined]
