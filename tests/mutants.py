"""``python -m tests.mutants [MODULE ...]``: whether the fast tests notice when a line of the core does something else.

Runs the mutants that mutmut (set up in pyproject.toml) makes, and prints, as Markdown, how many of each module the
tests kill, and every one that they let live. What it has found out stays in ``mutants/``; ``--again`` asks only for
those that are not killed yet. A mutant that never comes to an end is dead.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

MODULES = [
    path.removeprefix("tokenguard/").removesuffix(".py")
    for path in tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
]
#: Where the changed code is, and what became of each mutant.
MUTANTS = Path("mutants")
#: mutmut's words for a mutant that some test noticed, be it by never coming to an end.
DEAD = {"killed", "timeout", "segfault", "caught by type check"}


def main() -> None:
    """Run what is asked for and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"some of {', '.join(MODULES)}; all without any")
    parser.add_argument("--again", action="store_true", help="only those not killed yet, as after a new test")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is known")
    given = parser.parse_args()
    if unknown := set(given.modules) - set(MODULES):
        parser.error(f"there is no module {unknown.pop()}; there are {', '.join(MODULES)}")
    modules = given.modules or MODULES
    if not given.report:
        _run(modules, given.again)
    sys.stdout.writelines(f"{line}\n" for line in _report(modules))


def _run(modules: Iterable[str], again: bool) -> None:
    MUTANTS.mkdir(exist_ok=True)
    log = MUTANTS / "log.txt"
    # With -P the script's folder is not in sys.path, since what it imports is in mutants/.
    command = [sys.executable, "-P", "tests/mutant_runner.py", *(["--again"] if again else []), *modules]
    with log.open("w") as output:
        if subprocess.run(command, stdout=output).returncode:
            sys.exit(f"the mutants could not be run: see {log}")


def _report(modules: Iterable[str]) -> Iterable[str]:
    results = {module: _results(module) for module in modules}
    yield "| module | mutants | killed | alive | of all killed |"
    yield "|---|---:|---:|---:|---:|"
    for module, found in results.items():
        count = Counter(state in DEAD for _, state in found)
        share = 100 * count[True] / max(1, len(found))
        yield f"| `{module}` | {len(found)} | {count[True]} | {count[False]} | {share:.1f} % |"
    for module, found in results.items():
        if alive := [(name, state) for name, state in found if state not in DEAD]:
            yield f"\n### Alive in `{module}`\n"
            yield from (f"* {_shown(name)}{'' if state == 'survived' else f' ({state})'}" for name, state in alive)


def _results(module: str) -> list[tuple[str, str]]:
    """Return each mutant of the module, with its state."""
    done = subprocess.run(["mutmut", "results", "--all", "true"], text=True, capture_output=True)
    dotted = module.replace("/", ".")
    found = re.findall(rf"^ *(tokenguard\.{dotted}\.\S+): (.+)$", done.stdout, re.MULTILINE)
    return [(name, state.strip()) for name, state in found]


def _shown(name: str) -> str:
    """Return the function, and its lines before and after the change."""
    done = subprocess.run(["mutmut", "show", name], text=True, capture_output=True, check=True)
    before, after = (
        " ".join(
            line.strip() for line in re.findall(rf"^{re.escape(sign)}(?!{re.escape(sign)})(.*)$", done.stdout, re.M)
        )
        for sign in "-+"
    )
    function = name.rpartition(".")[2].partition("__mutmut")[0].replace("xǁ", "").replace("ǁ", ".").removeprefix("x_")
    return f"{function}: `{before}` → `{after}`"


if __name__ == "__main__":
    main()
