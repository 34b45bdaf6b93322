"""``python -m tests.fuzz [TARGET ...] [--seconds N]``: runs targets under atheris, which finds its way by coverage.

What covers something that the corpus does not is put there, as few inputs as do it (libFuzzer's merge). An input
that fails is printed, with the assertion, and the exit status is 1: put it into the corpus with its mend.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from . import TARGETS, read_corpus, write_corpus

#: Longer inputs find nothing new, except at the limit of a credential's length, which the unit tests cover.
MAX_LENGTH = 400
#: An input that takes longer is a finding of its own.
SECONDS_FOR_ONE = 5
#: Runs this module as ``-m`` does, but starts to instrument before the tests' package imports tokenguard.
INSTRUMENTED = """
import atheris, runpy
with atheris.instrument_imports(include=["tokenguard", "tests.fuzz"]):
    runpy.run_module("tests.fuzz", run_name="__main__", alter_sys=True)
"""


def main() -> None:
    """Run the given targets, each in a process of its own, because atheris itself ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; all without any")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--under-atheris", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"there is no target {unknown.pop()}; there are {', '.join(TARGETS)}")
    if given.under_atheris is not None:
        _run_atheris(given.targets[0], given.under_atheris)
    failed = [target for target in given.targets or TARGETS if not _explore(target, given.seconds)]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def _explore(target: str, seconds: int) -> bool:
    """Run one target, and return whether nothing failed."""
    print(f"== {target}, for {seconds} seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix="tg-fuzz-") as folder:
        known, found = Path(folder) / "known", Path(folder) / "found"
        known.mkdir()
        found.mkdir()
        for place, data in enumerate(read_corpus(target)):
            (known / str(place)).write_bytes(data)
        words = Path(folder) / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in import_module(f"tests.fuzz.{target}").DICTIONARY))
        # To merge, libFuzzer starts itself again by the name it was given, which must be that of an executable.
        again = Path(folder) / "again"
        again.write_text(f'#!/bin/sh\nexec {shlex.join(_under_atheris(target))} "$0" "$@"\n')
        again.chmod(0o700)
        limits = [f"-max_len={MAX_LENGTH}", f"-timeout={SECONDS_FOR_ONE}"]
        run = [f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
        good = _atheris(target, str(again), *limits, *run, str(found), str(known))
        if good:
            good = _atheris(target, str(again), *limits, "-merge=1", str(known), str(found))
            write_corpus(target, {path.read_bytes() for path in known.iterdir()})
        for path in Path(folder).glob("*-*"):
            print(f"this input fails: {path.read_bytes()!r}")
    return good


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8"))


def _atheris(target: str, *arguments: str) -> bool:
    return subprocess.run([*_under_atheris(target), *arguments], check=False).returncode == 0


def _under_atheris(target: str) -> list[str]:
    return [sys.executable, "-c", INSTRUMENTED, target, "--under-atheris"]


def _run_atheris(target: str, arguments: Sequence[str]) -> None:
    import atheris
    from joserfc import jws  # noqa: F401 - the hook cannot take a pattern of what this imports, of bytes

    # The guards' log lines about each refusal are of no interest here.
    logging.getLogger("tokenguard").setLevel(logging.CRITICAL)
    atheris.Setup(list(arguments), import_module(f"tests.fuzz.{target}").test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
