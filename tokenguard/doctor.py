"""What is wrong, or could be better, with a service's configuration, its database and the servers beside that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from .clock import DAY, SECOND, Clock, now
from .errors import ConfigurationError, SchemaError, StoreBusy, StoreError, StoreUnavailable
from .events import Change, EventKind
from .policy import Policy
from .records import NewUse, Record, State
from .replica import OtherHistory
from .schema import INDEXES
from .scopes import ScopeCatalog, Scopes
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


def _error(code: str, message: str, advice: str, ids: Iterable[str] = ()) -> Finding:
    return Finding(Level.ERROR, code, message, advice, True, tuple(ids))


def _warning(code: str, message: str, advice: str, ids: Iterable[str] = (), *, needs_action: bool = False) -> Finding:
    return Finding(Level.WARNING, code, message, advice, needs_action, tuple(ids))


class Server(Protocol):
    """What a service uses beside its database."""

    def check(self) -> None:
        """Raise StoreUnavailable if it does not answer."""


#: Returns the server, or None if there is none; raises ConfigurationError for one that is set up wrong.
Opener = Callable[[], Server | None]


def examine(
    store: Store,
    *,
    tokens: TokenFormat | None,
    catalog: ScopeCatalog,
    policy: Policy,
    push: Opener | None = None,
    limiter: Opener | None = None,
    clock: Clock = now,
) -> list[Finding]:
    """Return all findings, the worst first. Changes nothing, and raises nothing for a store that is not ready.

    Without findings all is well. Without ``tokens`` (no signing key here) it cannot check whether tokens were signed by
    a key that is dropped. ``push`` and ``limiter`` return what revocations are published over, and what counts rates.
    """
    servers = [*_replica(store), *_push(push), *_limiter(limiter)]
    found = _Tokens(tokens, catalog)
    try:
        store.check()
        at, here = store.now(), clock()
        damage = list(_look(store, found, at))
        history = list(_history(store))
        store.use_by_day("")  # so that every table is read
        missing, readers_wait = store.missing_indexes(), store.readers_wait()
    except StoreError as error:
        return [_not_ready(error), *servers]
    findings = [
        *damage,
        *(history or _changes(store)),  # which would fail for that reason
        *_uses(store, at),
        *_clocks(at, here),
        *_readers(readers_wait),
        *_indexes(missing),
        *servers,
        *_keys(found.dropped, tokens),
        *_beyond(found.exceeded, catalog),
        *_undeclared(found.undeclared),
        *_endless(found.endless, policy),
        *_idle(found.idle),
        *_unused(found.unused),
        *_catalog(catalog),
    ]
    return sorted(findings, key=lambda finding: (finding.level != Level.ERROR, not finding.needs_action))


class _Tokens:
    """What one pass over the tokens finds: only ids are kept, as there may be millions of tokens."""

    def __init__(self, tokens: TokenFormat | None, catalog: ScopeCatalog) -> None:
        self._keys = None if tokens is None else tokens.key_fingerprints
        self._catalog = catalog
        self.dropped: list[str] = []
        self.endless: list[str] = []
        self.undeclared: list[str] = []
        self.idle: list[str] = []
        self.unused: list[str] = []
        #: Of clients.
        self.exceeded: set[str] = set()

    def look_at(self, record: Record, at: int) -> None:
        """Note what is to be said of a token at ``at``, in epoch microseconds; nothing of one that has ended."""
        token, state = record.token, record.state(at)
        if state is State.IDLE and token.idle_ended_at is None:
            self.idle.append(token.id)
        if state is not State.ACTIVE:
            return
        if self._keys is not None and token.key_fingerprint not in self._keys:
            self.dropped.append(token.id)
        if _exceeds(record, self._catalog):
            self.exceeded.add(record.client.id)
        if self._catalog.unknown(token.scopes):
            self.undeclared.append(token.id)
        if token.successor_id is not None:
            return  # its end is near
        if token.expires_at is None:
            self.endless.append(token.id)
        if token.created_at <= at - TRIAL and record.unused_scopes(self._catalog):
            self.unused.append(token.id)


def _look(store: Store, found: _Tokens, at: int) -> Iterator[Finding]:
    try:
        for record in walk(store):
            found.look_at(record, at)
    except (SchemaError, StoreUnavailable):
        raise
    except StoreError as error:
        advice = "restore that from a backup: not all tokens can be checked before that is done"
        yield _error("store", str(error), advice)


def _not_ready(error: StoreError) -> Finding:
    code, advice = "store", "restore that from a backup: nothing else can be checked before that is done"
    if isinstance(error, SchemaError):
        # A table may be missing although the version is right.
        code = "schema"
        advice = "nothing else can be checked before that is done; if it changes nothing, restore a backup"
    elif isinstance(error, StoreBusy):
        advice = "find out who holds it and end that, in PostgreSQL with pg_locks and pg_stat_activity"
    elif isinstance(error, StoreUnavailable):
        advice = "check that the database exists and this user may use it, and restore a backup if it is damaged"
    return _error(code, str(error), advice)


def _replica(store: Store) -> Iterator[Finding]:
    if not store.replicated:
        return
    try:
        store.check_replica()
    except OtherHistory as error:
        advice = "let READ_URL, in Django READ_USING, name a replica of the primary"
        yield _error("replica", f"the read replica is not used: {error}", advice)
    except StoreError as error:
        message = f"the read replica is not used: {error}"
        yield _warning("replica", message, "until it is, all tokens are looked up in the primary", needs_action=True)


def _push(opener: Opener | None) -> Iterator[Finding]:
    if (problem := _problem(opener)) is not None:
        message = f"revocations cannot be published over Redis from here: {problem}"
        advice = "check TOKENGUARD_PUSH_URL; until then each process knows of them within TOKENGUARD_STALENESS"
        yield _warning("push", message, advice, needs_action=True)


def _limiter(opener: Opener | None) -> Iterator[Finding]:
    if (problem := _problem(opener)) is not None:
        message = f"requests with a rate cannot be counted from here: {problem}"
        advice = (
            "check TOKENGUARD_RATE_LIMIT_URL; until then they are let through, "
            "or refused with 503 if TOKENGUARD_RATE_LIMIT_FAIL_OPEN is off"
        )
        yield _warning("rate_limits", message, advice, needs_action=True)


def _problem(opener: Opener | None) -> str | None:
    try:
        if opener is not None and (server := opener()) is not None:
            server.check()
    except (ConfigurationError, StoreError) as error:
        return str(error)
    return None


def _history(store: Store) -> Iterator[Finding]:
    newest = max((event.number for event in store.events(1)), default=0)
    feed = store.feed(newest)  # both from one moment: somebody may just be issuing or revoking
    last = max((event.number for event in feed.events), default=0)
    if feed.revision != last:
        message = (
            f"tokenguard_revision is at {feed.revision}, but the last event in tokenguard_event is {last}: "
            "the tables are not from the same moment"
        )
        advice = "restore all tables together from a backup, in one transaction"
        yield _error("history", message, advice)


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
        yield _warning("not_writable", message, advice)


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
        yield _warning("uses_not_written", message, advice)


def _clocks(at: int, here: int) -> Iterator[Finding]:
    apart = here - at
    if abs(apart) > CLOCK_TOLERANCE:
        message = (
            f"the clock of this host is {abs(apart) // SECOND} seconds {'ahead of' if apart > 0 else 'behind'} "
            "the database's"
        )
        yield _error("clocks", message, "synchronise both with a time server: expiry depends on them")


def _readers(wait: bool) -> Iterator[Finding]:
    if wait:
        message = (
            "the SQLite file is not in write-ahead mode: requests wait for everybody who writes, and those that wait "
            "for too long get 503"
        )
        advice = 'run "PRAGMA journal_mode = WAL" on the file once'
        yield _warning("not_write_ahead", message, advice)


def _indexes(missing: list[str]) -> Iterator[Finding]:
    if missing:
        subject = "an index is" if len(missing) == 1 else "indexes are"
        message = f"{subject} missing, without which statements take long: {', '.join(missing)}"
        advice = "; ".join(INDEXES[name] for name in missing)
        # No DROP is advised as it is: on another search path, it could be another service's index.
        yield _warning("indexes", message, f'create each, after dropping it if it exists but is invalid: "{advice}"')


def _keys(dropped: list[str], tokens: TokenFormat | None) -> Iterator[Finding]:
    if tokens is None:
        message = "no signing key is configured here: whether a key in use was dropped cannot be checked"
        advice = "set TOKENGUARD_SIGNING_KEY to the service's key, and run this again"
        yield _warning("keys_not_checked", message, advice)
        return
    if dropped:
        advice = (
            "check that TOKENGUARD_SIGNING_KEY is the service's; if it was changed, add the former key to "
            "TOKENGUARD_OLD_SIGNING_KEYS, or issue new tokens in their place"
        )
        message = _of_tokens(dropped, "signed by a key that is not configured here, and refused")
        yield _error("key_dropped", message, advice, dropped)


def _beyond(clients: set[str], catalog: ScopeCatalog) -> Iterator[Finding]:
    if clients:
        subject = "1 client has" if len(clients) == 1 else f"{len(clients)} clients have"
        message = f"{subject} active tokens with scopes beyond the client's own: {_some(clients)}"
        advice = 'give the client those scopes ("tokenguard client set-scopes"), or reissue its tokens'
        is_sure = len(catalog) > 0  # a catalogue could say that one scope implies another
        if not is_sure:
            message += "; without a catalogue, also those that another scope implies"
        yield _warning("beyond_client", message, advice, sorted(clients), needs_action=is_sure)


def _exceeds(record: Record, catalog: ScopeCatalog) -> bool:
    ceiling = catalog.expand(record.client.scopes)
    return any(scope not in ceiling for scope in record.token.scopes)


def _undeclared(ids: list[str]) -> Iterator[Finding]:
    if ids:
        message = _of_tokens(ids, "granted scopes that are not in the catalogue")
        advice = "issue new ones in their place, if a scope has another name now; no view asks for the old one"
        yield _warning("undeclared_scopes", message, advice, ids)


def _endless(ids: list[str], policy: Policy) -> Iterator[Finding]:
    if ids:
        asked = policy.needs_expiry
        message = _of_tokens(ids, "without expiry, against the policy" if asked else "without expiry")
        advice = 'issue new ones in their place with "--expires-in"'
        yield _warning("no_expiry", message, advice, ids, needs_action=asked)


def _idle(ids: list[str]) -> Iterator[Finding]:
    if ids:
        message = _of_tokens(ids, "beyond the idle timeout and refused; this is recorded for good at the next use")
        yield _warning("idle", message, "no action is needed; revoke those that nobody will use again", ids)


def _unused(ids: list[str]) -> Iterator[Finding]:
    if ids:
        message = _of_tokens(ids, "older than 30 days with scopes that were granted but never used")
        advice = '"tokenguard show" names the scopes; issue a token without them in its place'
        yield _warning("unused_scopes", message, advice, ids)


def _catalog(catalog: ScopeCatalog) -> Iterator[Finding]:
    if not len(catalog):
        message = "there is no catalogue of scopes: a misspelled scope is granted like any other"
        yield _warning("no_catalog", message, "set TOKENGUARD_SCOPES to the service's catalogue")


def _of_tokens(ids: list[str], what: str) -> str:
    """Say that these tokens, one or more, are ``what``."""
    return f"{'1 token is' if len(ids) == 1 else f'{len(ids)} tokens are'} {what}: {_some(ids)}"


def _some(ids: Iterable[str]) -> str:
    shown = sorted(ids)
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
