"""A process that revokes tokens at a steady rate: ``python -m bench.revoking URL RATE SECONDS``."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from tokenguard import EventKind
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.store import Change

from .fixtures import ACTOR

#: How many transactions a second share the revocations.
TRANSACTIONS = 20


def revoke(url: str, rate: int, seconds: float) -> int:
    """Revoke ``rate`` tokens a second, oldest first; returns how many were revoked."""
    store = SQLAlchemyStore(url)
    at_once = max(1, rate // TRANSACTIONS)
    waiting = [record.token for record in store.records() if record.token.revoked_at is None]
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        with store.transaction() as tx:
            at = tx.now()
            for token in waiting[done : done + at_once]:
                change = Change(EventKind.TOKEN_REVOKED, at, ACTOR, {"revoked_at": [None, at]})
                tx.put_token(replace(token, revoked_at=at), change)
        done += at_once
        time.sleep(max(0.0, begun + done / rate - time.monotonic()))
    return done


if __name__ == "__main__":
    print(revoke(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
