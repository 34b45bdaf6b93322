"""What callers see while PostgreSQL and Redis go away and come back: ``python -m bench.outage [GRACE]``.

A Flask service under gunicorn (2 workers of 4 threads, STALENESS 1), asked about 500 times a second; prints what each
second's requests were answered. ``GRACE`` is STALE_GRACE, 0 without it.

``python -m bench.outage killed`` kills its workers after 100 seconds of that, and prints what of the tokens' use is
lost; ``stopped`` stops the server instead.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from tests.outage import Fleet, Step, fleet, play

STEPS: list[Step] = [
    (4, "PostgreSQL is killed", lambda fleet: fleet.database.kill()),
    (9, "PostgreSQL is started", lambda fleet: fleet.database.start()),
    (14, "Redis is killed", lambda fleet: fleet.redis.kill()),
    (18, "Redis is started", lambda fleet: fleet.redis.start()),
    (22, "Redis hangs", lambda fleet: fleet.redis.signal(signal.SIGSTOP)),
    (26, "Redis goes on", lambda fleet: fleet.redis.signal(signal.SIGCONT)),
    (30, "PostgreSQL hangs", lambda fleet: fleet.database.signal(signal.SIGSTOP)),
    (36, "PostgreSQL goes on", lambda fleet: fleet.database.signal(signal.SIGCONT)),
]
SECONDS = 42
KINDS = ("good", "rated", "revoked", "unknown", "forged", "victim")


def table(fleet: Fleet) -> str:
    """One line for each second: how often each answer came, by the kind of token, and how long the slowest took."""
    happened = {int(at): what for at, what, _ in STEPS}
    lines = [f"{'s':>3} " + " ".join(f"{kind:>17}" for kind in KINDS) + "   slowest"]
    for second in range(SECONDS):
        cells = []
        for kind in KINDS:
            counts = sorted(fleet.statuses(kind, since=second, before=second + 1).items())
            cells.append(" ".join(f"{status}:{count}" for status, count in counts))
        slowest = max((seen.took for seen in fleet.seen if second <= seen.at < second + 1), default=0)
        row = f"{second:3} " + " ".join(f"{cell:>17}" for cell in cells) + f" {slowest * 1000:6.0f} ms"
        lines.append(f"{row}  {happened.get(second, '')}".rstrip())
    return "\n".join(lines)


def use(how: str) -> None:
    """The recorded use of two tokens after the workers have ended, beside the requests that were made."""
    with fleet() as running:
        play(running, [], 100)
        if how == "killed":
            for pid in running.workers:
                os.kill(pid, signal.SIGKILL)
        else:
            running.stop()
        for kind in ("good", "rated"):
            (counted, last), (sent, at) = running.use(kind), running.answered(kind)
            print(f"{how}: {sent} requests, {sent - counted} not on record; last use {at - last:.1f} s later than that")


def main(grace: str = "0") -> None:
    logging.disable()
    if grace in ("killed", "stopped"):
        use(grace)
        return
    with fleet(STALE_GRACE=grace) as running:
        play(running, STEPS, SECONDS)
    print(table(running))
    late = running.too_late(1.0)
    print(
        f"{len(running.revoked)} revoked under load; let in later than commit + 1 s: {len(late)}", max(late, default="")
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
