"""Finding this service's tokens where they should not be: in files, directories and streams.

They are found by their pattern, and checked by their signature: a text that has it is or was a token of this service.
Whether one without it was, only the store knows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from errno import EAGAIN
from typing import IO, NamedTuple

from .secret import TOKEN_SHAPED
from .tokens import ID_LENGTH, Read, TokenFormat, digest

#: Bytes that are read at a time: never more of a file is held than this and the length of a token.
CHUNK = 1 << 20
#: Directories that are not searched: their content is compressed, and ``git log -p`` shows it.
SKIPPED = {".git"}


class Found(NamedTuple):
    """A text that looks like a token of the service, with the line in which it begins, but without the text itself."""

    line: int
    read: Read
    #: Whether one of the service's keys has signed it.
    signed: bool


def find_tokens(file: IO[bytes], tokens: TokenFormat, *, chunk: int = CHUNK) -> Iterator[Found]:
    """Yield what looks like a token of this service in ``file``, in any content.

    Raises OSError as reading does, and BlockingIOError for a stream that says that there is nothing to read yet.
    """
    pattern = re.compile(f"{tokens.beginning}{TOKEN_SHAPED.pattern}".encode())
    line, held = 1, b""
    while read := file.read(chunk):
        # UTF-16, which some shells write, has a zero byte between the letters.
        held += read.replace(b"\0", b"")
        at, counted = 0, 0
        while match := pattern.search(held, at):
            text = match[0].decode("ascii")
            signed = isinstance(tokens.examine(text), Read)
            line, counted = line + held.count(b"\n", counted, match.start()), match.start()
            token_id = text.removeprefix(tokens.beginning)[:ID_LENGTH]
            yield Found(line, Read(token_id, digest(match[0])), signed)
            at = match.start() + 1  # what only looks like a token may hold the beginning of one
        # What is left over is less than a whole token, so none is found twice.
        done = max(counted, len(held) - tokens.length + 1)
        line += held.count(b"\n", counted, done)
        held = held[done:]
    if read is None:  # otherwise what is still to come would count as searched
        raise BlockingIOError(EAGAIN, "it does not wait for its input (O_NONBLOCK)")


def files_in(path: str, unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """Yield ``path`` itself or, if it is a directory, the files in it and all below, in the order of their names.

    Links are not followed, and anything but a file, such as a pipe, is left out, unless ``path`` is one itself. A
    directory that cannot be read is skipped, after ``unreadable`` was called with the error.
    """
    if not os.path.isdir(path):
        yield path
        return
    # Not os.walk, which before Python 3.12 recurses at each level, and so fails some hundred levels down.
    waiting = [path]
    while waiting:
        below: list[str] = []
        try:
            with os.scandir(waiting.pop()) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable(error)
            continue
        for entry in found:
            try:
                if entry.is_file(follow_symlinks=False):
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False) and entry.name not in SKIPPED:
                    below.append(entry.path)
            except OSError as error:
                unreadable(error)
        waiting += reversed(below)
