"""The granting side, rare: register clients and change them, issue tokens and revoke them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, NamedTuple

from .clock import SECOND, Clock, check_duration, now
from .errors import ConfigurationError, InvalidValue, IssuanceError, UnknownClient, UnknownToken
from .scopes import ScopeCatalog, Scopes
from .store import MAX_ACTOR_LENGTH, Change, EventKind, Store, Transaction
from .tokens import Client, Secret, Token, TokenFormat, check_label, random_id


class Issued(NamedTuple):
    """A new token and its text, which nobody can get again."""

    token: Token
    text: Secret


class Issuer:
    """Every grant and every change goes through here, in one transaction each with its event.

    ``actor`` says who does it, for the audit trail. Where a client is asked for, its id or its name will do.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenFormat | None,
        *,
        catalog: ScopeCatalog | None = None,
        clock: Clock = now,
    ) -> None:
        """``tokens`` may be None where nothing is issued: managing clients needs no signing key."""
        self.store = store
        self.tokens = tokens
        self.catalog = catalog or ScopeCatalog()
        self.clock = clock

    def register(self, name: str, scopes: Scopes | str | Iterable[str], *, actor: str) -> Client:
        """A new client whose tokens may have ``scopes`` at most.

        Raises InvalidValue for a malformed name or scope, IssuanceError if the name is taken or the catalogue does
        not know a scope.
        """
        _check_actor(actor)
        if not check_label("a client's name", name):
            raise InvalidValue("a client needs a name")
        ceiling = self._known(Scopes.of(scopes))
        with self.store.transaction() as tx:
            if tx.client(name) is not None:
                raise IssuanceError(f"there is already a client {name!r}")
            client = Client(random_id(), name, ceiling, enabled=True, created_at=self.clock())
            tx.put_client(client, _change(EventKind.CLIENT_REGISTERED, client.created_at, actor, None, client))
        return client

    def disable(self, client: str, *, actor: str) -> Client:
        """Refuse all of the client's tokens until it is enabled. Raises UnknownClient."""
        return self._change_client(client, EventKind.CLIENT_DISABLED, actor, enabled=False)

    def enable(self, client: str, *, actor: str) -> Client:
        """Let the client's tokens work again. Raises UnknownClient."""
        return self._change_client(client, EventKind.CLIENT_ENABLED, actor, enabled=True)

    def set_scopes(self, client: str, scopes: Scopes | str | Iterable[str], *, actor: str) -> Client:
        """Change what the client's tokens may have, those already issued included. Raises as register does."""
        ceiling = self._known(Scopes.of(scopes))
        return self._change_client(client, EventKind.CLIENT_SCOPES_CHANGED, actor, scopes=ceiling)

    def issue(
        self,
        client: str,
        scopes: Scopes | str | Iterable[str],
        *,
        actor: str,
        name: str = "",
        expires_in: int | None = None,
    ) -> Issued:
        """A new token for ``client``, with its text: the only time that it can be seen.

        ``expires_in`` is in seconds; without it the token does not expire. Raises InvalidValue for malformed
        values, UnknownClient, and IssuanceError naming a scope that is unknown or beyond the client's.
        """
        _check_actor(actor)
        granted = self._known(Scopes.of(scopes))
        if not granted:
            raise IssuanceError("a token without scopes could do nothing: name at least one")
        check_label("a token's name", name)
        lifetime = None if expires_in is None else check_duration(expires_in)
        if self.tokens is None:
            raise ConfigurationError("a signing key is needed to issue tokens")
        minted = self.tokens.mint()
        with self.store.transaction() as tx:
            owner = self._may_hold(tx, client, granted)
            issued_at = self.clock()
            token = Token(
                id=minted.id,
                client_id=owner.id,
                name=name,
                scopes=granted,
                digest=minted.digest,
                key_fingerprint=minted.key_fingerprint,
                created_at=issued_at,
                expires_at=None if lifetime is None else issued_at + lifetime * SECOND,
            )
            tx.put_token(token, _change(EventKind.TOKEN_ISSUED, issued_at, actor, None, token))
        return Issued(token, minted.text)

    def revoke(self, *token_ids: str, actor: str) -> list[Token]:
        """End these tokens for good, all of them or, if one is unknown, none (UnknownToken).

        A token that is already revoked stays as it is: the time of its end does not change.
        """
        _check_actor(actor)
        with self.store.transaction() as tx:
            found = {token_id: tx.token(token_id) for token_id in token_ids}
            if unknown := [token_id for token_id, token in found.items() if token is None]:
                raise UnknownToken(unknown)
            at = self.clock()
            return [self._revoke(tx, token, at, actor) for token in found.values() if token]

    def _revoke(self, tx: Transaction, token: Token, at: int, actor: str) -> Token:
        if token.revoked_at is not None:
            return token
        revoked = replace(token, revoked_at=at)
        tx.put_token(revoked, _change(EventKind.TOKEN_REVOKED, at, actor, token, revoked))
        return revoked

    def _known(self, scopes: Scopes) -> Scopes:
        if unknown := self.catalog.unknown(scopes):
            raise IssuanceError(
                f"this service has no scope {', '.join(map(repr, unknown))}; it has {', '.join(self.catalog)}"
            )
        return scopes

    def _may_hold(self, tx: Transaction, ref: str, scopes: Scopes) -> Client:
        client = _existing(tx, ref)
        if not client.enabled:
            raise IssuanceError(f"the client {client.name!r} is disabled: enable it first")
        ceiling = self.catalog.expand(client.scopes)
        if beyond := [scope for scope in scopes if scope not in ceiling]:
            raise IssuanceError(
                f"the client {client.name!r} may not have {', '.join(map(repr, beyond))}; "
                f"it may have {', '.join(map(repr, client.scopes)) or 'nothing'}"
            )
        return client

    def _change_client(self, ref: str, kind: EventKind, actor: str, **changes: Any) -> Client:
        _check_actor(actor)
        with self.store.transaction() as tx:
            client = _existing(tx, ref)
            changed = replace(client, **changes)
            if changed != client:
                tx.put_client(changed, _change(kind, self.clock(), actor, client, changed))
        return changed


def _check_actor(actor: str) -> None:
    if not check_label("an actor", actor, max_length=MAX_ACTOR_LENGTH):
        raise InvalidValue("say who does this: the actor is empty")


def _existing(tx: Transaction, ref: str) -> Client:
    client = tx.client(ref)
    if client is None:
        raise UnknownClient(ref)
    return client


# Of whom an event speaks stands in its own columns; a digest is nobody's business.
_NOT_RECORDED = {"id", "client_id", "digest", "created_at"}


def _change(kind: EventKind, at: int, actor: str, old: Client | Token | None, new: Client | Token) -> Change:
    before, after = _recorded(old), _recorded(new)
    data = {key: [before.get(key), value] for key, value in after.items() if before.get(key) != value}
    return Change(kind, at, actor, data)


def _recorded(item: Client | Token | None) -> dict[str, Any]:
    if item is None:
        return {}
    values = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in _NOT_RECORDED}
    return {key: list(value) if isinstance(value, Scopes) else value for key, value in values.items()}
