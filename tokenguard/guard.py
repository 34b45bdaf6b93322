"""The verifying side, on every request: from a credential to an Identity, from an Identity to yes or no."""

from __future__ import annotations

import hmac
import logging
from typing import NamedTuple

from .clock import Clock, NeverBack, now
from .conditions import Allowance, Limiter, LimiterUnavailable, read_address
from .errors import (
    InsufficientScope,
    InvalidToken,
    MissingToken,
    NetworkNotAllowed,
    RateLimited,
    StoreError,
    TemporarilyUnavailable,
)
from .identity import Identity
from .scopes import Requirement, ScopeCatalog
from .store import USE_INTERVAL, Record, State, Store
from .tokens import Read, Secret, TokenFormat
from .usage import UsageLog, end_if_idle

log = logging.getLogger("tokenguard")
#: How many idle tokens a guard remembers to have tried to end.
MAX_TRIED = 10_000


class Admitted(NamedTuple):
    """Who was let in, and what else is known of that."""

    identity: Identity
    record: Record
    #: What is left of the scarcest rate, if there is one.
    allowance: Allowance | None


class Guard:
    """Says who is calling, and whether that caller may do what it asks for.

    Every method returns or raises an :class:`AuthError`; there is no result that could be overlooked.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenFormat,
        *,
        catalog: ScopeCatalog | None = None,
        clock: Clock = now,
        limiter: Limiter | None = None,
        usage: UsageLog | None = None,
    ) -> None:
        """``limiter`` counts requests where tokens or clients have a rate; ``usage`` writes down what is used."""
        self.store = store
        self.tokens = tokens
        self.catalog = catalog or ScopeCatalog()
        self.clock = NeverBack(clock)
        self.limiter = limiter
        self.usage = usage
        #: When this process last tried to record the end of an idle token.
        self._idle_tried: dict[str, int] = {}

    def authenticate(self, credential: Secret | None, address: str | None = None) -> Identity:
        """Who presents ``credential`` (None: the request has none), from ``address``.

        Raises MissingToken, InvalidToken, NetworkNotAllowed, RateLimited, or TemporarilyUnavailable when the store
        cannot say.
        """
        return self.admit(credential, address).identity

    def admit(self, credential: Secret | None, address: str | None) -> Admitted:
        """The same, with what else is known of the caller."""
        record = self._alive(self._find(self.recognise(credential)))
        _check_network(record, address)
        allowance = self._check_rate(record)
        token, client = record.token, record.client
        identity = Identity(client.id, client.name, token.id, self.catalog.effective(token.scopes, client.scopes))
        return Admitted(identity, record, allowance)

    def recognise(self, credential: Secret | None) -> Read:
        """As far as it goes without the store: raises MissingToken, or InvalidToken for what was not signed here."""
        if credential is None:
            raise MissingToken
        return self.tokens.read(credential)

    def authorize(self, identity: Identity, requirement: Requirement) -> None:
        """Let ``identity`` pass if it meets ``requirement``; raises InsufficientScope otherwise."""
        if not requirement.met_by(identity.scopes):
            raise InsufficientScope(
                requirement.names, str(requirement), token_id=identity.token_id, client_id=identity.client_id
            )

    def _found(self, token_id: str) -> Record | None:
        try:
            return self.store.find(token_id)
        except StoreError as error:
            log.error("the token store failed: %s", error)
            raise TemporarilyUnavailable(f"store: {error}", token_id=token_id) from error

    def _find(self, read: Read) -> Record:
        record = self._found(read.id)
        if record is None:
            raise InvalidToken("unknown", token_id=read.id)
        if not hmac.compare_digest(record.token.digest.encode(), read.digest.encode()):
            raise InvalidToken("another text is on record", token_id=read.id, client_id=record.client.id)
        return record

    def _alive(self, record: Record) -> Record:
        state = record.state(self.clock())
        if state == State.IDLE and record.token.idle_ended_at is None:
            record = self._settled(record)
            state = record.state(self.clock())
        if state != State.ACTIVE:
            raise InvalidToken(state.value, token_id=record.token.id, client_id=record.client.id)
        return record

    def _settled(self, record: Record) -> Record:
        """The record of a token that seems idle, with the uses that this process knew of; if it is idle, ended."""
        token_id, at = record.token.id, self.clock()
        if self.usage is not None and self.usage.write_one(token_id):
            record = self._found(token_id) or record
        # Where the store's clock does not agree that it is idle, that would be asked in vain at every request.
        tried = self._idle_tried.get(token_id)
        if record.state(at) == State.IDLE and (tried is None or at - tried >= USE_INTERVAL):
            if len(self._idle_tried) > MAX_TRIED:
                self._idle_tried.clear()
            self._idle_tried[token_id] = at
            end_if_idle(self.store, token_id)
        return record

    def _check_rate(self, record: Record) -> Allowance | None:
        rates = [
            (kind, item_id, conditions.rate)
            for kind, item_id, conditions in (
                ("token", record.token.id, record.token.conditions),
                ("client", record.client.id, record.client.conditions),
            )
            if conditions.rate is not None
        ]
        if not rates:
            return None
        if self.limiter is None:
            raise TemporarilyUnavailable("there is a rate limit, and nothing that counts: set RATE_LIMIT_URL")
        try:
            allowance = self.limiter.hit(rates)
        except LimiterUnavailable as error:
            raise TemporarilyUnavailable(f"rate limits: {error}", token_id=record.token.id) from error
        if allowance is not None and allowance.exceeded:
            raise RateLimited(allowance, token_id=record.token.id, client_id=record.client.id)
        return allowance


def _check_network(record: Record, address: str | None) -> None:
    limited = [held for held in (record.token.conditions, record.client.conditions) if held.allow or held.deny]
    if limited:  # most are not, and reading an address has its price
        origin = read_address(address)
        if not all(conditions.admit(origin) for conditions in limited):
            raise NetworkNotAllowed(f"network: {address!a}", token_id=record.token.id, client_id=record.client.id)
