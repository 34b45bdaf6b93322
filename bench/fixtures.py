"""The one service that all parts guard: its catalogue, its clients and its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from sample_flask import idp
from tokenguard import EventKind, Issuer, ScopeCatalog, Scopes, SigningKeys, Store, Token, TokenFormat
from tokenguard.store import Change

SIGNING_KEY = "a signing key that only the benchmark knows"
SCOPES: dict[str, object] = {
    "users:read": "Read users",
    "users:manage": {"description": "Change users", "implies": ["users:read"]},
    "groups:read": "Read groups",
}
#: What the guarded view asks for.
SCOPE = "users:read"
ACTOR = "bench"


def token_format() -> TokenFormat:
    """What mints and reads the service's tokens."""
    return TokenFormat(SigningKeys(SIGNING_KEY))


def new_issuer(store: Store) -> Issuer:
    """The granting side of the service."""
    return Issuer(store, token_format(), catalog=ScopeCatalog(SCOPES))


def issue(store: Store, count: int) -> list[str]:
    """The texts of so many new tokens of one client that may do what the view asks for, issued in one transaction."""
    client = store.client("billing") or new_issuer(store).register("billing", "users:manage groups:read", actor=ACTOR)
    tokens, texts = token_format(), []
    with store.transaction() as tx:
        at = tx.now()
        for _ in range(count):
            minted = tokens.mint()
            token = Token(minted.id, client.id, "", Scopes([SCOPE]), minted.digest, minted.key_fingerprint, at)
            tx.put_token(token, Change(EventKind.TOKEN_ISSUED, at, ACTOR))
            texts.append(minted.text.reveal())
    return texts


@contextmanager
def foreign_tokens(count: int) -> Iterator[tuple[str, list[str]]]:
    """What a service has in ISSUERS to take another issuer's tokens, and the texts of so many; it answers meanwhile."""
    with idp.serve() as issuer:
        yield issuer.trusted, [issuer.sign(issuer.claims("billing", SCOPE)) for _ in range(count)]


def forged(text: str) -> str:
    """The same shape, and another signature."""
    return text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:]


def forgeries(count: int) -> list[str]:
    """Texts that look like tokens of the service, and were not signed by it."""
    tokens = token_format()
    return [forged(minted.text.reveal()) for minted in islice(iter(tokens.mint, None), count)]
