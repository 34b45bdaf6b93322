"""How much memory a process needs for each token in its cache."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

from tokenguard import Secret
from tokenguard.sqlalchemy import SQLAlchemyStore

from .fixtures import issue, new_guard
from .report import Section
from .servers import ROOT

METHOD = """\
{entries:,} tokens of one client are verified once each, in a new process whose cache is as large as that, with the
tokens in SQLite. What the process has grown by then, divided by their number: by tracemalloc, which counts what Python
has allocated, and by the resident set (VmRSS), which the operating system sees. The tokens' texts were there before."""

ENTRIES = 100_000


def run(entries: int = ENTRIES) -> Section:
    """Measure in one process for each way of counting."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="tokenguard-bench-") as folder:
        texts = _issue(folder, entries)
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        for way, name in (("tracemalloc", "Python's allocations"), ("rss", "resident set")):
            command = [sys.executable, "-m", "bench.memory", folder, way]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            grown = int(done.stdout)
            rows.append([name, f"{grown / entries:,.0f}", f"{grown / 2**20:.1f}"])
    section = Section("Memory", METHOD.format(entries=entries))
    section.add_table(("", "bytes for each token", f"MiB for {entries:,}"), rows)
    return section


def _issue(folder: str, entries: int) -> list[str]:
    store = SQLAlchemyStore(f"sqlite:///{folder}/tokens.db")
    store.upgrade()
    texts = issue(store, entries)
    store.close()
    return texts


def _grown(folder: str, way: str) -> int:
    """Return by how many bytes this process grows while it verifies all tokens."""
    secrets = [Secret(text) for text in json.loads((Path(folder) / "texts.json").read_text())]
    guard = new_guard(SQLAlchemyStore(f"sqlite:///{folder}/tokens.db"), CACHE_SIZE=len(secrets))
    guard.authenticate(secrets[0])  # connects, and creates what is only created once
    if way == "tracemalloc":
        tracemalloc.start()
    before = _size(way)
    for secret in secrets:
        guard.authenticate(secret)
    return _size(way) - before


def _size(way: str) -> int:
    if way == "tracemalloc":
        return tracemalloc.get_traced_memory()[0]
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


if __name__ == "__main__":
    print(_grown(*sys.argv[1:]))
