"""Forked children of the process that runs the tests."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

#: After so many seconds a child is killed: what it waits for may be a lock of a thread that only its parent has.
PATIENCE = 30


class Child:
    """A child that does one job, while this process goes on. It ends with the job, and runs no further tests."""

    def __init__(self, job: Callable[[], object]) -> None:
        self._reading, writing = os.pipe()
        # Python warns of a fork while threads run, as they do in a service that is forked.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            self._pid = os.fork()
        if self._pid == 0:
            try:
                signal.alarm(PATIENCE)
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(_outcome(job), pipe)
            finally:
                os._exit(0)
        os.close(writing)

    def result(self) -> Any:
        """Wait for the child, and return what its job has returned."""
        with os.fdopen(self._reading, "rb") as pipe:
            sent = pipe.read()
        os.waitpid(self._pid, 0)
        assert sent, "the child was killed before its job was done"
        done, value = pickle.loads(sent)
        assert done, value
        return value


def in_child(job: Callable[[], object]) -> Any:
    """Return what the job returns in a forked child."""
    return Child(job).result()


def _outcome(job: Callable[[], object]) -> tuple[bool, object]:
    try:
        return True, job()
    except BaseException:
        return False, traceback.format_exc()
