"""Resets what a forked child must not inherit: held locks, and what other threads were doing."""

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
#: The attributes of the module uwsgi that uwsgidecorators sets when it is imported.
_HOOKS = {"mule_msg_hook", "post_fork_hook", "spooler"}
#: The methods of each object to call in each forked child, in the order in which they were added. Not a WeakMethod: if
#: that goes with its object at the exit, Python complains, since the object's class may go at the same time.
_starts: WeakKeyDictionary[object, list[Callable[[object], None]]] = WeakKeyDictionary()


def in_children(start: Callable[[], None]) -> None:
    """Call this method of an object in each forked child, as long as the object lives."""
    _starts.setdefault(start.__self__, []).append(start.__func__)  # type: ignore[attr-defined]
    if (uwsgi := sys.modules.get("uwsgi")) is not None:
        _in_workers(uwsgi)


def _start_all() -> None:
    for owner, starts in [*_starts.items()]:
        for start in starts:
            try:
                start(owner)
            except BaseException:  # the others must not keep the parent's state; Python lets no error out either
                log.exception("a forked child could not start anew")


# Only once: Python never drops such a function, and a process may make and drop any number of guards.
if hasattr(os, "register_at_fork"):  # Windows forks nothing
    os.register_at_fork(after_in_child=_start_all)


def _in_workers(uwsgi: ModuleType) -> None:
    """Do the same for uWSGI, which forks without calling Python's hooks, and has one hook of its own."""
    own = {name: value for name, value in vars(uwsgi).items() if name in _HOOKS}
    hook = own.get("post_fork_hook")
    if isinstance(hook, partial) and hook.func is _start_worker:
        return
    with suppress(Exception):  # it may not be installed, and needs a master
        __import__("uwsgidecorators")  # imported later, it would replace our hook by its own
    others = dict.fromkeys([hook, getattr(uwsgi, "post_fork_hook", None)])
    vars(uwsgi).update(own)  # nor may it replace the hooks of a service that has not asked for it
    uwsgi.post_fork_hook = partial(_start_worker, others)  # type: ignore[attr-defined]


def _start_worker(others: Iterable[Callable[[], object] | None]) -> None:
    _start_all()  # first: the other hooks may use what has to be reset
    for other in others:
        if other is not None:
            other()
