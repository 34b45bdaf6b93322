"""Finding this service's tokens where they should not be: in files, directories and streams.

By their pattern, and by their signature: what has it is or was a token of this service. Of what lacks it, only the
store can tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from .signing import TAG_LENGTH
from .tokens import ID_LENGTH, SECRET_LENGTH, Read, TokenFormat, digest

#: Bytes that are read at a time: all that is ever held of a file, with the length of a token.
CHUNK = 1 << 20
#: Directories that are not looked into: what they keep is compressed, and ``git log -p`` shows it.
SKIPPED = {".git"}


class Found(NamedTuple):
    """A text that looks like a token of the service, and in which line it begins; without the text itself."""

    line: int
    read: Read
    #: Whether one of the service's keys has signed it.
    signed: bool


def find_tokens(file: IO[bytes], tokens: TokenFormat, *, chunk: int = CHUNK) -> Iterator[Found]:
    """What looks like a token of this service in ``file``, whatever else is there. Raises OSError as reading does."""
    pattern = re.compile(
        b"%s_[0-9A-Za-z]{%d}_[0-9A-Za-z]{%d}" % (tokens.prefix.encode(), ID_LENGTH, SECRET_LENGTH + TAG_LENGTH)
    )
    line, held = 1, b""
    while read := file.read(chunk):
        # In UTF-16, which some shells write, there is a zero byte between the letters.
        held += read.replace(b"\0", b"")
        at, counted = 0, 0
        while match := pattern.search(held, at):
            text = match[0].decode("ascii")
            result = tokens.examine(text)
            line, counted = line + held.count(b"\n", counted, match.start()), match.start()
            if isinstance(result, Read):
                yield Found(line, result, signed=True)
            elif result is not None and result.token_id is not None:
                yield Found(line, Read(result.token_id, digest(match[0])), signed=False)
            at = match.start() + 1  # what only looks like a token may hold the beginning of one
        # Nothing less than a whole token is left over, so none is found twice.
        done = max(counted, len(held) - tokens.length + 1)
        line += held.count(b"\n", counted, done)
        held = held[done:]


def walk(path: str, unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """``path`` itself, or the files in that directory and all below it, in the order of their names.

    Links are not followed, and what is no file, such as a pipe, is left out, unless ``path`` is one itself. A directory
    that cannot be read is passed over, once ``unreadable`` is told why.
    """
    if not os.path.isdir(path):
        yield path
        return
    # Not os.walk, which before Python 3.12 calls itself for each level, and so gives up some hundred levels down.
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
