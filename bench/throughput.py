"""How many requests a second two workers of gunicorn answer under wrk, with a guard and without."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial

from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import issue
from .measure import Spread, shuffled
from .report import Section, Target
from .servers import gunicorn
from .services import DATABASE

METHOD = """\
A small JSON view behind gunicorn with two workers, loaded by wrk with {connections} connections. The same workers serve
it with a guard and without, at two paths; each is loaded for {seconds} s, {rounds} times, in random order, and one
ratio is taken in each round. Both are sent the token. wrk runs on the same machine and takes its share of it."""

#: What must be reached: requests with a guard ÷ without.
RATIO = 0.97
CONNECTIONS = 8
KINDS = ("sync", "gthread")
APPS = {"Flask": "bench.services:flask_app()", "Django": "bench.services:django_app()"}


def obstacle() -> str | None:
    """What keeps this part from being run."""
    return None if shutil.which("wrk") else "the load comes from wrk, which is not installed (apt-get install wrk)"


def run(rounds: int, seconds: float = 1) -> Section:
    """Every framework with every kind of worker."""
    method = METHOD.format(connections=CONNECTIONS, seconds=seconds, rounds=rounds)
    section = Section("Throughput under wrk", method)
    rows = [row for framework in APPS for kind in KINDS for row in _measured(framework, kind, rounds, seconds, section)]
    section.add_table(("", "bare, requests/s", "guarded, requests/s", "guarded ÷ bare"), rows)
    return section


def _measured(framework: str, kind: str, rounds: int, seconds: float, section: Section) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="tokenguard-bench-") as folder:
        url = f"sqlite:///{folder}/tokens.db"
        store = SQLAlchemyStore(url)
        store.upgrade()
        (token,) = issue(store, 1)
        store.close()
        arguments = ("--workers", "2", "--worker-class", kind, *(["--threads", "4"] if kind == "gthread" else []))
        with gunicorn(APPS[framework], *arguments, environ={DATABASE: url}) as port:
            load = partial(_load, port, token)
            counts: dict[str, list[float]] = {"bare": [], "guarded": []}
            for path in counts:
                load(path, 1)  # warm
            for path in shuffled(tuple(counts), rounds):
                counts[path].append(load(path, seconds))
    ratio = Spread.of(guarded / bare for bare, guarded in zip(*counts.values(), strict=True))
    name = f"{framework}, {kind} workers"
    section.targets.append(Target(f"{name}: guarded ÷ bare", f"≥ {RATIO}", ratio.show(3), ratio.median >= RATIO))
    yield [name, *(Spread.of(values).show(0) for values in counts.values()), ratio.show(3)]


def _load(port: int, token: str, path: str, seconds: float) -> float:
    """Requests a second; raises RuntimeError if any was not answered with 200."""
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds:g}s"]
    command += ["--header", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}/{path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec: +([0-9.]+)", said)
    if found is None or "Non-2xx" in said:
        raise RuntimeError(said)
    return float(found[1])
