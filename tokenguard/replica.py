"""A read replica of the database: asked first, and waited for less long than the primary."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from .breaker import Breaker, NotAsked
from .errors import SchemaError, StoreError
from .forks import in_children

log = logging.getLogger("tokenguard")
T = TypeVar("T")
#: Seconds for which a read replica that could not be asked is left alone.
REPLICA_PAUSE = 10.0
#: Seconds after which nobody joins those who still wait for a replica: there is the primary.
REPLICA_PATIENCE = 0.3


class Replica:
    """May be asked in place of the primary, as long as it answers."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.breaker = Breaker(monotonic, counts=StoreError, patience=REPLICA_PATIENCE, pause=REPLICA_PAUSE)
        in_children(self.breaker.forget)

    def ask(self, question: Callable[..., T], *args: object) -> T | None:
        """What it answers; None if it cannot be asked, could not be asked lately, or lets others wait."""
        try:
            return self.breaker.call(question, *args)
        except NotAsked:
            return None
        except StoreError as error:
            # It is not set up itself, as the error would advise.
            why = "it does not have the tables as they are now" if isinstance(error, SchemaError) else error
            log.warning("the read replica is left alone for %.0f s: %s", REPLICA_PAUSE, why)
            return None
