"""A token's state as computed by the database: the same as ``Record.state``, for lists, filters and ordering."""

from __future__ import annotations

from typing import Any

from django.db.models import BigIntegerField, Case, Count, ExpressionWrapper, F, Max, OuterRef, Subquery, Value, When
from django.db.models.functions import Coalesce, Greatest

from ...clock import DAY
from ...records import USE_INTERVAL, State
from ..models import Token, Use

#: A token expires soon if it expires within this time.
SOON = 30 * DAY

# Each number is a BIGINT: Django omits a comparison with a value that it believes to be out of a column's range.
_NEVER = Value(0, BigIntegerField())
_LATE = Value(USE_INTERVAL, BigIntegerField())
_IDLE_END = ExpressionWrapper(
    Greatest(Coalesce("use__last_used_at", _NEVER), "created_at") + F("idle_timeout") + _LATE,
    output_field=BigIntegerField(),
)


def with_state(tokens: Any, now: int) -> Any:
    """Annotate tokens with their ``state`` at ``now`` (epoch microseconds) and their ``last_used``."""
    return tokens.alias(idle_end=_IDLE_END).annotate(state=_state(now), last_used=F("use__last_used_at"))


def expiring(tokens: Any, now: int) -> Any:
    """Select, from tokens with their state, those that work now and expire soon."""
    return tokens.filter(state=State.ACTIVE, expires_at__lte=now + SOON)


def with_use(clients: Any, using: str, now: int) -> Any:
    """Annotate clients with the number of their ``active`` tokens, and when any was ``last_used``.

    The use of another issuer's client is kept under the client's own id.
    """
    tokens = Token.objects.using(using).filter(client=OuterRef("pk")).order_by()
    working = with_state(tokens, now).filter(state=State.ACTIVE)
    active = working.values("client").annotate(number=Count("pk")).values("number")
    last = tokens.values("client").annotate(latest=Max("use__last_used_at")).values("latest")
    foreign = Use.objects.using(using).filter(token_id=OuterRef("pk")).values("last_used_at")
    used = Coalesce(Subquery(foreign), Subquery(last))
    return clients.annotate(active=Coalesce(Subquery(active), 0), last_used=used)


def _state(now: int) -> Case:
    # In the order of Record.state: the first that applies.
    return Case(
        When(revoked_at__isnull=False, then=Value(State.REVOKED.value)),
        When(idle_ended_at__isnull=False, then=Value(State.IDLE.value)),
        When(overlap_ends_at__lte=now, then=Value(State.ROTATED.value)),
        When(expires_at__lte=now, then=Value(State.EXPIRED.value)),
        When(idle_end__lte=now, then=Value(State.IDLE.value)),
        When(client__enabled=False, then=Value(State.CLIENT_DISABLED.value)),
        default=Value(State.ACTIVE.value),
    )
