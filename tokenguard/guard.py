"""The verifying side, on every request: from a credential to an Identity, from an Identity to yes or no."""

from __future__ import annotations

import hmac
import logging

from .clock import Clock, now
from .errors import InsufficientScope, InvalidToken, MissingToken, StoreError, TemporarilyUnavailable
from .identity import Identity
from .scopes import Requirement, ScopeCatalog
from .store import Record, Store
from .tokens import Read, Secret, TokenFormat

log = logging.getLogger("tokenguard")


class Guard:
    """Says who is calling, and whether that caller may do what it asks for.

    Both methods return or raise an :class:`AuthError`; there is no result that could be overlooked.
    """

    def __init__(
        self, store: Store, tokens: TokenFormat, *, catalog: ScopeCatalog | None = None, clock: Clock = now
    ) -> None:
        self.store = store
        self.tokens = tokens
        self.catalog = catalog or ScopeCatalog()
        self.clock = clock

    def authenticate(self, credential: Secret | None) -> Identity:
        """Who presents ``credential`` (None: the request has none).

        Raises MissingToken, InvalidToken, or TemporarilyUnavailable when the store cannot say.
        """
        if credential is None:
            raise MissingToken
        return self._identity(self._find(self.tokens.read(credential)))

    def authorize(self, identity: Identity, requirement: Requirement) -> None:
        """Let ``identity`` pass if it meets ``requirement``; raises InsufficientScope otherwise."""
        if not requirement.met_by(identity.scopes):
            raise InsufficientScope(
                requirement.names, str(requirement), token_id=identity.token_id, client_id=identity.client_id
            )

    def _find(self, read: Read) -> Record:
        try:
            record = self.store.find(read.id)
        except StoreError as error:
            log.error("the token store failed: %s", error)
            raise TemporarilyUnavailable(f"store: {error}", token_id=read.id) from error
        if record is None:
            raise InvalidToken("unknown", token_id=read.id)
        if not hmac.compare_digest(record.token.digest.encode(), read.digest.encode()):
            raise InvalidToken("another text is on record", token_id=read.id, client_id=record.client.id)
        return record

    def _identity(self, record: Record) -> Identity:
        token, client, _ = record
        state = token.state(self.clock())
        if state != "active":
            raise InvalidToken(state, token_id=token.id, client_id=client.id)
        if not client.enabled:
            raise InvalidToken("client disabled", token_id=token.id, client_id=client.id)
        return Identity(client.id, client.name, token.id, self.catalog.effective(token.scopes, client.scopes))
