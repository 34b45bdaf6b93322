"""Run mutants, each in a fork of one process that has collected the tests: a script that ``mutants.py`` starts.

mutmut writes the mutants, and records which tests reach which function. Its own runner starts pytest anew for each
mutant, which takes many times as long as the tests. This script is not part of the package ``tests``: that one is
imported from ``mutants/``, where it finds the changed code.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from mutmut import __main__ as mutmut
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData as Mutants
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import load_stats, status_by_exit_code

#: The exit codes that mutmut records.
KILLED, NO_TESTS, TIMEOUT = 1, 33, 36
#: A test's limit of CPU time: so many times what it took before, plus so many seconds.
CPU_LIMIT = (10, 5)
#: The same in wall-clock time, for a test that waits forever: a busy machine must not come near it.
WALL_LIMIT = (40, 60)


def main() -> None:
    """Make mutants of all modules, run those of the given modules, and leave the results in ``mutants/``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true")
    parser.add_argument("modules", nargs="+")
    given = parser.parse_args()
    _make_mutants()
    # In a fork, so that what the tests leave behind in their process does not reach the mutants.
    if _in_fork("stats", lambda: mutmut.run_stats_collection(mutmut.get_mutant_runner())):
        sys.exit("the tests fail without a mutant")
    load_stats()
    files = [_of(module) for module in given.modules]
    os.chdir("mutants")
    selection = [*config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    sys.exit(pytest.main(["-q", "--rootdir=.", "--tb=short", *selection], plugins=[Runner(files, given.again)]))


def _make_mutants() -> None:
    """Do what ``mutmut run`` does first. A file that has not changed keeps the results of its mutants."""
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.create_mutants(os.cpu_count() or 1)


def _of(module: str) -> Mutants:
    mutants = Mutants(path=f"tokenguard/{module}.py")
    mutants.meta_path = mutants.meta_path.absolute()
    mutants.load()
    return mutants


class Runner:
    """A pytest plugin: instead of every test once, it runs for each mutant the tests that reach it.

    Tests that have killed other mutants come first, the most recent one before all; then come the fastest.
    """

    def __init__(self, files: Iterable[Mutants], again: bool) -> None:
        self.files, self.again = files, again
        #: The tests that have killed a mutant, the most recent first.
        self.killers: list[str] = []
        #: The index of the test that a fork is running, shared with its parent.
        self.place = mmap.mmap(-1, 4)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One test that fails is enough."""
        if report.failed:
            os._exit(KILLED)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all the mutants that were asked for."""
        gc.freeze()  # so that the forks share the memory of what is loaded
        if self._run(session, "", sorted(state().duration_by_test, key=state().duration_by_test.__getitem__)):
            raise pytest.UsageError("the tests fail without a mutant when the fastest run first")
        for mutants in self.files:
            codes = mutants.exit_code_by_key
            names = [name for name, code in codes.items() if not self.again or status_by_exit_code[code] != "killed"]
            codes.update(dict.fromkeys(names))
            for done, name in enumerate(names, 1):
                codes[name] = self._try(session, name)
                mutants.save()
                if codes[name] != KILLED or done % 50 == 0:
                    sys.stderr.write(f"{done}/{len(names)} {name}: {status_by_exit_code[codes[name]]}\n")
        return True

    def _try(self, session: pytest.Session, mutant: str) -> int:
        reach, took = state().tests_by_mangled_function_name[mutant.partition("__mutmut_")[0]], state().duration_by_test
        tests = [test for test in self.killers if test in reach]
        tests += sorted(reach.difference(tests), key=lambda test: took[test])
        if not tests:
            return NO_TESTS
        if code := self._run(session, mutant, tests):
            killer = tests[int.from_bytes(self.place[:])]
            self.killers = [killer, *[test for test in self.killers if test != killer]]
        return code

    def _run(self, session: pytest.Session, mutant: str, names: Sequence[str]) -> int:
        items, took = {item.nodeid: item for item in session.items}, state().duration_by_test
        tests = [items[name] for name in names]

        def run() -> None:
            for place, (test, following) in enumerate(zip(tests, [*tests[1:], None], strict=True)):
                self.place[:] = place.to_bytes(4)
                _limit(took[test.nodeid])
                test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)

        return _in_fork(mutant, run)


def _in_fork(mutant: str, run: Callable[[], object]) -> int:
    """Run this in a fork, with the mutant, and return its exit code as mutmut records it."""
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return TIMEOUT if code in (-signal.SIGALRM, -signal.SIGXCPU) else code
    code = KILLED
    try:
        set_mutant_under_test(mutant)
        run()
        code = 0
    finally:
        os._exit(code)


def _limit(seconds: float) -> None:
    """Limit this process from now on, for a test that takes so long; time already spent does not count."""
    computing = int(time.process_time() + CPU_LIMIT[0] * seconds + CPU_LIMIT[1])
    resource.setrlimit(resource.RLIMIT_CPU, (computing, resource.RLIM_INFINITY))
    signal.alarm(int(WALL_LIMIT[0] * seconds + WALL_LIMIT[1]))


if __name__ == "__main__":
    main()
