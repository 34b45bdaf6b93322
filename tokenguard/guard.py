"""The verifying side, on every request: turn a credential into an Identity, then decide what it may do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from .breaker import NotAsked
from .cache import NOT_KEPT, TokenCache
from .clock import NEVER, Clock, NeverBack, checked_clock, now
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
from .secret import MAX_CREDENTIAL_LENGTH, Secret
from .sources import ForeignToken, Source, source_of
from .store import Store
from .tokens import Read, TokenFormat
from .usage import UsageLog, end_if_idle
from .verified import NOBODY, Using, Verified

log = logging.getLogger("tokenguard")
#: The reason for refusing a signed text that is not on record: its record is gone, or others have the signing key.
#: A different text on record under its id would prove the latter. The two are not told apart, so that every refusal
#: takes equally long.
UNKNOWN = "unknown"
#: How many idle tokens a guard remembers having tried to end.
MAX_TRIED = 10_000


class Guard:
    """Establishes who is calling, and whether that caller may do what it asks for.

    :meth:`authenticate` and :meth:`authorize` either return or raise an :class:`AuthError`, so that no result can be
    overlooked. The other methods are for the code between a request and these two.
    """

    # A method whose name begins with try_ returns the error that the one without would raise: raising takes more time,
    # and a traceback keeps frames that hold the text.

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
        """``limiter`` counts requests where tokens or clients have a rate; ``usage`` records the use of tokens.

        ``cache`` remembers tokens, by default for as long as :class:`TokenCache` does. ``sources`` accept other
        issuers' tokens, beside the service's own. ``clock`` returns the time in epoch microseconds. Raises
        ConfigurationError for a source that grants what ``catalog`` lacks, and for an argument of the wrong kind.
        """
        # Reported at the start, and not with every request.
        if not isinstance(tokens, TokenFormat):
            raise ConfigurationError(f"a guard requires TokenFormat(SigningKeys(…)), not {type(tokens).__name__}")
        if limiter is not None and not callable(getattr(limiter, "hit", None)):
            raise ConfigurationError(
                f"a limiter must have a method hit, like RateLimiter: {type(limiter).__name__} has none"
            )
        if cache is not None and getattr(cache, "store", None) is not store:
            # By another store's events, what is revoked might never be known.
            raise ConfigurationError("a guard's cache must be a TokenCache of the guard's own store")
        if usage is not None and getattr(usage, "store", None) is not store:
            # In another store, uses of tokens that are not there are passed over, and idle ones would end while in use.
            raise ConfigurationError("a guard's usage log must be a UsageLog of the guard's own store")
        self.store = store
        self.tokens = tokens
        self.catalog = ScopeCatalog.of(catalog)
        self.clock = NeverBack(checked_clock(clock))
        self.limiter = limiter
        self.usage = usage
        self.cache = TokenCache(store) if cache is None else cache
        self.cache.stands_still = self.clock.stands_still
        if usage is not None:
            self.clock.on_step_back = usage.forget_times
        self.sources = tuple(sources)
        for source in self.sources:
            source.check(self.catalog)
        #: Stands in for uses that are not written down; shared by all tokens with the same scopes.
        self._unwritten = lru_cache(maxsize=REMEMBERED)(partial(Using, NOBODY, last_used_at=None))
        #: By token id, when this process last tried to record the end of an idle token.
        self._idle_tried: dict[str, int] = {}

    def authenticate(self, credential: Secret | None, address: str | None = None) -> Identity:
        """Return who presents ``credential`` (None if the request has none) from ``address``.

        Raises MissingToken, InvalidToken, NetworkNotAllowed, RateLimited, or TemporarilyUnavailable when the store
        cannot answer.
        """
        return self.admit(credential, address).identity

    def admit(self, credential: Secret | None, address: str | None) -> Verified:
        """Like :meth:`authenticate`, but return all that is known of the token."""
        if credential is None:
            raise MissingToken
        key = self.key(credential.reveal())
        verified = self.remembered(key) if key else None
        return self.check(self._verify(credential, key) if verified is None else verified, address)

    def key(self, text: str) -> bytes:
        """Return the key under which a text is remembered; empty if its length rules out a token."""
        if not self.sources or len(text) == self.tokens.length:
            return self.tokens.key(text)
        return self.tokens.key_of_any(text) if len(text) <= MAX_CREDENTIAL_LENGTH and text.isascii() else b""

    def remembered(self, key: bytes) -> Verified | None:
        """Return what is already known of the token with this :meth:`TokenFormat.key`, or None.

        Asks the store only for what has changed, and only when that is due. Raises TemporarilyUnavailable if this
        fails and what is known may no longer hold.
        """
        try:
            verified = self.cache.get(key)
        except StoreError as error:
            raise self._unavailable(error) from error
        # The clock is read even for a token that never ends: its use is recorded by the clock's latest reading.
        return None if verified is None or self.clock() >= verified.ends_at else verified

    def peek(self, key: bytes) -> Verified | None:
        """Like :meth:`remembered`, but without asking the store, as :meth:`TokenCache.peek`: None where that is due."""
        verified = self.cache.peek(key)
        return None if verified is None or self.clock() >= verified.ends_at else verified

    def check(self, verified: Verified, address: str | None) -> Verified:
        """Check what each request decides anew: whether the token may be used from ``address``, and this often."""
        if not self.allows_from(verified, address):
            raise NetworkNotAllowed(address, **whose_token(verified.identity))
        return verified.allowed(self._check_rate(verified)) if verified.rates else verified

    def allows_from(self, verified: Verified, address: str | None) -> bool:
        """Whether the token's networks allow ``address``; asked again whenever a request's outcome is reused."""
        if not verified.networks:
            return True
        origin = read_address(address)
        return all(conditions.admit(origin) for conditions in verified.networks)

    def try_check(self, verified: Verified, address: str | None) -> Verified | AuthError:
        """As :meth:`check`, but return the error."""
        try:
            return self.check(verified, address)
        except AuthError as error:
            return error.with_traceback(None)

    def recognise(self, credential: Secret) -> Read | Source:
        """Recognise a credential as far as possible without asking anybody: as our own token, or by its source.

        Raises InvalidToken for a text that was not signed here and belongs to no source.
        """
        # The text is kept in no variable, since a traceback shows this frame's.
        read = self.tokens.examine(credential.reveal()) or self._source_of(credential.reveal())
        if read is None or isinstance(read, InvalidToken):
            raise read or InvalidToken("not a token of this service")
        return read

    def authorize(self, identity: Identity, requirement: Requirement) -> None:
        """Let ``identity`` pass if it meets ``requirement``; raises InsufficientScope otherwise."""
        if (error := self.objection(identity, requirement)) is not None:
            raise error

    def objection(self, identity: Identity, requirement: Requirement) -> InsufficientScope | None:
        """Return the error that :meth:`authorize` would raise, or None."""
        if requirement.met_by(identity.scopes):
            return None
        return InsufficientScope(requirement.names, str(requirement), **whose_token(identity))

    def prepare(self, verified: Verified, requirement: Requirement, at: int) -> bool:
        """Prepare to let the token in for ``requirement`` without another look at its scopes; return whether it may.

        That is remembered, and the usage log prepared for a use at ``at``. False also while the catalogue has not
        checked the requirement.
        """
        if requirement.mark not in self.catalog.checked or not requirement.met_by(verified.identity.scopes):
            return False
        if self.usage is None:
            verified.meets(requirement)
            verified.using.renew_at = NEVER
        else:
            self.usage.prepare(verified, requirement, at)
        return True

    def _verify(self, credential: Secret, key: bytes) -> Verified:
        """Verify a text that is not remembered, and remember it under ``key``. Raises as authenticate does."""
        read = self.recognise(credential)
        return self.look_up(read, key) if isinstance(read, Read) else self.look_up_foreign(read, credential, key)

    def try_verify(self, text: str, key: bytes) -> Verified | AuthError | None:
        """As :meth:`_verify`, but return the error, or None for a text that is not even shaped like a token."""
        read = self.tokens.examine(text)
        foreign = None
        if read is None and (source := self._source_of(text)) is not None:
            foreign = source, Secret(text, "credential")
        del text  # whatever collects the variables of running functions must not find it while the store is asked
        try:
            if isinstance(read, Read):
                return self.look_up(read, key)
            return read if foreign is None else self.look_up_foreign(*foreign, key)
        except AuthError as error:
            return error.with_traceback(None)

    def _source_of(self, text: str) -> Source | None:
        """Return the source that a text belongs to; None if there is none, or if the text is the service's own."""
        # By its shape alone: the source must be clear before anything is verified, and no other one is tried.
        return source_of(text, self.sources, self.tokens.beginning)

    def look_up_foreign(self, source: Source, credential: Secret, key: bytes) -> Verified:
        """Verify a token of another issuer, and remember it under ``key`` until it ends. Raises as authenticate does.

        The store can only refuse or restrict it: the client may be disabled or limited here, and the token revoked.
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
        """Return where to count uses of another issuer's token: for all its client's tokens together, if registered.

        Such tokens are many and short-lived, so nothing is kept of each.
        """
        if self.usage is None or found.client is None:
            return self._unwritten(scopes)
        last_used_at = found.use.last_used_at if found.use else None
        return self.usage.waiting(found.client.id, scopes) or Using(found.client.id, scopes, last_used_at)

    def look_up(self, read: Read, key: bytes) -> Verified:
        """Ask the store about a token signed here, and remember it under ``key``. Raises as authenticate does."""
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
        """Remember and return ``found`` or, if something has changed since, what the primary then says.

        Raises StoreUnavailable if the primary's answer is older than what was known before it was asked.
        """
        verified, revision = found
        if not self.cache.put(key, verified, revision, generation):
            newest = self.cache.newest
            verified, revision = find_again(*asked)
            # A transaction that was left open would give this answer for good; the feed will show a restored backup.
            if revision < newest:
                raise StoreUnavailable(
                    "it lacks changes that it reported before: an old snapshot, or a restored backup"
                )
            self.cache.put(key, verified, revision, generation)
        return verified

    def introspect(self, credential: Secret) -> tuple[str, Standing]:
        """Return the id of a good token that was signed here, and what the store says of it now.

        This does not count as a use of the token. Raises InvalidToken for any other text, and TemporarilyUnavailable.
        """
        read = self.tokens.read(credential)
        try:
            return read.id, self._settled(read, self._standing(read))
        except StoreError as error:
            raise self._unavailable(error, read.id) from error

    def _vouched_for(self, read: Read) -> tuple[Verified, int] | None:
        """Return what the replica says if it finds the token good, else None: it may not know of its issue or use yet.

        Not asked through the primary's breaker: waiting for the replica must keep nobody from the primary.
        """
        standing = self.store.standing(read)
        if standing is None or self.clock() >= (ends_at := standing.good_until):
            return None
        return self._build(read, standing, ends_at), standing.revision

    def _found_good(self, read: Read) -> tuple[Verified, int]:
        """Return what the primary says of a good token; raises InvalidToken for any other."""
        standing = self._standing(read)
        if self.clock() >= (ends_at := standing.good_until):
            standing = self._settled(read, standing)
            ends_at = standing.good_until
        return self._build(read, standing, ends_at), standing.revision

    def _build(self, read: Read, standing: Standing, ends_at: int) -> Verified:
        """Build what is remembered of a token with this standing."""
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
        """Return the token's standing on the primary; raises InvalidToken for one that is not on record."""
        standing = self.cache.breaker.call(self.store.standing, read, primary=True)
        if standing is None:
            raise InvalidToken(UNKNOWN, token_id=read.id)
        return standing

    def _unavailable(
        self, error: StoreError, token_id: str | None = None, issuer: str | None = None
    ) -> TemporarilyUnavailable:
        if not isinstance(error, NotAsked):  # the failure before it is in the log
            log.error("the token store failed: %s", error)
        return TemporarilyUnavailable(f"store: {error}", token_id=token_id, issuer=issuer)

    def _settled(self, read: Read, standing: Standing) -> Standing:
        """Return the standing if the token is good, given the uses this process knows of; raises InvalidToken."""
        state = standing.state(self.clock())
        if state is State.IDLE and standing.idle_ended_at is None:
            standing = self._used(read, standing)
            state = standing.state(self.clock())
        if state is not State.ACTIVE:
            raise InvalidToken(state.value, token_id=read.id, client_id=standing.client_id)
        return standing

    def _used(self, read: Read, standing: Standing) -> Standing:
        """Return a seemingly idle token's standing with this process's own uses; if still idle, record its end."""
        at, usage = self.clock(), self.usage
        # A write in the caller's transaction may be undone, and holds up other writers until that is over.
        may_write = not self.store.in_transaction
        if usage is not None:
            if may_write and usage.write_one(read.id):
                standing = self._standing(read)
            if (seen := usage.last_use(read.id)) > (standing.last_used_at or 0):
                standing = standing._replace(last_used_at=seen)
        # Not at every request: where the store's clock does not agree that it is idle, each attempt is in vain.
        tried = self._idle_tried.get(read.id)
        if may_write and standing.state(at) is State.IDLE and (tried is None or at - tried >= USE_INTERVAL):
            if len(self._idle_tried) > MAX_TRIED:
                self._idle_tried.clear()
            self._idle_tried[read.id] = at
            end_if_idle(self.store, read.id)
        return standing

    def _check_rate(self, verified: Verified) -> Allowance | None:
        if self.limiter is None:
            nothing = "there is a rate limit, but no limiter: set RATE_LIMIT_URL, or give the guard a limiter"
            raise TemporarilyUnavailable(nothing, **whose_token(verified.identity))
        try:
            allowance = self.limiter.hit(verified.rates)
        except LimiterUnavailable as error:
            raise TemporarilyUnavailable(f"rate limits: {error}", **whose_token(verified.identity)) from error
        if allowance is not None and allowance.exceeded:
            raise RateLimited(allowance, **whose_token(verified.identity))
        return allowance


def whose_token(identity: Identity) -> dict[str, str | None]:
    """Return whose token is refused, as arguments for an AuthError."""
    issuer = None if identity.issuer == OWN_ISSUER else identity.issuer
    return {"token_id": identity.token_id, "client_id": identity.client_id, "issuer": issuer}
