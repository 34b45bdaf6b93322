"""The benchmark still runs. Its figures mean nothing here: two rounds each, on a machine that does other things."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PEERS = (
    "authlib",
    "flask_httpauth",
    "flask_jwt_extended",
    "knox",
    "oauth2_provider",
    "okta_jwt_verifier",
    "rest_framework_api_key",
)


@pytest.fixture(scope="module")
def said() -> str:
    """The output of the part about requests where no other guard is installed."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({PEERS!r}))
sys.argv = ["bench", "requests", "--rounds", "2"]
from bench.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "requests ...\n"
    return done.stdout


@pytest.mark.parametrize("framework", ["WSGI", "Flask", "Django", "DRF"])
def test_every_framework_is_measured_beside_its_floor(said: str, framework: str) -> None:
    table = said.partition(f"| {framework}: bare takes ")[2].partition("\n\n")[0]
    statements = dict(re.findall(r"^\| ([^|]+) \|[^|]+\|[^|]+\| ([0-9.]+) \|$", table, re.MULTILINE))
    assert statements["floor"] == statements["floor, refused"] == "0"
    assert statements["floor, not cached"] == "1"
    assert statements.get("floor, with a middleware") == ("0" if framework in {"Django", "DRF"} else None)
    assert statements["**tokenguard**, cached"] == "0"
    assert statements["**tokenguard**, not cached"] == "1"
    assert statements["**tokenguard**, forged"] == "0"


def test_the_first_use_of_a_jwt_is_measured_beside_its_signature_check(said: str) -> None:
    table = said.partition("| WSGI: the first use of a JWT")[2].partition("\n\n")[0]
    found = re.findall(r"^\| ([a-z ]+) \| ([0-9.]+) ", table, re.MULTILINE)
    assert [name for name, _ in found] == [
        "all of it",
        "its signature check",
        "all the rest",
        "all of it where nothing is checked",
    ]
    assert all(float(figure) > 0 for _, figure in found)
    assert re.search(r"^\| WSGI, first use of a JWT, beside its signature check \| ≤ 60 µs \| ", said, re.MULTILINE)


def test_a_guard_that_is_not_installed_is_left_out_with_a_word(said: str) -> None:
    left_out = re.findall(r"^\* Left out: .*, since ([a-z0-9_]+)[a-z_.]* is not installed\.$", said, re.MULTILINE)
    assert set(left_out) == set(PEERS)


def test_a_part_that_is_not_there_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "bench", "request"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert "there is no part request; there are requests, throughput, " in done.stderr


@pytest.mark.parametrize("rounds", ["-1", "0", "1"])
def test_fewer_rounds_than_have_quartiles_are_refused(rounds: str) -> None:
    command = [sys.executable, "-m", "bench", "requests", "--rounds", rounds]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 2
    assert "fewer than 2 rounds" in done.stderr
