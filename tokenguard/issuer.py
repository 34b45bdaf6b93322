"""The granting side, rarely used: register clients and change them, issue tokens and revoke them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import iscoroutine, iscoroutinefunction
from typing import Any, NamedTuple

from .clock import LONGEST, SECOND, Clock, check_duration, checked_clock, earliest, isoformat, now
from .conditions import UNCONDITIONAL, Conditions
from .errors import (
    ConfigurationError,
    Conflict,
    InvalidValue,
    IssuanceError,
    PolicyViolation,
    UnknownClient,
    UnknownToken,
)
from .events import MAX_ACTOR_LENGTH, Change, EventKind, recorded
from .hooks import Hooks, call
from .policy import Policy, check_idle_timeout
from .records import ALIVE, Record
from .scopes import ScopeCatalog, Scopes
from .secret import Secret
from .store import Store, Transaction
from .tokens import Client, Minted, Token, TokenFormat, check_label, random_id

#: Seconds for which a rotated token goes on working by default.
DEFAULT_OVERLAP = 24 * 3600
MAX_REASON_LENGTH = 255
#: As the tables have it.
MAX_CLIENT_ID_LENGTH = 255
#: Called with the transaction that is to make a change; raises an error to forbid it.
Provided = Callable[[Transaction], object]


class Issued(NamedTuple):
    """A new token and its text, which nobody can get again."""

    token: Token
    text: Secret


class Issuer:
    """Makes every grant and every change, in one transaction each with its event.

    ``actor`` says who does it, for the audit trail. A ``client`` is given by its id or by its name.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenFormat | None,
        *,
        catalog: ScopeCatalog | Mapping[str, Any] | None = None,
        policy: Policy | None = None,
        hooks: Hooks | None = None,
        clock: Clock = now,
    ) -> None:
        """``tokens`` may be None where nothing is issued: managing clients needs no signing key.

        ``clock`` returns the time, in epoch microseconds. Raises ConfigurationError for an argument of the wrong kind.
        """
        self.store = store
        self.tokens = tokens
        self.catalog = ScopeCatalog.of(catalog)
        self.policy = policy or Policy()
        if iscoroutinefunction(self.policy.check):
            raise ConfigurationError("the check of a policy must be a plain function: an async one forbids nothing")
        self.hooks = Hooks.of(hooks)
        self.clock = checked_clock(clock)

    def register(
        self,
        name: str,
        scopes: Scopes | str | Iterable[str],
        *,
        actor: str,
        conditions: Conditions | None = None,
        client_id: str | None = None,
    ) -> Client:
        """Register a client whose tokens may have ``scopes`` at most. Its id is random unless ``client_id`` is given.

        Raises InvalidValue for a malformed name, id or scope, IssuanceError if the name or the id is taken or the
        catalogue does not know a scope.
        """
        check_actor(actor)
        if not check_label("a client's name", name):
            raise InvalidValue("the name of a client is required")
        if client_id is not None and not check_label("a client's id", client_id, max_length=MAX_CLIENT_ID_LENGTH):
            raise InvalidValue("the id of a client must not be empty: leave it out for a random one")
        ceiling = self._checked_scopes(scopes)
        with self.store.transaction() as tx:
            for taken in filter(None, (name, client_id)):
                if tx.client(taken) is not None:
                    raise IssuanceError(f"there is already a client {taken!r}")
            client = Client(client_id or random_id(), name, ceiling, True, self.clock(), conditions or UNCONDITIONAL)
            tx.put_client(client, recorded(EventKind.CLIENT_REGISTERED, client.created_at, actor, None, client))
        return client

    def disable(self, client: str, *, actor: str) -> Client:
        """Refuse all of the client's tokens until it is enabled. Raises UnknownClient."""
        return self._change_client(client, EventKind.CLIENT_DISABLED, actor, enabled=False)

    def enable(self, client: str, *, actor: str) -> Client:
        """Let the client's tokens work again. Raises UnknownClient."""
        return self._change_client(client, EventKind.CLIENT_ENABLED, actor, enabled=True)

    def set_scopes(self, client: str, scopes: Scopes | str | Iterable[str], *, actor: str) -> Client:
        """Change what the client's tokens may have, including those already issued. Raises as register does."""
        ceiling = self._checked_scopes(scopes)
        return self._change_client(client, EventKind.CLIENT_SCOPES_CHANGED, actor, scopes=ceiling)

    def set_conditions(self, client: str, conditions: Conditions, *, actor: str) -> Client:
        """Change from where, and how often, all tokens of the client together may be used.

        Without any restriction these are ``Conditions()``. Raises UnknownClient, and InvalidValue for anything else.
        """
        return self._change_client(client, EventKind.CLIENT_CONDITIONS_CHANGED, actor, conditions=conditions)

    def issue(
        self,
        client: str,
        scopes: Scopes | str | Iterable[str],
        *,
        actor: str,
        name: str = "",
        expires_in: int | None = None,
        idle_timeout: int | None = None,
        conditions: Conditions | None = None,
        not_after: int | None = None,
        provided: Provided | None = None,
    ) -> Issued:
        """Issue a token for ``client``; return it with its text, which can be seen only this once.

        ``expires_in`` and ``idle_timeout`` are in seconds. Without the first the token has no end, without the second
        it has the policy's idle timeout. It ends by ``not_after`` (epoch microseconds) in any case. ``provided`` is
        called with the :class:`~tokenguard.store.Transaction`, before the end of which nobody else changes anything;
        if it raises, nothing is done. Raises InvalidValue for malformed values, UnknownClient, IssuanceError naming a
        scope that is unknown or beyond the client's, or for an end that is past, and PolicyViolation naming the rule.
        """
        check_actor(actor)
        granted = self._checked_scopes(scopes)
        if not granted:
            raise IssuanceError("a token must have at least one scope")
        check_label("a token's name", name)
        lifetime = None if expires_in is None else check_duration(expires_in)
        idle = self.policy.idle_timeout if idle_timeout is None else check_idle_timeout(idle_timeout)
        minted = self._mint()
        with self._audited(actor, provided) as tx:
            owner = self._check_owner(tx, client, granted)
            issued_at = self.clock()
            token = Token(
                id=minted.id,
                client_id=owner.id,
                name=name,
                scopes=granted,
                digest=minted.digest,
                key_fingerprint=minted.key_fingerprint,
                created_at=issued_at,
                expires_at=_end(issued_at, None if lifetime is None else lifetime * SECOND, not_after),
                conditions=conditions or UNCONDITIONAL,
                idle_timeout=None if idle is None else idle * SECOND,
            )
            self._put_new(tx, token, actor)
            tx.on_commit(partial(call, self.hooks.issued, token=token, client=owner))
        return Issued(token, minted.text)

    def rotate(
        self,
        token_id: str,
        *,
        actor: str,
        overlap: int = DEFAULT_OVERLAP,
        not_after: int | None = None,
        provided: Provided | None = None,
    ) -> Issued:
        """Issue a successor with the same client, name, scopes, conditions and lifetime; both work for a while.

        The old token ends after ``overlap`` seconds, with 0 at once; revoke it to end it earlier. The new one ends by
        ``not_after`` (epoch microseconds) in any case. Raises UnknownToken, InvalidValue for a malformed
        overlap, Conflict if the token has ended or is rotated already, IssuanceError if it ends before the overlap
        would, and whatever :meth:`issue` raises.
        """
        check_actor(actor)
        if type(overlap) is not int or overlap != 0:
            check_duration(overlap)
        _check_id(token_id)
        minted = self._mint()
        with self._audited(actor, provided) as tx:
            record = tx.record(token_id)
            if record is None:
                raise UnknownToken([token_id])
            at = self.clock()
            _check_rotatable(record, at, at + overlap * SECOND)
            self._check_owner(tx, record.client.id, record.token.scopes)
            old = replace(record.token, successor_id=minted.id, overlap_ends_at=at + overlap * SECOND)
            successor = self._successor(record.token, minted, at, not_after)
            tx.put_token(old, recorded(EventKind.TOKEN_ROTATED, at, actor, record.token, old))
            self._put_new(tx, successor, actor, replaces=token_id)
            tx.on_commit(partial(call, self.hooks.rotated, token=old, successor=successor))
        return Issued(successor, minted.text)

    def revoke(self, *token_ids: str, actor: str, reason: str = "", provided: Provided | None = None) -> list[Token]:
        """End these tokens for good: all of them or, if one is unknown, none (UnknownToken).

        A token that is already revoked stays as it is: the time of its end does not change. ``reason`` goes into the
        event; raises InvalidValue for one that is not printable or too long. ``provided`` is as in :meth:`issue`.
        """
        check_actor(actor)
        check_label("a reason", reason, max_length=MAX_REASON_LENGTH)
        for token_id in token_ids:
            _check_id(token_id)
        with self._audited(actor, provided) as tx:
            found = {token_id: tx.record(token_id) for token_id in token_ids}
            if unknown := [token_id for token_id, record in found.items() if record is None]:
                raise UnknownToken(unknown)
            at = self.clock()
            return [self._revoked(tx, record.token, at, actor, reason) for record in found.values() if record]

    def set_token_conditions(
        self,
        token_id: str,
        conditions: Conditions,
        *,
        actor: str,
        instead_of: Conditions | None = None,
        provided: Provided | None = None,
    ) -> Token:
        """Change from where, and how often, the token may be used.

        ``instead_of`` are the conditions that the caller's decision was based on; ``provided`` is as in :meth:`issue`.
        Raises UnknownToken, and Conflict if the token has ended or no longer has the conditions ``instead_of``.
        """
        check_actor(actor)
        _check_id(token_id)
        with self._audited(actor, provided) as tx:
            record = tx.record(token_id)
            if record is None:
                raise UnknownToken([token_id])
            at = self.clock()
            _check_alive(record, at, "its conditions are not changed")
            if instead_of is not None and record.token.conditions != instead_of:
                raise Conflict(f"token {token_id} has just been changed by somebody else: look at it again")
            changed = replace(record.token, conditions=conditions)
            if changed != record.token:
                kind = EventKind.TOKEN_CONDITIONS_CHANGED
                tx.put_token(changed, recorded(kind, at, actor, record.token, changed))
        return changed

    def record_refusal(self, violation: PolicyViolation, *, actor: str) -> None:
        """Record that the policy refused something, for a caller whose own transaction has undone that record."""
        data = {"rule": [None, violation.rule]}
        with self.store.transaction() as tx:
            tx.note(Change(EventKind.POLICY_REFUSED, self.clock(), actor, data), violation.client_id)

    def _revoked(self, tx: Transaction, token: Token, at: int, actor: str, reason: str) -> Token:
        if token.revoked_at is not None:
            return token
        revoked = replace(token, revoked_at=at)
        tx.put_token(revoked, recorded(EventKind.TOKEN_REVOKED, at, actor, token, revoked, reason=reason))
        tx.on_commit(partial(call, self.hooks.revoked, token=revoked))
        return revoked

    def _successor(self, token: Token, minted: Minted, at: int, not_after: int | None) -> Token:
        default = self.policy.idle_timeout
        return replace(
            token,
            id=minted.id,
            digest=minted.digest,
            key_fingerprint=minted.key_fingerprint,
            created_at=at,
            expires_at=_end(at, None if token.expires_at is None else token.expires_at - token.created_at, not_after),
            idle_timeout=token.idle_timeout or (None if default is None else default * SECOND),
        )

    def _mint(self) -> Minted:
        if self.tokens is None:
            raise ConfigurationError("a signing key is required to issue tokens")
        return self.tokens.mint()

    def _put_new(self, tx: Transaction, token: Token, actor: str, *, replaces: str | None = None) -> None:
        limited = self.policy.max_active_tokens is not None
        others = tx.alive_or_rotated(token.client_id, token.created_at) if limited else []
        self.policy.check(token, others, token.created_at, replaces=replaces)
        tx.put_token(token, recorded(EventKind.TOKEN_ISSUED, token.created_at, actor, None, token))

    @contextmanager
    def _audited(self, actor: str, provided: Provided | None) -> Iterator[Transaction]:
        """Open a transaction; a refusal by the policy is recorded in one of its own, as this one is undone."""
        try:
            with self.store.transaction() as tx:
                if provided is not None and iscoroutine(unrun := provided(tx)):
                    unrun.close()
                    raise ConfigurationError("provided must be a plain function: an async one never runs")
                yield tx
        except PolicyViolation as violation:
            self.record_refusal(violation, actor=actor)
            raise

    def _checked_scopes(self, scopes: Scopes | str | Iterable[str]) -> Scopes:
        wanted = Scopes.of(scopes)
        if unknown := self.catalog.unknown(wanted):
            raise IssuanceError(
                f"this service has no scope {', '.join(map(repr, unknown))}; it has {', '.join(self.catalog)}"
            )
        return wanted

    def _check_owner(self, tx: Transaction, ref: str, scopes: Scopes) -> Client:
        client = _existing(tx, ref)
        if not client.enabled:
            raise IssuanceError(f"the client {client.name!r} is disabled: enable it first")
        ceiling = self.catalog.expand(client.scopes)
        if beyond := [scope for scope in scopes if scope not in ceiling]:
            raise IssuanceError(
                f"the client {client.name!r} may not have {', '.join(map(repr, beyond))}; "
                f"it may have {', '.join(map(repr, client.scopes)) or 'nothing'}"
                + ("" if len(self.catalog) else ", and without a catalogue no scope implies another")
            )
        return client

    def _change_client(self, ref: str, kind: EventKind, actor: str, **changes: Any) -> Client:
        check_actor(actor)
        with self.store.transaction() as tx:
            client = _existing(tx, ref)
            changed = replace(client, **changes)
            if changed != client:
                tx.put_client(changed, recorded(kind, self.clock(), actor, client, changed))
        return changed


def check_actor(actor: str) -> None:
    """Raise InvalidValue if ``actor`` is empty or malformed."""
    if not check_label("an actor", actor, max_length=MAX_ACTOR_LENGTH):
        raise InvalidValue("the actor is required: it must not be empty")


def _check_id(given: str, kind: str = "a token's id") -> None:
    """Raise InvalidValue for whatever was given in place of an id, such as a list of them or the token itself."""
    if not isinstance(given, str):
        raise InvalidValue(f"{kind} must be a string, not {type(given).__name__}")


def _existing(tx: Transaction, ref: str) -> Client:
    _check_id(ref, "a client's id or name")
    client = tx.client(ref)
    if client is None:
        raise UnknownClient(ref)
    return client


def _check_rotatable(record: Record, at: int, overlap_end: int) -> None:
    token = record.token
    if token.successor_id is not None:
        raise Conflict(f"token {token.id} is already rotated: its successor is {token.successor_id}")
    _check_alive(record, at, "a token that has ended cannot be rotated, issue a new one")
    if token.expires_at is not None and overlap_end > token.expires_at:
        raise IssuanceError(
            f"token {token.id} expires at {isoformat(token.expires_at)}, before the overlap would end: shorten it"
        )


def _check_alive(record: Record, at: int, therefore: str) -> None:
    if (state := record.state(at)) not in ALIVE:
        raise Conflict(f"token {record.token.id} is {state}: {therefore}")


def _end(begin: int, length: int | None, not_after: int | None) -> int | None:
    if not_after is not None and not begin < not_after <= begin + LONGEST * SECOND:
        raise IssuanceError(
            f"the token would end at {isoformat(not_after)}: that is in the past, or more than 100 years away"
        )
    return earliest(None if length is None else begin + length, not_after)
