"""The rules for issuing, which every way of issuing checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .clock import SECOND, check_duration, duration_text
from .errors import ConfigurationError, InvalidValue, PolicyViolation
from .records import USE_INTERVAL, Record, State
from .tokens import Token

MIN_IDLE_TIMEOUT = USE_INTERVAL // SECOND + 1


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that a new token must meet. Durations are in seconds; None means no rule.

    Raises ConfigurationError for a value that no token could meet.
    """

    #: The longest that a token may live; with this rule it must have an expiry.
    max_lifetime: int | None = None
    require_expiry: bool = False
    #: How many active tokens a client may have. A rotated one does not count, unless its successor is rotated in turn.
    max_active_tokens: int | None = None
    #: The idle timeout of tokens that are issued without one of their own.
    idle_timeout: int | None = None
    require_name: bool = False

    def __post_init__(self) -> None:
        try:
            if self.max_lifetime is not None:
                check_duration(self.max_lifetime)
            if self.idle_timeout is not None:
                check_idle_timeout(self.idle_timeout)
        except InvalidValue as error:
            raise ConfigurationError(str(error)) from None
        most = self.max_active_tokens
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigurationError(f"the maximum number of active tokens must be 1 or more, not {most!r}")

    @property
    def needs_expiry(self) -> bool:
        """Whether a token must have an expiry."""
        return self.require_expiry or self.max_lifetime is not None

    def check(self, token: Token, others: Sequence[Record], now: int, *, replaces: str | None = None) -> None:
        """Raise PolicyViolation, naming the rule, if ``token`` may not be issued beside its client's ``others``.

        ``others`` may be empty without a limit of active tokens, as nothing else looks at them. ``replaces`` is the id
        of the token whose successor it is, if it is one.
        """
        for rule, broken in (
            ("require_expiry", self.needs_expiry and token.expires_at is None and "a token must have an expiry here"),
            ("max_lifetime", self._lives_too_long(token)),
            ("require_name", self.require_name and not token.name and "a token must have a name here"),
            ("max_active_tokens", self._one_too_many(others, now, replaces)),
        ):
            if broken:
                raise PolicyViolation(rule, broken, token.client_id)

    def _lives_too_long(self, token: Token) -> str | None:
        if self.max_lifetime is None or token.expires_at is None:
            return None
        lifetime = (token.expires_at - token.created_at) // SECOND
        if lifetime <= self.max_lifetime:
            return None
        most, asked = duration_text(self.max_lifetime), duration_text(lifetime)
        return f"a token may live for at most {most} here, but this one would live for {asked}"

    def _one_too_many(self, others: Sequence[Record], now: int, replaces: str | None) -> str | None:
        if self.max_active_tokens is None:
            return None
        # The successor of a rotated token counts in its place.
        counted = [other for other in others if not other.token.successor_id and other.token.id != replaces]
        # But rotating again and again, with long overlaps, must not accumulate tokens that all work.
        counted += _predecessors(replaces, others)
        active = sum(other.state(now) == State.ACTIVE for other in counted)
        if active < self.max_active_tokens:
            return None
        return f"the limit of active tokens for each client is {self.max_active_tokens} here, and this one has {active}"


def _predecessors(token_id: str | None, records: Sequence[Record]) -> Iterator[Record]:
    """The records of the tokens that were rotated, one after the other, until there was this one."""
    by_successor = {record.token.successor_id: record for record in records if record.token.successor_id}
    # Each is taken out, so that damaged rows that name each other come to an end.
    while token_id and (record := by_successor.pop(token_id, None)) is not None:
        yield record
        token_id = record.token.id


def check_idle_timeout(seconds: int) -> int:
    """Return ``seconds`` if uses are written down often enough to enforce it; else raise InvalidValue."""
    if check_duration(seconds) < MIN_IDLE_TIMEOUT:
        raise InvalidValue(
            f"an idle timeout must be longer than {USE_INTERVAL // SECOND} seconds, the interval at which use is "
            f"recorded; this is {duration_text(seconds)}"
        )
    return seconds
