"""An error keeps the frames that it passed through, with their local variables; :func:`clear_frames` clears them."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType


def clear_frames(error: BaseException) -> None:
    """Clear the local variables of tokenguard's own finished frames in the tracebacks of ``error`` and its causes.

    Error pages, reports and some log formatters show local variables, and in these frames they hold the request's
    credential, or a key. Call this where an error leaves tokenguard, from a function that then clears its own.
    """
    found, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) in found:
            continue
        found.add(id(each))
        _clear(each.__traceback__)
        # An error is shown with its cause, even if it was not raised while the cause was being handled.
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _clear(step: TracebackType | None) -> None:
    while step is not None:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
            with suppress(RuntimeError):  # the frame is still running
                step.tb_frame.clear()
        step = step.tb_next
