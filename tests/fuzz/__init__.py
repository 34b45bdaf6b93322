"""Fuzz targets: what strangers can send and what a database may hold, checked against a second implementation.

Each module here is one target. Its ``test_one_input`` takes bytes, as libFuzzer gives them, and raises AssertionError
where tokenguard and a plain, slow implementation of the same rule disagree. ``python -m tests.fuzz`` runs them under
atheris; ``tests/test_fuzz.py`` runs the corpus and some thousand variants of it, without atheris.
"""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
#: Each is a module of this package.
TARGETS = ("credential", "jwt", "scopes", "shortcut", "stored", "text")


def read_corpus(target: str) -> list[bytes]:
    """Read the inputs that were found to be interesting: one on each line, with Python's escapes."""
    lines = (CORPUS / f"{target}.txt").read_text("ascii").splitlines()
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines]


def write_corpus(target: str, inputs: set[bytes]) -> None:
    """Write inputs in the form that :func:`read_corpus` reads, the shortest first."""
    lines = [data.decode("latin-1").encode("unicode_escape").decode("ascii") for data in sorted(inputs, key=_simplest)]
    (CORPUS / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def fields(data: bytes, count: int) -> list[str]:
    """Split the bytes into ``count`` strings at vertical bars, which mean nothing to what is tested.

    Bytes that are not UTF-8 become lone surrogates: no server passes those on, and nothing may break because of them.
    """
    found = data.decode("utf-8", "surrogateescape").split("|", count - 1)
    return found + [""] * (count - len(found))


def number(text: str) -> int:
    """Return a number for any text, by which a target chooses something."""
    return ord(text[0]) if text else 0


def _simplest(data: bytes) -> tuple[int, bytes]:
    return len(data), data
