"""The service that all parts guard: its catalogue, its clients and its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sample_flask import idp
from tokenguard import EventKind, Issuer, ScopeCatalog, Scopes, SigningKeys, Store, Token, TokenFormat
from tokenguard.config import Options
from tokenguard.guard import Guard
from tokenguard.hooks import Hooks
from tokenguard.service import Service
from tokenguard.store import Change

SIGNING_KEY = "a signing key that only the benchmark knows"
SCOPES: dict[str, object] = {
    "users:read": "Read users",
    "users:manage": {"description": "Change users", "implies": ["users:read"]},
    "groups:read": "Read groups",
}
#: The scope that the guarded view requires.
SCOPE = "users:read"
ACTOR = "bench"


def token_format() -> TokenFormat:
    """Return what mints and reads the service's tokens."""
    return TokenFormat(SigningKeys(SIGNING_KEY))


def new_issuer(store: Store) -> Issuer:
    """Return the granting side of the service."""
    return Issuer(store, token_format(), catalog=ScopeCatalog(SCOPES))


def new_guard(store: Store, **options: object) -> Guard:
    """Return the verifying side of the service with these further options; it does not record the use of tokens."""
    given = {"SIGNING_KEY": SIGNING_KEY, "SCOPES": SCOPES, **options}
    guard = Service.build(Options.read(given), store, hooks=Hooks()).requests.guard
    guard.usage = None
    return guard


def issue(store: Store, count: int) -> list[str]:
    """Issue so many tokens of one client with the view's scope, in one transaction; returns their texts."""
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
    """Run another issuer; yields what a service has in ISSUERS to accept its tokens, and the texts of so many."""
    with idp.serve() as issuer:
        yield issuer.trusted, [issuer.sign(issuer.claims("billing", SCOPE)) for _ in range(count)]


def forged(text: str) -> str:
    """Return a text of the same shape with another signature."""
    return text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:]


def forgeries(count: int) -> list[str]:
    """Return texts that look like the service's tokens, but were not signed by it."""
    tokens = token_format()
    return [forged(tokens.mint().text.reveal()) for _ in range(count)]
