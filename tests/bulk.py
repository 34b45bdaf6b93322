"""Many tokens at once."""

from __future__ import annotations

from tokenguard import Client, Scopes, SigningKeys, Store, Token, TokenFormat
from tokenguard.store import Change, EventKind
from tokenguard.tokens import Minted, random_id

from .conftest import KEY


def issue_many(store: Store, count: int) -> list[Minted]:
    """Issue that many tokens in one transaction, each to a client of its own: ``client 0``, ``client 1`` and so on."""
    tokens = [TokenFormat(SigningKeys(KEY)).mint() for _ in range(count)]
    with store.transaction() as tx:
        for number, minted in enumerate(tokens):
            client = Client(random_id(), f"client {number}", Scopes.of("users:read"), True, 0)
            tx.put_client(client, Change(EventKind.CLIENT_REGISTERED, 0, "tests"))
            token = Token(minted.id, client.id, "", client.scopes, minted.digest, minted.key_fingerprint, 0)
            tx.put_token(token, Change(EventKind.TOKEN_ISSUED, 0, "tests"))
    return tokens
