"""What a forked child must not take over: locks that are held, and what others are doing."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import ModuleType
from weakref import WeakKeyDictionary

log = logging.getLogger("tokenguard")
#: What uwsgidecorators sets of the module uwsgi when it is imported.
_HOOKS = {"mule_msg_hook", "post_fork_hook", "spooler"}
#: What each of these objects has called in each forked child, in the order in which they came. Not by WeakMethod: one
#: that goes with its object has Python complain at the exit, where the object's class may go at the same time.
_starts: WeakKeyDictionary[object, list[Callable[[object], None]]] = WeakKeyDictionary()


def in_children(start: Callable[[], None]) -> None:
    """Call this method of an object in each forked child, as long as the object is there."""
    _starts.setdefault(start.__self__, []).append(start.__func__)  # type: ignore[attr-defined]
    if (uwsgi := sys.modules.get("uwsgi")) is not None:
        _in_workers(uwsgi)


def _start_all() -> None:
    for owner, starts in [*_starts.items()]:
        for start in starts:
            try:
                start(owner)
            except BaseException:  # nobody else may go on with what is the parent's, and Python lets none out either
                log.exception("a forked child could not start anew")


# Once: Python forgets none of these, and a process may make and drop any number of guards.
os.register_at_fork(after_in_child=_start_all)


def _in_workers(uwsgi: ModuleType) -> None:
    """The same for uWSGI, which forks without Python, whose hooks hear nothing of it, and has one hook of its own."""
    own = {name: value for name, value in vars(uwsgi).items() if name in _HOOKS}
    hook = own.get("post_fork_hook")
    if isinstance(hook, partial) and hook.func is _start_worker:
        return
    with suppress(Exception):  # it may not be installed, and wants a master
        __import__("uwsgidecorators")  # it would put its own in the place of ours
    others = dict.fromkeys([hook, getattr(uwsgi, "post_fork_hook", None)])
    vars(uwsgi).update(own)  # nor may it take the place of the service's, which has not asked for it
    uwsgi.post_fork_hook = partial(_start_worker, others)  # type: ignore[attr-defined]


def _start_worker(others: Iterable[Callable[[], object] | None]) -> None:
    _start_all()  # first: the others may use what is to be forgotten
    for other in others:
        if other is not None:
            other()
