"""What tokenguard depends on and is built with: the bounds of its requirements, the lock file, and its audit."""

from __future__ import annotations

import configparser
import io
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools.dist import Distribution

import tokenguard

ROOT = Path(__file__).parent.parent
LOCK = ROOT / ".ci" / "requirements.txt"
#: Extras for those who work on tokenguard, and never for its users.
FOR_DEVELOPERS = {"bench", "docs", "hardening", "release", "test"}
#: Extras for measurements and searches on demand, which take the newest versions of what they need.
UNLOCKED = {"bench", "hardening"}


def config() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def requirements(text: str) -> list[Requirement]:
    """Return the requirements in an option, without tokenguard's own extras."""
    found = [Requirement(line) for line in text.splitlines() if line]
    return [requirement for requirement in found if requirement.name != "wsgi-tokenguard"]


def locked() -> list[Requirement]:
    lines = re.findall(r"^(\S+==.*?) \\$", LOCK.read_text(), re.MULTILINE)
    return [Requirement(line) for line in lines]


def test_what_is_needed_to_run_is_bounded_on_both_sides() -> None:
    setup = config()
    extras = setup["options.extras_require"]
    runtime = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in FOR_DEVELOPERS)]
    for requirement in (each for text in runtime for each in requirements(text)):
        assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}, requirement


def test_the_core_needs_two_packages() -> None:
    names = {requirement.name for requirement in requirements(config()["options"]["install_requires"])}
    assert names == {"itsdangerous", "Werkzeug"}


def test_no_version_of_limits_is_taken_that_hides_why_sentinels_fail() -> None:
    """4.0.1 and older raise a KeyError of their own in place of the client's error."""
    (limits,) = requirements(config()["options.extras_require"]["limits"])
    assert not limits.specifier.contains("4.0.1")


def test_the_licence_is_an_expression_that_tools_can_read() -> None:
    """In setup.cfg, ``license`` would be the free text of old, which an index or an auditor cannot rely on."""
    described, metadata = Distribution(), io.StringIO()
    described.parse_config_files([str(ROOT / "setup.cfg")], ignore_option_errors=True)
    described.metadata.write_pkg_file(metadata)
    assert "License-Expression: BSD-3-Clause" in metadata.getvalue().splitlines()


@pytest.mark.parametrize("python", ["3.11.9", "3.12.4", "3.13.1"])
def test_the_lock_has_all_that_is_asked_for_on_every_python(python: str) -> None:
    environment: dict[str, Any] = {
        **default_environment(),
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
    }
    pins: dict[str, str] = {}
    for pin in locked():
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pins.setdefault(canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")), pin
    setup = config()
    extras = setup["options.extras_require"]
    texts = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in UNLOCKED)]
    for requirement in (each for text in texts for each in requirements(text)):
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement} is not in the lock: make lock"
        assert requirement.specifier.contains(pinned), f"{requirement}, but {pinned} is in the lock: make lock"


def test_the_lock_is_good_on_any_machine() -> None:
    """It holds only versions, markers and hashes: no index, no path, no package without a hash."""
    text = LOCK.read_text()
    entries = re.split(r"^(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 100
    for entry in entries:
        first, *hashes = entry.replace("    # make lock", "").splitlines()
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; [\w.'<>=!* ()]+)? \\", first), first
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), entry


@pytest.fixture(scope="module")
def verdict() -> Callable[[str, str], tuple[int, str]]:
    found: Callable[[str, str], tuple[int, str]] = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["verdict"]
    return found


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD = {"name": "flask", "version": "3.1.2", "vulns": []}
BAD = {"name": "werkzeug", "version": "3.1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.6"], "aliases": []}]}
UNKNOWN = {"name": "sybil", "skip_reason": "Dependency not found on PyPI and could not be audited: sybil (9.0)"}
NO_NETWORK = "Traceback\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='x'): Max retries exceeded"


@pytest.mark.parametrize(
    ("reported", "complaint", "status", "says"),
    [
        (report(GOOD, GOOD), "", 0, "No known vulnerability in 2 packages."),
        (report(GOOD, BAD), "", 1, "werkzeug 3.1.0: PYSEC-1, fixed in 3.1.6"),
        (report(UNKNOWN, BAD), "", 1, "werkzeug 3.1.0: PYSEC-1, fixed in 3.1.6"),
        (report(UNKNOWN, UNKNOWN), "No known vulnerabilities found", 0, "could not be asked"),
        (report(GOOD, UNKNOWN), "", 1, "sybil (9.0)"),
        ("", NO_NETWORK, 0, "could not be asked"),
        ("", "ERROR:pip_audit._cli:invalid requirements input: nothing.txt", 1, "invalid requirements input"),
        ("", "TypeError: of the tool's own", 1, "TypeError"),
    ],
)
def test_only_the_network_excuses_an_audit(
    verdict: Callable[[str, str], tuple[int, str]], reported: str, complaint: str, status: int, says: str
) -> None:
    given, said = verdict(reported, complaint)
    assert given == status
    assert says in said


def test_ci_goes_no_further_without_what_it_cannot_install(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for name, does in {"apt-get": "exit 100", "make": f"echo \"$@\" >> '{made}'", "dirname": "echo .ci"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, ".ci/run"], cwd=ROOT, env={"PATH": str(tmp_path)})
    assert done.returncode == 100
    assert "test" not in made.read_text()


def test_the_notes_are_those_of_the_newest_section() -> None:
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == tokenguard.__version__
    printed = subprocess.run(["make", "notes"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "### Added" in printed
    assert "\n## " not in printed


def test_the_wheel_holds_what_is_read_at_run_time() -> None:
    """A file that is not a module must be in setup.cfg to be installed; ``make dist`` compares the wheel itself."""
    data = config()["options.package_data"]
    patterns = [Path(package.replace(".", "/"), *line.split()) for package in data for line in data[package].split()]
    named = {path for pattern in patterns for path in ROOT.glob(str(pattern)) if path.is_file()}
    package = ROOT / "tokenguard"
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert others == named
    assert {path.parent for path in package.rglob("*.py")} == {path.parent for path in package.rglob("__init__.py")}
