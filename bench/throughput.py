"""How many requests a second two workers of gunicorn answer under wrk, with a guard and without."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from operator import truediv
from pathlib import Path

from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import issue
from .measure import Spread
from .report import Section, Target
from .servers import gunicorn
from .services import DATABASE, TOKEN

METHOD = """\
A small JSON view behind gunicorn with two workers, loaded by wrk with {connections} connections. The same workers serve
it with a guard, without, and with the floor of [plain WSGI](#each-request) around it, at three paths, to which one run
of wrk turns for {turn} s each, {rounds} times, in random order; the ratios are taken in each round. All are sent the
token. wrk runs on the same machine and takes its share of it, and gunicorn has a look at each header, also at those two
that a guard adds."""

#: What must be reached: requests with a guard ÷ without.
RATIO = 0.97
CONNECTIONS = 8
#: How long one turn lasts, in seconds. A guarded one begins with a reading of the feed, as the last was in an earlier
#: turn: in a second there are two of them, as in any second of a service.
TURN = 1
PATHS = ("/bare", "/floor", "/guarded")
KINDS = ("sync", "gthread")
APPS = {"Flask": "bench.services:flask_app()", "Django": "bench.services:django_app()"}


def obstacle() -> str | None:
    """Return what keeps this part from running."""
    return None if shutil.which("wrk") else "the load comes from wrk, which is not installed (apt-get install wrk)"


def run(rounds: int) -> Section:
    """Measure every framework with every kind of worker."""
    method = METHOD.format(connections=CONNECTIONS, turn=TURN, rounds=rounds)
    section = Section("Throughput under wrk", method)
    rows = [row for framework in APPS for kind in KINDS for row in _measured(framework, kind, rounds, section)]
    section.add_table(("", *(f"{path[1:]}, requests/s" for path in PATHS), "floor ÷ bare", "guarded ÷ bare"), rows)
    return section


def _measured(framework: str, kind: str, rounds: int, section: Section) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="tokenguard-bench-") as folder:
        url = f"sqlite:///{folder}/tokens.db"
        store = SQLAlchemyStore(url)
        store.upgrade()
        (token,) = issue(store, 1)
        store.close()
        arguments = ("--workers", "2", "--worker-class", kind, *(["--threads", "4"] if kind == "gthread" else []))
        with gunicorn(APPS[framework], *arguments, environ={DATABASE: url, TOKEN: token}) as port:
            _load(port, token, 2)  # warm
            rates = _load(port, token, round(len(PATHS) * TURN * rounds) + 1)
    bare, by_hand, guarded = rates
    least, ratio = (Spread.of(map(truediv, rate, bare)) for rate in (by_hand, guarded))
    name = f"{framework}, {kind} workers"
    section.targets.append(Target(f"{name}: guarded ÷ bare", f"≥ {RATIO}", ratio.show(3), ratio.median >= RATIO))
    yield [name, *(Spread.of(rate).show(0) for rate in rates), least.show(3), ratio.show(3)]


def _load(port: int, token: str, seconds: int) -> list[list[float]]:
    """Return requests a second at each path in each turn; raises RuntimeError if any answer is not 200."""
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--header", f"Authorization: Bearer {token}", "--script", str(Path(__file__).with_name("turns.lua"))]
    command += [f"http://127.0.0.1:{port}", "--", str(TURN), *PATHS]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    turns = re.findall(r"^(/\w+) ([0-9.]+)$", said, re.MULTILINE)
    if not turns or "Non-2xx" in said:
        raise RuntimeError(said)
    return [[float(rate) for path, rate in turns if path == wanted] for wanted in PATHS]
