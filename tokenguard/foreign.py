"""Other issuers' clients and tokens, as this service knows them: to limit or disable a client, to end a token early.

A client is stored like any other, under an id derived from its issuer's URL and its id there. One that is not stored
may do what its tokens say. A token is in the store only once it is revoked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from .conditions import Conditions
from .errors import ConfigurationError, InvalidValue
from .events import EventKind, recorded
from .hooks import call
from .issuer import MAX_REASON_LENGTH, Issuer, check_actor
from .scopes import Scopes
from .sources import local_client_id, local_token_id
from .store import Transaction
from .tokens import MAX_NAME_LENGTH, Client, Token, check_label
from .urls import checked_url

#: The scopes of a client for which no others are given: whatever its tokens say.
ANYTHING = Scopes(["*"])
#: How long an issuer's id of something may be.
MAX_ID_LENGTH = 255


def register_client(
    granting: Issuer,
    issuer: str,
    client_id: str,
    *,
    actor: str,
    name: str | None = None,
    scopes: Scopes | str | Iterable[str] = ANYTHING,
    conditions: Conditions | None = None,
) -> Client:
    """Register the client that ``issuer`` (its URL) calls ``client_id``, so that it can be limited and disabled.

    Whatever its tokens say, they then may have ``scopes`` at most, by default anything, and ``conditions`` hold for all
    of them together. ``name`` is for people. Raises as :meth:`tokenguard.Issuer.register` does.
    """
    _check_ids(issuer, client_id)
    wanted = _name(issuer, client_id) if name is None else name
    local = local_client_id(issuer, client_id)
    return granting.register(wanted, scopes, actor=actor, conditions=conditions, client_id=local)


def revoke_token(
    granting: Issuer,
    issuer: str,
    client_id: str,
    token_id: str,
    *,
    actor: str,
    reason: str = "",
    expires_at: int | None = None,
) -> Token:
    """Refuse a token of ``issuer`` by its ``jti`` from now on, as :meth:`tokenguard.Issuer.revoke` does with ours.

    Its client is registered if it is not yet, which does not limit it. When the token ends (``expires_at``, in epoch
    microseconds) it may be forgotten; without that it never is. For a token that is already revoked, the later end
    counts. Raises InvalidValue for malformed ids, and for an issuer that is not a URL.
    """
    check_actor(actor)
    check_label("a reason", reason, max_length=MAX_REASON_LENGTH)
    _check_ids(issuer, client_id, token_id)
    with granting.store.transaction() as tx:
        at, local = granting.clock(), local_token_id(issuer, token_id)
        if (known := tx.record(local)) is not None:
            return _kept_until(tx, known.token, expires_at, at, actor, reason)
        owner = _find_or_register(tx, issuer, client_id, at, actor)
        token = Token(
            local, owner.id, token_id[:MAX_NAME_LENGTH].rstrip(), Scopes(), "", "", at, expires_at, revoked_at=at
        )
        tx.put_token(token, recorded(EventKind.TOKEN_REVOKED, at, actor, None, token, reason=reason))
        tx.on_commit(partial(call, granting.hooks.revoked, token=token))
    return token


def outlasts(end: int | None, other: int | None) -> bool:
    """Whether ``end`` is later than ``other``, in epoch microseconds; None is an end that never comes."""
    return other is not None and (end is None or end > other)


def _kept_until(tx: Transaction, known: Token, end: int | None, at: int, actor: str, reason: str) -> Token:
    """Keep a token that is already revoked until the later end: forgotten before, it might be let in."""
    if not outlasts(end, known.expires_at):
        return known
    kept = replace(known, expires_at=end)
    tx.put_token(kept, recorded(EventKind.TOKEN_REVOKED, at, actor, known, kept, reason=reason))
    return kept


def _find_or_register(tx: Transaction, issuer: str, client_id: str, at: int, actor: str) -> Client:
    local = local_client_id(issuer, client_id)
    found = tx.client(local)
    if found is not None and found.id == local:
        return found
    name = _name(issuer, client_id)
    client = Client(local, local if tx.client(name) else name, ANYTHING, True, at)
    tx.put_client(client, recorded(EventKind.CLIENT_REGISTERED, at, actor, None, client))
    return client


def _name(issuer: str, client_id: str) -> str:
    return f"{client_id} of {issuer}"[:MAX_NAME_LENGTH].rstrip()


def _check_ids(issuer: str, *ids: str) -> None:
    for given in (issuer, *ids):
        if not check_label("what an issuer calls something", given, max_length=MAX_ID_LENGTH):
            raise InvalidValue("the id is required: it must not be empty")
    try:
        # No other can be in TOKENGUARD_ISSUERS: what is mistyped would be revoked here, and go on working.
        checked_url("an issuer", issuer)
    except ConfigurationError as error:
        raise InvalidValue(str(error)) from None
