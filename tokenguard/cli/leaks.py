"""When a token has leaked: ``scan`` finds it, ``pattern`` tells others how to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from ..clock import now
from ..errors import SchemaError, StoreError, StoreUnavailable, UnknownToken
from ..logs import redact_tokens
from ..patterns import RULES, token_pattern
from ..records import ALIVE, Record
from ..scan import Found, files_in, find_tokens
from ..secret import redact
from ..tokens import Read
from .arguments import as_json
from .base import Backend, Failure, Group, actor, pass_backend
from .output import print_json, printable, say

#: Shown in place of a state for a token that is signed here, but not on record.
UNKNOWN = "unknown"
#: How many characters of a place an event records, counted from its end.
PLACE = 200
group = Group()


@group.command()
@click.option("--for", "scanner", type=click.Choice(list(RULES)), help="Print a rule for this scanner.")
@pass_backend
def pattern(backend: Backend, scanner: str | None) -> None:
    """Print the pattern of tokens, for scanners.

    That is a regular expression or, with --for, a rule.
    """
    prefix = backend.prefix
    click.echo(RULES[scanner](prefix).rstrip("\n") if scanner else token_pattern(prefix))


@group.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
@click.option("--revoke", is_flag=True, help="Revoke the live tokens that are found.")
@as_json
@pass_backend
def scan(backend: Backend, paths: tuple[str, ...], revoke: bool, as_json: bool) -> None:
    """Find tokens of this service in files.

    Reads files, all files of directories, or (-) standard input.

    Exit status 1 means that live tokens were found, or that something could not be read.
    """
    scanning = _Scan(backend, revoke)
    for path in paths:
        for fields in scanning.look_into(path):
            print_json(fields, indent=None) if as_json else click.echo(printable(_line(fields)))
    scanning.conclude()


class _Scan:
    """What one run has found."""

    def __init__(self, backend: Backend, revoke: bool) -> None:
        self._backend = backend
        self._revoke = revoke
        self._tokens = backend.reader
        self._store = backend.store  # checked before anything is read
        #: What became of each token, by its id and digest: one token may be found in many places.
        self._known: dict[Read, dict[str, Any]] = {}
        #: How many texts only look like a token: no key of this service has signed them, nor are they on record.
        self._strange = 0
        self._unread = 0

    def look_into(self, path: str) -> Iterator[dict[str, Any]]:
        """The tokens in this file or directory, place by place, as JSON members."""
        for name in ["-"] if path == "-" else files_in(path, self._complain):
            shown = "<stdin>" if name == "-" else _printable(name)
            try:
                with _opened(name) as file:
                    for found in find_tokens(file, self._tokens):
                        if (known := self._judge(found, f"{shown}:{found.line}")) is not None:
                            yield {"path": shown, "line": found.line, **known}
            except OSError as error:
                error.filename = error.filename or name
                self._complain(error)

    def conclude(self) -> None:
        """Say what was found; raises Failure if somebody has to do something."""
        if self._strange:
            message = (
                f"Neither signed by a configured key nor on record: {self._strange}. Unless they belong to "
                "another service, check that TOKENGUARD_SIGNING_KEY and the database are this service's."
            )
            say(self._backend.name_options(message))
        live = [known for known in self._known.values() if known["state"] in ALIVE]
        problems = []
        if live:
            problems.append(f"live tokens found: {len(live)}, {self._what_became_of(live)}")
        if self._unread:
            problems.append(f"could not be read: {self._unread}")
        if problems:
            raise Failure("; ".join(problems))
        prefix = self._tokens.prefix
        say(f"No live token with the prefix {prefix} found; {len(self._known)} have ended or are unknown.")

    def _what_became_of(self, live: list[dict[str, Any]]) -> str:
        if not self._revoke:
            return "revoke them with --revoke"
        left = [known for known in live if not known["revoked"]]
        return f"{len(left)} of them could not be revoked" if left else "now revoked"

    def _judge(self, found: Found, place: str) -> dict[str, Any] | None:
        """Return what is shown of a text, None if it is no token of this service. Revokes a live one if asked to."""
        read = found.read
        if read in self._known:
            return self._known[read]
        try:
            record = self._store.find(read.id)
        except (StoreUnavailable, SchemaError):
            raise  # the other tokens could not be looked up either
        except StoreError as error:
            # A token whose row is damaged is let in nowhere, and must not protect those that are.
            self._unread += 1
            say(f"Cannot look up token {read.id}, found in {place}: {error}")
            return None
        if record is not None and record.token.digest != read.digest:
            record = None
        if record is None and not found.signed:
            self._strange += 1
            return None
        known = self._known[read] = _fields(found, record)
        if self._revoke and known["state"] in ALIVE:
            known["revoked"] = self._end(read.id, place)
        return known

    def _end(self, token_id: str, place: str) -> bool:
        """Revoke a token and return whether that worked; the search goes on even if not."""
        # A file's name must not prevent the revocation because it is too long or looks like a token.
        reason = f"leaked: found in {redact(place)[-PLACE:]}"
        try:
            self._backend.issuer.revoke(token_id, actor=actor(), reason=reason)
        except (StoreError, UnknownToken) as error:
            say(f"Cannot revoke token {token_id}: {error}")
            return False
        return True

    def _complain(self, error: OSError) -> None:
        self._unread += 1
        say(f"Cannot read {_printable(str(error.filename))}: {error.strerror}")


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    # Unbuffered: a buffer waits for a whole chunk, so a token in a stream that does not end would be found much later.
    if name != "-":
        with open(name, "rb", buffering=0) as file:
            yield file
    elif sys.stdin is None:
        raise Failure("there is no standard input to read")
    else:
        yield getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)


def _fields(found: Found, record: Record | None) -> dict[str, Any]:
    token_id = found.read.id
    fields: dict[str, Any] = {"token_id": token_id, "state": UNKNOWN, "client_id": None, "client": None, "name": None}
    if record is not None:
        fields |= {
            "state": record.state(now()).value,
            "client_id": record.client.id,
            "client": record.client.name,
            "name": record.token.name,
        }
    return fields | {"key_configured": found.signed, "revoked": False}


def _line(fields: dict[str, Any]) -> str:
    owner = f" of client {fields['client']}" if fields["client"] else ""
    name = f" ({fields['name']})" if fields["name"] else ""
    key = "" if fields["key_configured"] else ", signed by a key that is not configured here"
    ended = ", revoked now" if fields["revoked"] else ""
    return f"{fields['path']}:{fields['line']}: token {fields['token_id']}{name}{owner}: {fields['state']}{key}{ended}"


def _printable(name: str) -> str:
    # A file's name may hold anything: control characters for a terminal, bytes that are not text, or a token.
    return redact_tokens(printable(name))
