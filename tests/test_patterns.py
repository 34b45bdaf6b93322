"""The rules for scanners of leaked secrets: read by the parsers of their formats, and by detect-secrets itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tokenguard import MemoryStore, SigningKeys, Store, StoreUnavailable, TokenFormat
from tokenguard.cli import command_tree
from tokenguard.config import Options

from .conftest import KEY


def pattern(*arguments: str, prefix: str = "acme") -> str:
    """Return what the command prints, without a key and without a database."""

    class Away(MemoryStore):
        def check(self) -> None:
            raise StoreUnavailable("there is no database")

    store: Store = Away()
    done = CliRunner().invoke(command_tree(lambda: (Options(prefix=prefix), store)), ["pattern", *arguments])
    assert (done.exit_code, done.stderr) == (0, "")
    return str(done.stdout)


def gitleaks(prefix: str) -> str:
    (rule,) = tomllib.loads(pattern("--for", "gitleaks", prefix=prefix))["rules"]
    assert rule["id"] == f"tokenguard-{prefix}"
    assert rule["keywords"] == [f"{prefix}_"]
    return str(rule["regex"])


def trufflehog(prefix: str) -> str:
    (detector,) = yaml.safe_load(pattern("--for", "trufflehog", prefix=prefix))["detectors"]
    assert detector["keywords"] == [f"{prefix}_"]
    return str(detector["regex"]["token"])


def detect_secrets(prefix: str) -> str:
    source = pattern("--for", "detect-secrets", prefix=prefix)
    names: dict[str, Any] = {}
    exec(source, names)
    (compiled,) = names["TokenguardDetector"].denylist
    return str(compiled.pattern)


def bare(prefix: str) -> str:
    printed = pattern(prefix=prefix)
    assert printed.endswith("\n")
    return printed.removesuffix("\n")


@pytest.mark.parametrize("rule", [bare, gitleaks, trufflehog, detect_secrets])
@pytest.mark.parametrize("prefix", ["tg", "acme2", "0"])
def test_each_rule_matches_what_is_minted_and_nothing_that_is_nearly_so(rule: Any, prefix: str) -> None:
    regex = re.compile(rule(prefix))
    for _ in range(50):
        text = TokenFormat(SigningKeys(KEY), prefix).mint().text.reveal()
        for around in ("{}", "KEY={}", '"{}"', "Bearer {}\n", "https://x/?token={}&y=1", "{}.", "-{}-"):
            match = regex.search(around.format(text))
            assert match is not None
            assert match[match.lastindex or 0] == text
    for near in (
        text[:-1],
        text + "a",
        text.replace("_", "-"),
        "x" + text,
        text[:-5] + "-" + text[-4:],
        text.upper() if prefix != "0" else "1" + text[1:],
        f"{prefix}_{'a' * 15}_{'b' * 75}",
        f"{prefix}_{'a' * 17}_{'b' * 75}",
        f"{prefix}x_{'a' * 16}_{'b' * 75}",
    ):
        assert regex.search(near) is None, near


def test_a_real_scanner_takes_the_rule(tmp_path: Path) -> None:
    minted = TokenFormat(SigningKeys(KEY), "acme").mint()
    (tmp_path / "plugin.py").write_text(pattern("--for", "detect-secrets"))
    (tmp_path / "leak.txt").write_text(f"\nkey: {minted.text.reveal()}\nkey: {minted.text.reveal()[:-1]}\n")
    scan = [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "-p", "plugin.py", "leak.txt"]
    done = subprocess.run(scan, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["results"]["leak.txt"]
    ours = [(item["type"], item["line_number"]) for item in found if item["type"].startswith("tokenguard")]
    assert ours == [("tokenguard API token (acme)", 2)]
