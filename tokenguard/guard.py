"""The verifying side, on every request: from a credential to an Identity, from an Identity to yes or no."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from .breaker import NotAsked
from .cache import NOT_KEPT, TokenCache
from .clock import NEVER, Clock, NeverBack, now
from .conditions import UNCONDITIONAL, Allowance, Limiter, LimiterUnavailable, read_address
from .errors import (
    AuthError,
    ConfigurationError,
    InsufficientScope,
    InvalidToken,
    MissingToken,
    NetworkNotAllowed,
    RateLimited,
    StoreError,
    StoreUnavailable,
    TemporarilyUnavailable,
)
from .identity import OWN_ISSUER, Identity
from .records import USE_INTERVAL, ForeignRecord, Standing, State
from .scopes import REMEMBERED, Requirement, ScopeCatalog, Scopes
from .secret import Secret
from .sources import MAX_LENGTH, ForeignToken, Source, source_of
from .store import Store
from .tokens import Read, TokenFormat
from .usage import UsageLog, end_if_idle
from .verified import NOBODY, Using, Verified

log = logging.getLogger("tokenguard")
#: Why a signed text is refused that is not on record: its record is gone, or others have the signing key. It is the
#: latter where another text is on record under its id, but that is not told apart: each refusal takes as long.
UNKNOWN = "unknown"
#: How many idle tokens a guard remembers to have tried to end.
MAX_TRIED = 10_000


class Guard:
    """Says who is calling, and whether that caller may do what it asks for.

    :meth:`authenticate` and :meth:`authorize` return or raise an :class:`AuthError`, so that there is no result that
    could be overlooked. The others are for what stands between a request and these.
    """

    def __init__(
        self,
        store: Store,
        tokens: TokenFormat,
        *,
        catalog: ScopeCatalog | Mapping[str, Any] | None = None,
        clock: Clock = now,
        limiter: Limiter | None = None,
        usage: UsageLog | None = None,
        cache: TokenCache | None = None,
        sources: Sequence[Source] = (),
    ) -> None:
        """``limiter`` counts requests where tokens or clients have a rate; ``usage`` writes down what is used.

        ``cache`` remembers tokens, by default for as long as :class:`TokenCache` does. ``sources`` are those of other
        issuers' tokens, beside the service's own. Raises ConfigurationError for one that grants what ``catalog`` lacks,
        and for what is something else than it has to be.
        """
        # At the start, and not with every request.
        if not isinstance(tokens, TokenFormat):
            raise ConfigurationError(f"a guard takes TokenFormat(SigningKeys(…)), not {type(tokens).__name__}")
        if limiter is not None and not callable(getattr(limiter, "hit", None)):
            raise ConfigurationError(
                f"a limiter has a method hit, as RateLimiter has: {type(limiter).__name__} has none"
            )
        self.store = store
        self.tokens = tokens
        self.catalog = ScopeCatalog.of(catalog)
        self.clock = NeverBack(clock)
        self.limiter = limiter
        self.usage = usage
        self.cache = TokenCache(store) if cache is None else cache
        self.cache.stands_still = self.clock.stands_still
        if usage is not None:
            self.clock.on_step_back = usage.look_again
        self.sources = tuple(sources)
        for source in self.sources:
            source.check(self.catalog)
        #: What stands for uses that are not written down: the same for all that may do the same.
        self._unwritten = lru_cache(maxsize=REMEMBERED)(partial(Using, NOBODY, last_used_at=None))
        #: When this process last tried to record the end of an idle token.
        self._idle_tried: dict[str, int] = {}

    def authenticate(self, credential: Secret | None, address: str | None = None) -> Identity:
        """Who presents ``credential`` (None: the request has none), from ``address``.

        Raises MissingToken, InvalidToken, NetworkNotAllowed, RateLimited, or TemporarilyUnavailable when the store
        cannot say.
        """
        return self.admit(credential, address).identity

    def admit(self, credential: Secret | None, address: str | None) -> Verified:
        """The same, with what else is known of the token."""
        if credential is None:
            raise MissingToken
        key = self.key(credential.reveal())
        verified = self.remembered(key) if key else None
        return self.check(self._learn(credential, key) if verified is None else verified, address)

    def key(self, text: str) -> bytes:
        """Under what a text is remembered if it is that of a token; nothing if it can be none by its length."""
        if not self.sources or len(text) == self.tokens.length:
            return self.tokens.key(text)
        return self.tokens.key_of_any(text) if len(text) <= MAX_LENGTH and text.isascii() else b""

    def remembered(self, key: bytes) -> Verified | None:
        """What is known already of the token with this :meth:`TokenFormat.key`.

        Asks nobody but, when it is due, what has changed.
        Raises TemporarilyUnavailable if that cannot be asked, and what is known may hold no more.
        """
        try:
            verified = self.cache.get(key)
        except StoreError as error:
            raise self._unavailable(error) from error
        # Also for one that never ends: what is noted of its use goes by when the clock was asked last.
        return None if verified is None or self.clock() >= verified.ends_at else verified

    def recall(self, key: bytes) -> Verified | None:
        """The same, without asking anybody: None also where that is due."""
        verified = self.cache.peek(key)
        return None if verified is None or self.clock() >= verified.ends_at else verified

    def check(self, verified: Verified, address: str | None) -> Verified:
        """What is decided anew for each request: whether the token may be used from there, and as often as that."""
        if not self.is_admitted(verified, address):
            raise NetworkNotAllowed(address, **whose_token(verified.identity))
        return verified.allowed(self._check_rate(verified)) if verified.rates else verified

    def is_admitted(self, verified: Verified, address: str | None) -> bool:
        """Whether the token may be used from there: asked again whenever what is known of a request is."""
        if not verified.networks:
            return True
        origin = read_address(address)
        return all(conditions.admit(origin) for conditions in verified.networks)

    def find_fit(self, verified: Verified, address: str | None) -> Verified | AuthError:
        """What :meth:`check` returns or raises."""
        try:
            return self.check(verified, address)
        except AuthError as error:
            return error.with_traceback(None)

    def recognise(self, credential: Secret | None) -> Read | Source:
        """As far as it goes without asking anybody.

        Raises MissingToken, or InvalidToken for what was neither signed here nor is of the kind of any source.
        """
        if credential is None:
            raise MissingToken
        # In no variable: the traceback shows this frame's.
        read = self.tokens.examine(credential.reveal()) or self._source_of(credential.reveal())
        if read is None or isinstance(read, InvalidToken):
            raise read or InvalidToken("not a token of this service")
        return read

    def authorize(self, identity: Identity, requirement: Requirement) -> None:
        """Let ``identity`` pass if it meets ``requirement``; raises InsufficientScope otherwise."""
        if (error := self.objection(identity, requirement)) is not None:
            raise error

    def objection(self, identity: Identity, requirement: Requirement) -> InsufficientScope | None:
        """What :meth:`authorize` would raise."""
        if requirement.met_by(identity.scopes):
            return None
        return InsufficientScope(requirement.names, str(requirement), **whose_token(identity))

    def lets_in(self, verified: Verified, requirement: Requirement, at: int) -> bool:
        """Whether the token may be used for what asks for ``requirement``; False also if the catalogue was not asked.

        That it may is remembered, and the usage log has a look at the token, which is being used at ``at``.
        """
        if requirement.mark not in self.catalog.checked or not requirement.met_by(verified.identity.scopes):
            return False
        if self.usage is None:
            verified.meets(requirement)
            verified.using.look_at = NEVER
        else:
            self.usage.look(verified, requirement, at)
        return True

    def find_out(self, text: str, key: bytes) -> Verified | AuthError | None:
        """What is to be said of a text that is not remembered; None for one that has not even the shape of a token."""
        read = self.tokens.examine(text)
        try:
            if isinstance(read, Read):
                return self.look_up(read, key)
            if read is None and (source := self._source_of(text)) is not None:
                return self.look_up_foreign(source, Secret(text, "credential"), key)
            return read
        except AuthError as error:
            return error.with_traceback(None)

    def _source_of(self, text: str) -> Source | None:
        """The source of whose kind a text is that is none of the service's own."""
        # By its shape alone: whose it is must be clear before anything is verified, and nobody tries it on the others.
        return source_of(text, self.sources, self.tokens.beginning)

    def _learn(self, credential: Secret, key: bytes) -> Verified:
        read = self.recognise(credential)
        return self.look_up(read, key) if isinstance(read, Read) else self.look_up_foreign(read, credential, key)

    def look_up_foreign(self, source: Source, credential: Secret, key: bytes) -> Verified:
        """Who presents a token of another issuer, remembered under ``key`` until it ends. Raises as authenticate.

        The store can only say no, or less: the client may be disabled here, or limited, and the token be revoked.
        """
        at = self.clock()
        token = source.verify(credential, at, self.catalog)
        in_leeway = at >= token.expires_at
        try:
            generation = self.cache.catch_up()
            verified = self._keep(
                key, NOT_KEPT if in_leeway else generation, self._accepted(token), self._accepted, token
            )
        except StoreError as error:
            raise self._unavailable(error, token.token_id, token.issuer) from error
        if in_leeway:
            verified.ends_at = token.refused_at
        return verified

    def _accepted(self, token: ForeignToken) -> tuple[Verified, int]:
        token_id, client_id = token.local_token_id, token.local_client_id
        found = self.cache.breaker.call(self.store.find_foreign, token_id, client_id)
        name, ceiling, enabled, limits = token.client_id, token.scopes, True, UNCONDITIONAL
        if (client := found.client) is not None:
            name, ceiling, enabled, limits = client.name, client.scopes, client.enabled, client.conditions
        if found.revoked or not enabled:
            reason = State.REVOKED if found.revoked else State.CLIENT_DISABLED
            raise InvalidToken(reason.value, **token.whose)
        scopes = self.catalog.effective(token.scopes, ceiling)
        identity = Identity(token.client_id, name, token.token_id, scopes, token.issuer, token.subject, token.claims)
        using = self._using_of(found, scopes)
        return Verified(identity, token_id, client_id, token.expires_at, using, common=limits), found.revision

    def _using_of(self, found: ForeignRecord, scopes: Scopes) -> Using:
        """Where uses of another issuer's token are counted: for all tokens of its client together, if that is known.

        Such tokens are many and live shortly, so there is nothing to be kept of each.
        """
        if self.usage is None or found.client is None:
            return self._unwritten(scopes)
        last_used_at = found.use.last_used_at if found.use else None
        return self.usage.waiting(found.client.id, scopes) or Using(found.client.id, scopes, last_used_at)

    def look_up(self, read: Read, key: bytes) -> Verified:
        """What the store says of a token that was signed here, remembered under ``key``. Raises as authenticate."""
        try:
            generation = self.cache.catch_up()
            found = self._vouched_for(read) if self.store.replicated else None
            return self._keep(key, generation, found or self._found_good(read), self._found_good, read)
        except StoreError as error:
            raise self._unavailable(error, read.id) from error

    def _keep(
        self,
        key: bytes,
        generation: int,
        found: tuple[Verified, int],
        find_again: Callable[..., tuple[Verified, int]],
        *asked: object,
    ) -> Verified:
        """Have ``found`` remembered, or, where something has happened since, what the primary says then.

        Raises StoreUnavailable where that is older than what was known before it was asked.
        """
        verified, revision = found
        if not self.cache.put(key, verified, revision, generation):
            newest = self.cache.newest
            verified, revision = find_again(*asked)
            # A transaction that somebody has left open would say so for good; of a restored backup the feed will tell.
            if revision < newest:
                raise StoreUnavailable("it does not know what it told before: an old snapshot, or a restored backup")
            self.cache.put(key, verified, revision, generation)
        return verified

    def introspect(self, credential: Secret) -> tuple[str, Standing]:
        """The id of a token that was signed here and is good, and what the store says of it now.

        For who only asks: that is no use of it. Raises InvalidToken for any other text, and TemporarilyUnavailable.
        """
        read = self.tokens.read(credential)
        try:
            return read.id, self._settled(read, self._standing(read))
        except StoreError as error:
            raise self._unavailable(error, read.id) from error

    def _vouched_for(self, read: Read) -> tuple[Verified, int] | None:
        """What the replica says, which may only say yes: it may not have heard yet that the token exists, or is used.

        Who waits for it keeps nobody from the primary.
        """
        standing = self.store.standing(read)
        if standing is None or self.clock() >= (ends_at := standing.good_until):
            return None
        return self._verified(read, standing, ends_at), standing.revision

    def _found_good(self, read: Read) -> tuple[Verified, int]:
        """What the primary says."""
        standing = self._standing(read)
        if self.clock() >= (ends_at := standing.good_until):
            standing = self._settled(read, standing)
            ends_at = standing.good_until
        return self._verified(read, standing, ends_at), standing.revision

    def _verified(self, read: Read, standing: Standing, ends_at: int) -> Verified:
        """What is remembered of a token with this standing."""
        scopes = self.catalog.effective(standing.scopes, standing.ceiling)
        using = None if self.usage is None else self.usage.waiting(read.id, scopes)
        return Verified(
            Identity(standing.client_id, standing.client_name, read.id, scopes),
            read.id,
            standing.client_id,
            ends_at,
            using or Using(read.id, scopes, standing.last_used_at),
            standing.conditions,
            standing.client_conditions,
        )

    def _standing(self, read: Read) -> Standing:
        """The token's by the primary; raises InvalidToken for one that is not on record."""
        standing = self.cache.breaker.call(self.store.standing, read, primary=True)
        if standing is None:
            raise InvalidToken(UNKNOWN, token_id=read.id)
        return standing

    def _unavailable(
        self, error: StoreError, token_id: str | None = None, issuer: str | None = None
    ) -> TemporarilyUnavailable:
        if not isinstance(error, NotAsked):  # that follows a failure of which the log tells
            log.error("the token store failed: %s", error)
        return TemporarilyUnavailable(f"store: {error}", token_id=token_id, issuer=issuer)

    def _settled(self, read: Read, standing: Standing) -> Standing:
        """The same if the token is good, or if uses that this process knows of make it so; raises InvalidToken."""
        state = standing.state(self.clock())
        if state is State.IDLE and standing.idle_ended_at is None:
            standing = self._used(read, standing)
            state = standing.state(self.clock())
        if state is not State.ACTIVE:
            raise InvalidToken(state.value, token_id=read.id, client_id=standing.client_id)
        return standing

    def _used(self, read: Read, standing: Standing) -> Standing:
        """The standing of a token that seems idle, with the uses that this process knows of; if it is idle, ended."""
        at, usage = self.clock(), self.usage
        # What is written in a transaction of the caller's may be undone, and holds up other writers until it is over.
        may_write = not self.store.in_transaction
        if usage is not None:
            if may_write and usage.write_one(read.id):
                standing = self._standing(read)
            if (seen := usage.last_use(read.id)) > (standing.last_used_at or 0):
                standing = standing._replace(last_used_at=seen)
        # Where the store's clock does not agree that it is idle, that would be asked in vain at every request.
        tried = self._idle_tried.get(read.id)
        if may_write and standing.state(at) is State.IDLE and (tried is None or at - tried >= USE_INTERVAL):
            if len(self._idle_tried) > MAX_TRIED:
                self._idle_tried.clear()
            self._idle_tried[read.id] = at
            end_if_idle(self.store, read.id)
        return standing

    def _check_rate(self, verified: Verified) -> Allowance | None:
        if self.limiter is None:
            nothing = "there is a rate limit, and nothing that counts: set RATE_LIMIT_URL, or give the guard a limiter"
            raise TemporarilyUnavailable(nothing, **whose_token(verified.identity))
        try:
            allowance = self.limiter.hit(verified.rates)
        except LimiterUnavailable as error:
            raise TemporarilyUnavailable(f"rate limits: {error}", **whose_token(verified.identity)) from error
        if allowance is not None and allowance.exceeded:
            raise RateLimited(allowance, **whose_token(verified.identity))
        return allowance


def whose_token(identity: Identity) -> dict[str, str | None]:
    """Whose token is refused, as an AuthError has it."""
    issuer = None if identity.issuer == OWN_ISSUER else identity.issuer
    return {"token_id": identity.token_id, "client_id": identity.client_id, "issuer": issuer}
