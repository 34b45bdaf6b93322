"""What strangers can send, and what a database may hold, made up and judged by a second opinion.

Each module here is one target. Its ``test_one_input`` takes bytes, as libFuzzer gives them, and raises AssertionError
where tokenguard and a plain, slow rendering of the same rule disagree. ``python -m tests.fuzz`` runs them under
atheris; ``tests/test_fuzz.py`` runs the corpus and some thousand variants of it, without.
"""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
#: Each is a module of this package.
TARGETS = ("credential", "jwt", "scopes", "shortcut", "stored", "text")


def read_corpus(target: str) -> list[bytes]:
    """The inputs that were found to be of interest: one on each line, with escapes as Python writes them."""
    lines = (CORPUS / f"{target}.txt").read_text("ascii").splitlines()
    return [line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines]


def write_corpus(target: str, inputs: set[bytes]) -> None:
    """The same, written down, the shortest first."""
    lines = [data.decode("latin-1").encode("unicode_escape").decode("ascii") for data in sorted(inputs, key=_simplest)]
    (CORPUS / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")


def fields(data: bytes, count: int) -> list[str]:
    """``count`` texts out of the bytes: what stands between vertical bars, which mean nothing to anybody here.

    Bytes that are not UTF-8 become lone surrogates: no server hands those over, and nothing may break of them.
    """
    found = data.decode("utf-8", "surrogateescape").split("|", count - 1)
    return found + [""] * (count - len(found))


def number(text: str) -> int:
    """Any text as a number, for what has to be chosen."""
    return ord(text[0]) if text else 0


def _simplest(data: bytes) -> tuple[int, bytes]:
    return len(data), data
