"""The secrets that the tests with canaries send, and how the tests look for them."""

from __future__ import annotations

import io
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.utils.log import AdminEmailHandler
from rich.console import Console
from rich.traceback import Traceback

import tokenguard
from tokenguard import (
    MemoryStore,
    SigningKeys,
    StoreUnavailable,
    TokenFormat,
)
from tokenguard.tokens import Read

from .conftest import mistyped

# Each is one run of letters and digits, so that any piece of it is recognized. SECRET_KEY is from Django's settings
# in the tests.
KEY = "CanaryOfTheSigningKey" + "q8Zk3Vt6Lw1Xs9Bn4Dj7Hf2"
OLD_KEY = "CanaryOfTheOldSigningKey" + "m5Gc8Ry1Tp4Uv7Ae2Ko9"
SHORT_KEY = "CanaryOfAShortKey" + "w3Ne6Iq9Zs"
SECRET_KEY = "of the tests alone, and no signing key: 0123456789abcdefghijklmnopqrstuvwxyz"
PIECE = 24
_PACKAGE = Path(tokenguard.__file__).parent
OPTIONS = {"SIGNING_KEY": KEY, "OLD_SIGNING_KEYS": [OLD_KEY]}


class Canaries:
    """The texts that were sent, and the channels that were searched for them."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._pieces: set[str] = set()
        self.add(KEY, OLD_KEY, SHORT_KEY, SECRET_KEY)
        self.channels: set[str] = set()

    def add(self, *texts: str) -> None:
        self.texts.update(texts)
        self._pieces.update(*map(pieces, texts))

    def variants(self, *good: str) -> list[str]:
        """Return these tokens, others that are forged or on no record, and texts that are no tokens at all."""
        tokens = TokenFormat(SigningKeys(KEY))
        fresh = [tokens.mint().text.reveal() for _ in range(7)]
        made = [
            fresh[0],
            mistyped(fresh[1]),
            TokenFormat(SigningKeys("x" * 32)).mint().text.reveal(),
            TokenFormat(SigningKeys(KEY), "other").mint().text.reveal(),
            fresh[2][:-1],
            fresh[3] + "0",
            fresh[4][:60] + "-" + fresh[4][60:],
            fresh[5].replace("_", "."),
            fresh[6] * 3,
        ]
        self.add(*good, *made)
        return [*good, *made]

    def look_at(self, channel: str, shown: object, sign: str) -> None:
        """Check that no piece of a canary was shown there; ``sign`` must be, as proof that this was the right place."""
        text = shown.decode("latin-1") if isinstance(shown, bytes) else str(shown)
        assert sign in text, channel
        self.channels.add(channel)
        if found := pieces(text) & self._pieces:
            at = text.index(found.pop())
            raise AssertionError(f"{channel}: …{text[max(0, at - 500) : at]}(here)")


def pieces(text: str) -> set[str]:
    """Return every piece that is long enough to come from a canary: from a token's secret part, or from a key."""
    runs = re.findall(rf"[0-9A-Za-z]{{{PIECE},}}", text)
    return {run[at : at + PIECE] for run in runs for at in range(len(run) - PIECE + 1)}


@contextmanager
def logged_at_debug() -> Iterator[io.StringIO]:
    """Collect everything that any library logs, with what each record holds besides its message."""
    out = io.StringIO()

    class Everything(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return f"{super().format(record)} {vars(record)!r}"

    handler = logging.StreamHandler(out)
    handler.setFormatter(Everything("%(name)s %(message)s"))
    root = logging.getLogger()
    names = [
        "",
        "werkzeug",
        "sqlalchemy.engine",
        "sqlalchemy.pool",
        "alembic",
        "django",
        "django.db.backends",
        "limits",
    ]
    before = {name: logging.getLogger(name).level for name in names}
    root.addHandler(handler)
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.DEBUG)
        yield out
    finally:
        root.removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def sent_as(text: str) -> list[dict[str, str]]:
    return [{"Authorization": f"Bearer {text}"}, {"Authorization": f"SSWS{text}"}, {"X-API-Key": text}]


def fails(*arguments: Any) -> Any:
    raise RuntimeError("of the view")


@contextmanager
def emailing_errors() -> Iterator[None]:
    handler, reports = AdminEmailHandler(include_html=True), logging.getLogger("django.request")
    reports.addHandler(handler)
    try:
        yield
    finally:
        reports.removeHandler(handler)


def our_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the package's frames in the error's traceback, with their locals, whatever its folder is called."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]


def told_of_ours(error: BaseException) -> str:
    """Return the error, and the package's frames with their locals."""
    package = our_frames(error)
    assert package
    return f"{error!r}" + "".join(f"{frame.name} {frame.locals}" for frame in package)


def told_of_running() -> str:
    """Return the package's functions that run, with their locals, except those called like what they must hold."""
    frames = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)
    package = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    for frame in package:
        for hidden in ("authorization", "environ"):
            (frame.locals or {}).pop(hidden, None)
    return "".join(f"{frame.name} {frame.locals}" for frame in package)


def shown(error: BaseException) -> str:
    """Return the traceback with its locals, as error pages show it."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def drawn(error: BaseException) -> str:
    """Return the traceback with its locals, as rich draws it."""
    out = Console(file=io.StringIO(), width=400)
    picture = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=1000, locals_max_length=1000
    )
    out.print(picture)
    return out.file.getvalue()  # type: ignore[attr-defined]


class Away(MemoryStore):
    """A store that works while ``error`` is not set, and raises that error otherwise."""

    error: Callable[[], BaseException] | None = None

    def standing(self, read: Read, *, primary: bool = False) -> Any:
        if self.error is not None:
            raise self.error()
        return super().standing(read, primary=primary)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        if self.error is not None:
            raise self.error()
        with super().transaction() as tx:
            yield tx


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def environ_with(text: str) -> dict[str, Any]:
    given = {"REQUEST_METHOD": "GET", "PATH_INFO": "/read", "HTTP_AUTHORIZATION": f"Bearer {text}"}
    return {**given, "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.1"}


def failing(store: Away, call: Callable[[], object]) -> None:
    store.error = lambda: StoreUnavailable("connection refused")
    try:
        call()
    finally:
        store.error = None
