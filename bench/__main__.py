"""``python -m bench [PART …]``: measures, and prints the page; all of it at once also goes into RESULTS.md."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .report import Section, page

#: Those that take turns, and how often; and those that do not.
PARTS = {"requests": 500, "throughput": 30, "growth": 200, "memory": None, "feed": None, "revocation": 300}
RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all of them without any")
    parser.add_argument("--rounds", type=int, help="how often there are turns, in the parts that take some")
    parser.add_argument("--out", type=Path, help="where to write the page; RESULTS.md when all parts are run")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"there is no part {unknown.pop()}; there are {', '.join(PARTS)}")
    if given.rounds is not None and given.rounds < 2:
        parser.error("there are no quartiles of fewer than 2 rounds")
    parts = {part: _module(part) for part in given.parts or PARTS}
    for part, module in parts.items():
        if obstacle := getattr(module, "obstacle", lambda: None)():
            parser.error(f"{part} cannot be measured: {obstacle}")
    sections: list[Section] = []
    for part, module in parts.items():
        print(f"{part} ...", file=sys.stderr, flush=True)
        rounds = PARTS[part] and (given.rounds or PARTS[part])
        sections.append(module.run() if rounds is None else module.run(rounds))
    text = page(sections)
    print(text)
    out = given.out or (None if given.parts else RESULTS)
    if out is not None:
        out.write_text(text)


def _module(part: str) -> ModuleType:
    return import_module("bench.requests_" if part == "requests" else f"bench.{part}")


if __name__ == "__main__":
    main()
