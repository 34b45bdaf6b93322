"""A thread's turn to do what only one does at a time, which nothing that interrupts the thread makes it keep."""

from __future__ import annotations

import threading


def take(lock: threading.Lock, turn: list[bool], longest: float = 0.0) -> None:
    """Acquire ``lock``, waiting ``longest`` seconds for it, and add to ``turn`` whether this thread has it now.

    Call it in a ``try`` whose ``finally`` releases the lock if ``True in turn``.
    """
    # A single call, as some job queues raise their time limit in a thread as soon as the call that it waits in has
    # returned. A lock taken by a thread that does not know it would never be released.
    turn.extend(map(lock.acquire, (True,), (longest,)))
