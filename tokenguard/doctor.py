"""What is wrong, or could be better, with a service's configuration and database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from .clock import DAY, SECOND, Clock, now
from .errors import SchemaError, StoreBusy, StoreError
from .events import Change, EventKind
from .policy import Policy
from .records import NewUse, Record, State
from .scopes import ScopeCatalog, Scopes, covers
from .store import Store, Transaction, walk
from .tokens import Client, Token, TokenFormat, random_id

#: By how much clocks may disagree.
CLOCK_TOLERANCE = 5 * SECOND
#: The age below which a token may still come to use what it was granted.
TRIAL = 30 * DAY
#: How many ids a message names.
SHOWN = 3


class _Undone(Exception):
    """Undoes a write that was only made to see whether it can be."""


class Level(StrEnum):
    """How bad a finding is."""

    #: Requests are refused, or decided wrongly.
    ERROR = "error"
    #: It works, and could be better.
    WARNING = "warning"


class Finding(NamedTuple):
    """One thing that was found. ``code`` is a stable name for programs."""

    level: Level
    code: str
    message: str
    advice: str
    #: Whether somebody has to do something: always after an error, and after a warning that breaks a rule of the
    #: service or keeps callers from what they were granted.
    needs_action: bool
    #: The ids of all tokens or clients that it is about.
    ids: tuple[str, ...] = ()


def examine(
    store: Store,
    *,
    tokens: TokenFormat | None,
    catalog: ScopeCatalog,
    policy: Policy,
    clock: Clock = now,
) -> list[Finding]:
    """Return all findings, the worst first. Changes nothing, and raises nothing for a store that is not ready.

    Without findings all is well. Without ``tokens`` (no signing key here) it cannot check whether tokens were signed by
    a key that is dropped.
    """
    try:
        store.check()
        at, here = store.now(), clock()
        # Tokens that have ended are of no interest, and may be most of all.
        records = [record for record in walk(store) if record.ended_at(at) is None]
        store.events(1), store.use_by_day("")  # so that the other tables are read too
    except StoreError as error:
        return [_not_ready(error)]
    active = [record for record in records if record.state(at) == State.ACTIVE]
    lasting = [record for record in active if record.token.successor_id is None]
    findings = [
        *_changes(store),
        *_uses(store, at),
        *_clocks(at, here),
        *_keys(active, tokens),
        *_beyond(active, catalog),
        *_endless(lasting, policy),
        *_idle(records, at),
        *_unused(lasting, catalog, at),
        *_catalog(catalog),
    ]
    return sorted(findings, key=lambda finding: (finding.level != Level.ERROR, not finding.needs_action))


def unused_scopes(record: Record, catalog: ScopeCatalog) -> list[str]:
    """Return the effective scopes of the token that it was never asked for.

    They have the catalogue's names or, without one, are as they were written. A scope that a used one implies counts as
    used: it cannot be taken away without the other.
    """
    effective = catalog.effective(record.token.scopes, record.client.scopes)
    used = catalog.expand(record.use.scopes) if record.use else Scopes()
    names = [name for name in catalog if name in effective] if len(catalog) else effective
    return [name for name in names if not any(covers(name, other) for other in used)]


def _not_ready(error: StoreError) -> Finding:
    if isinstance(error, SchemaError):
        return Finding(Level.ERROR, "schema", str(error), "nothing else can be checked before that is done", True)
    return Finding(Level.ERROR, "store", str(error), "check that the database exists and can be read", True)


def _changes(store: Store) -> Iterator[Finding]:
    try:
        with store.transaction() as tx:
            # Some databases let a transaction begin where nothing can be written, or only an event but no token.
            _try(tx)
            raise _Undone
    except (_Undone, StoreBusy):  # or somebody is just issuing or revoking
        return
    except StoreError as error:
        message = f"clients and tokens cannot be changed from here: {error}"
        advice = "let this user write, unless it is only meant to check tokens"
        yield Finding(Level.WARNING, "not_writable", message, advice, False)


def _try(tx: Transaction) -> None:
    """Write what issuing writes."""
    at, name = tx.now(), random_id()
    change = Change(EventKind.POLICY_REFUSED, at, "doctor")
    tx.put_client(client := Client(random_id(), name, Scopes(), False, at), change)
    tx.put_token(Token(random_id(), client.id, name, Scopes(), random_id(), "", at), change)


def _uses(store: Store, at: int) -> Iterator[Finding]:
    try:
        # For a token that does not exist nothing is written, but a user who may not write gets the error.
        store.record_uses([NewUse(random_id(), at, "", frozenset(), {})])
    except StoreBusy:
        return
    except StoreError as error:
        message = f"the use of tokens cannot be recorded from here: {error}"
        advice = "let this user write the tables of uses: otherwise tokens with an idle timeout end while in use"
        yield Finding(Level.WARNING, "uses_not_written", message, advice, False)


def _clocks(at: int, here: int) -> Iterator[Finding]:
    apart = here - at
    if abs(apart) > CLOCK_TOLERANCE:
        message = (
            f"the clock of this host is {abs(apart) // SECOND} seconds {'ahead of' if apart > 0 else 'behind'} "
            "the database's"
        )
        yield Finding(
            Level.ERROR, "clocks", message, "synchronise both with a time server: expiry depends on them", True
        )


def _keys(active: list[Record], tokens: TokenFormat | None) -> Iterator[Finding]:
    if tokens is None:
        message = "no signing key is configured here: whether a key in use was dropped cannot be checked"
        advice = "set TOKENGUARD_SIGNING_KEY to the service's key, and run this again"
        yield Finding(Level.WARNING, "keys_not_checked", message, advice, False)
        return
    dropped = [record for record in active if record.token.key_fingerprint not in tokens.key_fingerprints]
    message = "signed by a key that is no longer configured, and refused"
    advice = "add the key to TOKENGUARD_OLD_SIGNING_KEYS, or issue new tokens in their place"
    yield from _about_tokens(Level.ERROR, "key_dropped", dropped, message, advice, True)


def _beyond(active: list[Record], catalog: ScopeCatalog) -> Iterator[Finding]:
    clients = {record.client.id for record in active if _exceeds(record, catalog)}
    if clients:
        subject = "1 client has" if len(clients) == 1 else f"{len(clients)} clients have"
        message = f"{subject} active tokens with scopes beyond the client's own: {_some(clients)}"
        advice = 'give the client those scopes ("tokenguard client set-scopes"), or reissue its tokens'
        is_sure = len(catalog) > 0  # a catalogue could say that one scope implies another
        if not is_sure:
            message += "; without a catalogue, also those that another scope implies"
        yield Finding(Level.WARNING, "beyond_client", message, advice, is_sure, tuple(sorted(clients)))


def _exceeds(record: Record, catalog: ScopeCatalog) -> bool:
    ceiling = catalog.expand(record.client.scopes)
    return any(scope not in ceiling for scope in record.token.scopes)


def _endless(lasting: list[Record], policy: Policy) -> Iterator[Finding]:
    endless = [record for record in lasting if record.token.expires_at is None]
    asked = policy.require_expiry or policy.max_lifetime is not None
    message = "without expiry, against the policy" if asked else "without expiry"
    advice = 'issue new ones in their place with "--expires-in"'
    yield from _about_tokens(Level.WARNING, "no_expiry", endless, message, advice, asked)


def _idle(records: list[Record], at: int) -> Iterator[Finding]:
    idle = [record for record in records if record.state(at) == State.IDLE and record.token.idle_ended_at is None]
    message = "beyond the idle timeout and refused; this is recorded for good at the next use"
    advice = "no action is needed; revoke those that nobody will use again"
    yield from _about_tokens(Level.WARNING, "idle", idle, message, advice, False)


def _unused(lasting: list[Record], catalog: ScopeCatalog, at: int) -> Iterator[Finding]:
    old = [record for record in lasting if record.token.created_at <= at - TRIAL]
    unused = [record for record in old if unused_scopes(record, catalog)]
    message = "older than 30 days with scopes that were granted but never used"
    advice = '"tokenguard show" names the scopes; issue a token without them in its place'
    yield from _about_tokens(Level.WARNING, "unused_scopes", unused, message, advice, False)


def _catalog(catalog: ScopeCatalog) -> Iterator[Finding]:
    if not len(catalog):
        message = "there is no catalogue of scopes: a misspelled scope is granted like any other"
        yield Finding(Level.WARNING, "no_catalog", message, "set TOKENGUARD_SCOPES to the service's catalogue", False)


def _about_tokens(
    level: Level, code: str, records: list[Record], message: str, advice: str, needs_action: bool
) -> Iterator[Finding]:
    ids = [record.token.id for record in records]
    if ids:
        subject = "1 token is" if len(ids) == 1 else f"{len(ids)} tokens are"
        yield Finding(level, code, f"{subject} {message}: {_some(ids)}", advice, needs_action, tuple(ids))


def _some(ids: Iterable[str]) -> str:
    shown = sorted(ids)
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
