"""The documentation: its examples do what they say, and it names all that there is.

``make docs`` builds it, and fails on any warning.
"""

from __future__ import annotations

import doctest
import importlib
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest
from sybil import Document, Example, Region
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

import tokenguard.django
from tokenguard import Guard, Issuer, MemoryStore, Requirement, SigningKeys, TokenFormat, UsageLog, config
from tokenguard.cli import command_tree
from tokenguard.clock import DAY
from tokenguard.prune import prune
from tokenguard.sqlalchemy import SQLAlchemyStore
from tokenguard.usage import end_if_idle

from .conftest import KEY, StoppedClock

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# The addresses on the pages, Flask's and Django's: each stands for the one where the test's server listens.
ADDRESSES = r"127\.0\.0\.1:(?:5000|8000)"
# Commands that start a server, and what the test appends to them to get a free port.
SERVERS = {r"flask\b.* run\b": ["--port", "0"], r"python manage\.py runserver\b": ["--noreload", "127.0.0.1:0"]}

# Variables that a reader's environment does not have, and those that would change how output looks.
FOREIGN = r"TOKENGUARD_|FLASK_|DJANGO_|PYTEST_ADDOPTS|PY_COLORS|FORCE_COLOR|TTY_"

# Values that differ from run to run. A page shows such a value as it once was, and may use it in later commands.
NAMED = {
    "token": r"[a-z0-9]{1,16}_[0-9A-Za-z]{16}_[0-9A-Za-z]{75}",
    "key": r"\b(?:[0-9A-Za-z]{11}-){3}[0-9A-Za-z]{11}\b",
    "id": r"\b[0-9A-Za-z]{16}\b",
}
FREE = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "day": r"\d{4}-\d\d-\d\d(?!T)",
    "date": r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
    "version": r"(?:Werkzeug|Python)/[\d.]+",
    "rule": r"─+",
    "actor": r"\bcli:[\w.-]+",
    "seconds": r"\b\d+\.\d\ds\b",
    "wait": r"(?:(?<=Retry-After: )|(?<=again in ))\d+",
}
PIECES = re.compile(
    "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in {**NAMED, **FREE, "any": r"\.\.\.", "space": r"\s+"}.items())
)


class Shell:
    """Runs a page's commands in order, as its reader would, and compares what they print with what the page says.

    Each command sees the environment that the one before it left. Standard output and standard error are one text, as
    in a terminal. A server stays up until the page's end or the next one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not re.match(FOREIGN, name)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ |= {"PATH": path, "HOME": str(folder), "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
        (folder / ".curlrc").write_text("silent\n")
        self.status = 0
        self.known: dict[str, str] = {}
        self.server: subprocess.Popen[str] | None = None
        self.address = self.shown = "(there is no server yet)"

    def __call__(self, example: Example) -> str | None:
        """Evaluate a block for Sybil: return None if it is right, or what is wrong with it."""
        for command, expected in commands(str(example.parsed)):
            if command.startswith("pip install "):
                continue
            printed = self._run(command).strip()
            match = self._pattern(expected.strip()).fullmatch(printed)
            if match is None or not self._same(expected, match):
                return f"$ {command}\n--- the page says:\n{expected}\n--- it printed:\n{printed}"
        return None

    def close(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate()

    def _run(self, command: str) -> str:
        for shown in sorted(self.known, key=len, reverse=True):
            command = command.replace(shown, self.known[shown])
        for server, free_port in SERVERS.items():
            if re.match(server, command):
                return self._serve([*shlex.split(command), *free_port])
        command = re.sub(ADDRESSES, self.address, command)
        after = self.folder / ".environ"
        script = f"(exit {self.status})\n{command}\nstatus=$?\nenv -0 > {after}\nexit $status"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        self.status = done.returncode
        self.environ = dict(line.split("=", 1) for line in after.read_text().split("\0") if line)
        return done.stdout.replace(self.address, self.shown)

    def _serve(self, command: list[str]) -> str:
        self.close()
        self.server = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.server.stdout is not None
        printed = ""
        for line in self.server.stdout:
            printed += re.sub(r"\x1b\[\d+m", "", line)
            if "CTRL+C" in line or "CONTROL-C" in line:
                break
        if running := re.search(r"(?:Running on|server at) http://(127\.0\.0\.1:\d+)", printed):
            self.address = running[1]
        self.shown = "127.0.0.1:5000" if command[0] == "flask" else "127.0.0.1:8000"
        return printed.replace(self.address, self.shown)

    @staticmethod
    def _pattern(expected: str) -> re.Pattern[str]:
        parts, end = [], 0
        for piece in PIECES.finditer(expected):
            kind = str(piece.lastgroup)
            varying = {"any": ".*?", "space": r"\s+"} | FREE | {name: f"({shown})" for name, shown in NAMED.items()}
            parts += [re.escape(expected[end : piece.start()]), varying[kind]]
            end = piece.end()
        return re.compile("".join(parts) + re.escape(expected[end:]), re.DOTALL)

    def _same(self, expected: str, match: re.Match[str]) -> bool:
        """Whether equal values on the page are equal here, too; remembers which stands for which."""
        shown = [piece[0] for piece in PIECES.finditer(expected) if piece.lastgroup in NAMED]
        return all(self.known.setdefault(name, real) == real for name, real in zip(shown, match.groups(), strict=True))


def commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that follows it."""
    for part in re.split(r"^\$ ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def python_blocks(document: Document) -> Iterable[Region]:
    """Python blocks are run here, but one that begins with the name of a file becomes that file, or its end."""
    parser = PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for region in parser(document):
        if isinstance(region.parsed, str) and re.match(r"# [\w/]+\.py(, at its end)?\n", region.parsed):
            region.evaluator = write_file
        yield region


def write_file(example: Example) -> None:
    name, _, at_its_end = str(example.parsed).partition("\n")[0].removeprefix("# ").partition(", ")
    with Path(name).open("a" if at_its_end else "w") as file:
        file.write(str(example.parsed))


@pytest.fixture
def same_level_of_the_log() -> Iterator[None]:
    """Restore the root logger's level: a page that sets up logging must not do so for the tests after it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.mark.usefixtures("same_level_of_the_log")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands begin with none of the options set; Python begins with a signing key, and keeps tokens in memory."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    monkeypatch.setenv("TOKENGUARD_SIGNING_KEY", KEY)
    monkeypatch.setenv("TOKENGUARD_DATABASE_URL", "memory://")
    document = Document.parse(str(page), python_blocks, CodeBlockParser("console", shell), SkipParser())
    document.namespace |= {"__name__": "example", "page": page}
    try:
        for example in document.examples():
            example.evaluate()
    finally:
        shell.close()


def test_every_option_is_described() -> None:
    page = (DOCS / "configuration.md").read_text()
    for word in config._READERS:
        assert f"\n## `{config.PREFIX}{word}`\n" in page


def test_every_system_check_is_described() -> None:
    described = re.findall(r"^\| `(tokenguard\.[EW]\d+)` \|", (DOCS / "django.md").read_text(), re.MULTILINE)
    sources = [path.read_text() for path in Path(tokenguard.django.__file__).parent.glob("*.py")]
    given = re.findall(r'id="(tokenguard\.[EW]\d+)"', "".join(sources))
    assert sorted(described) == sorted(set(given))


def test_every_command_is_described_and_run() -> None:
    page = (DOCS / "cli.md").read_text()
    tree = command_tree(lambda: (config.Options(), MemoryStore()))
    for path, command in leaves(tree, "tokenguard"):
        assert re.search(rf"^## `{path}\b", page, re.MULTILINE), path
        assert re.search(rf"^\$ (.*[ |(])?{path}\b", page, re.MULTILINE), path
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[0] in page, (path, option.opts)


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, f"{path} {name}")
    else:
        yield path, command


def test_what_is_quoted_of_the_benchmark_is_of_its_last_run() -> None:
    results = (DOCS.parent / "bench" / "RESULTS.md").read_text()

    def figures(row: str) -> list[float]:
        cells = re.findall(rf"^\| {row} \|(.*)$", results, re.MULTILINE)[0]
        return [float(figure.replace(",", "")) for figure in re.findall(r"(?:^|\|) *([\d.,]+)", cells)]

    count, _, median, most = figures("with Redis, refused from")
    _, _, median_alone, most_alone = figures("without Redis, refused from")
    size, all_of_them = figures("resident set")
    page = " ".join((DOCS / "production.md").read_text().split())
    assert (
        f"after {median:.0f} ms (the median of {count:.0f} revocations; {most:.0f} ms at most), "
        f"and without it after {median_alone:.0f} ms ({most_alone:.0f} ms at most)" in page
    )
    assert f"{size / 1000:.1f} kB for each token that is remembered and was just used, {all_of_them:.0f} MiB" in page


def test_the_lines_to_watch_in_the_log_are_those_that_it_has() -> None:
    """Alerts are set on them: each beginning on the page is that of a text in the code."""
    section = (DOCS / "production.md").read_text().partition("## What to watch")[2].partition("\n## ")[0]
    watched = re.findall(r"`([a-z][^`]* [^`]*)`", section)
    code = "".join(path.read_text() for path in Path(tokenguard.__file__).parent.rglob("*.py"))
    assert len(watched) == 17
    for line in watched:
        assert re.search('"' + ".{1,30}".join(map(re.escape, re.split("…|401|403", line))), code), line


PUBLIC = ["", ".django", ".django.admin", ".django.rest_framework", ".flask", ".sqlalchemy"]


@pytest.mark.parametrize("name", [f"tokenguard{name}" for name in PUBLIC])
def test_every_public_name_is_in_the_api(name: str) -> None:
    page = (DOCS / "api.md").read_text()
    section = page.partition(f".. module:: {name}\n")[2].partition(".. module::")[0]
    named = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", section, re.MULTILINE)
    assert sorted(named) == sorted(importlib.import_module(name).__all__)


def test_the_api_leads_to_what_is_for_tests() -> None:
    assert "(testing.md#reference)" in (DOCS / "api.md").read_text().partition("\n## ")[0]
    section = (DOCS / "testing.md").read_text().partition(".. module:: tokenguard.testing\n")[2]
    named = re.findall(r"^\.\. (?:auto\w+|py:function):: (\w+)", section, re.MULTILINE)
    assert sorted(named) == sorted(importlib.import_module("tokenguard.testing").__all__)


def test_all_that_a_store_takes_and_returns_is_in_the_api() -> None:
    page = (DOCS / "api.md").read_text()
    named = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (?:tokenguard\.store\.)?(\w+)$", page, re.MULTILINE))
    assert named >= set(importlib.import_module("tokenguard.store").__all__)


@pytest.fixture
def roles(postgresql_url: str) -> Iterator[list[SQLAlchemyStore]]:
    """The same store, opened by each of the two roles to which the page on databases grants rights."""
    import psycopg

    store = SQLAlchemyStore(postgresql_url)
    store.upgrade()
    rights = re.findall(r"```sql\n(.*?)```", (DOCS / "databases.md").read_text(), re.DOTALL)[0]
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        for role in ("issuing", "checking"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        connection.execute(rights)
        stores = [SQLAlchemyStore(store.url.set(username=role, password="x")) for role in ("issuing", "checking")]
        yield stores
        for each in (store, *stores):
            each.close()
        connection.execute("DROP OWNED BY issuing, checking; DROP ROLE issuing, checking")


def test_the_rights_on_the_page_are_enough(roles: list[SQLAlchemyStore]) -> None:
    issuing, checking = roles
    tokens, clock = TokenFormat(SigningKeys(KEY)), StoppedClock()
    clock.micros -= 10 * 366 * DAY  # long ago by the database's clock
    issuer = Issuer(issuing, tokens, clock=clock)
    issuer.register("billing", "a", actor="me")
    issued = issuer.issue("billing", "a", idle_timeout=61, actor="me")
    usage = UsageLog(checking, clock=clock)
    guard = Guard(checking, tokens, clock=clock)
    for uses in (1, 2):
        usage.note(guard.admit(issued.text, None), Requirement(("a",)), "192.0.2.7")
        usage.write(everything=True)
        assert sum(checking.use_by_day(issued.token.id).values()) == uses
    end_if_idle(checking, issued.token.id)
    assert checking.records()[0].token.idle_ended_at is not None
    issuer.revoke(issued.token.id, actor="me")
    assert prune(issuing, 86_400, actor="me").tokens == 1


SCRIPTS_THAT_REVOKE = [
    script
    for page in PAGES
    for script in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    if "xargs" in script
]


@pytest.mark.parametrize("script", SCRIPTS_THAT_REVOKE)
def test_a_script_that_could_not_list_what_to_revoke_fails(script: str) -> None:
    assert subprocess.run(["sh", "-c", f"tokenguard() {{ return 1; }}\n{script}"], check=False).returncode == 1
