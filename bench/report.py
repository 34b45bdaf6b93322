"""The results as a page of Markdown: tables, targets, and what they were measured on."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

#: Packages whose versions are named, where they are installed.
PACKAGES = (
    "wsgi-tokenguard",
    "Flask",
    "Werkzeug",
    "itsdangerous",
    "Django",
    "djangorestframework",
    "SQLAlchemy",
    "psycopg",
    "redis",
    "gunicorn",
    "Flask-HTTPAuth",
    "Flask-JWT-Extended",
    "PyJWT",
    "Authlib",
    "okta-jwt-verifier",
    "djangorestframework-api-key",
    "django-rest-knox",
    "django-oauth-toolkit",
)


@dataclass(frozen=True)
class Target:
    """What had to be reached, and what was."""

    what: str
    asked: str
    measured: str
    met: bool


@dataclass
class Section:
    """One part's page: how it was measured, its tables, and its targets."""

    title: str
    method: str
    tables: list[str] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    #: Versions of what only this part has used.
    versions: list[str] = field(default_factory=list)

    def add_table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table whose first column is text, and whose other columns are figures."""
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
        self.tables.append("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def __str__(self) -> str:
        return "\n\n".join([f"## {self.title}", self.method, *self.tables])


def page(sections: Sequence[Section]) -> str:
    """Return the whole page, the targets first."""
    targets = [target for section in sections for target in section.targets]
    summary = Section("Targets", "Each is explained below.")
    summary.add_table(
        ("", "target", "measured", "met"),
        [(target.what, target.asked, target.measured, "yes" if target.met else "**no**") for target in targets],
    )
    parts = [HEAD, *([str(summary)] if targets else []), *map(str, sections), _machine(sections)]
    return "\n\n".join(parts) + "\n"


HEAD = """\
# What it costs

Written by `make bench`. Everything that is compared was measured in one run, in turns of a few milliseconds and in
random order, since a shared machine is now fast and now slow: trust the ratios and differences of one run, and
compare no figure with one from another run or machine. Figures are medians, with the quartiles in brackets."""


def _machine(sections: Sequence[Section]) -> str:
    versions = [line for section in sections for line in section.versions]
    lines = [
        f"* {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"* Python {platform.python_version()} ({platform.python_implementation()}), {sys.platform}",
        f"* {_processor()}, kernel {platform.release()}",
        *(f"* {line}" for line in dict.fromkeys(versions)),
        "* " + ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name))),
    ]
    return "## Measured on\n\n" + "\n".join(lines)


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else platform.processor()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
