"""What an error takes along: the frames that it has passed, with all their local variables."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType


def forget(error: BaseException) -> None:
    """Clear the local variables of tokenguard's own frames that ``error`` has passed, and that are done.

    Error pages, reports and some log formatters show local variables, and in these frames they hold the credential of
    the request, or a key. To be called where an error leaves tokenguard, by a function that then forgets its own.
    """
    found, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) in found:
            continue
        found.add(id(each))
        _clear(each.__traceback__)
        # One that was raised from another shows that one, also where it was not raised while that was being handled.
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _clear(step: TracebackType | None) -> None:
    while step is not None:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
            with suppress(RuntimeError):  # it is still running
                step.tb_frame.clear()
        step = step.tb_next
