"""Writing down the use of tokens, without waiting for anybody."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from ..clock import Clock
from ..databases import USE_LOCK_TIMEOUT
from ..records import NewUse, merge_use
from ..rows import columns, dump, load
from ..tokens import Use as KnownUse
from . import models
from .connections import first_to_write, lock_timeout
from .queries import database_time


def write_uses(connection: BaseDatabaseWrapper, uses: Sequence[NewUse], clock: Clock | None) -> set[str]:
    """Add ``uses`` in the caller's transaction; returns the ids of tokens that another process is writing down.

    Those are skipped rather than waited for: their last use will be as new, and the rest can be added later. Unknown
    tokens are passed over.
    """
    alias = connection.alias
    by_id = {use.token_id: use for use in uses}
    first_to_write(connection)
    # Both kinds of id are random, or made in the same way: none of the one kind is of the other.
    kinds = (models.Token.objects, models.Client.objects)
    found = [kind.using(alias).filter(pk__in=by_id).order_by().values_list("pk", flat=True) for kind in kinds]
    tokens = set(chain(*found))
    rows = models.Use._base_manager.using(alias).filter(pk__in=tokens)
    # In one order for all, so that two who write the same first uses do not wait for each other in a circle.
    missing = sorted(tokens.difference(rows.values_list("pk", flat=True)))
    with lock_timeout(connection, USE_LOCK_TIMEOUT):
        # Nobody else sees them before their time is put right below.
        _add_missing(alias, [merge_use(None, by_id[token_id], 0) for token_id in missing])
        kept = rows.select_for_update(skip_locked=True).values_list(*columns(KnownUse))
        locked = [load(KnownUse, row) for row in kept]
        # Only now: what another has written just before is not to lie in the future.
        now = clock() if clock else database_time(connection)
        _replace(alias, [merge_use(use, by_id[use.token_id], now) for use in locked])
        written = sorted(use.token_id for use in locked)
        _count(alias, [by_id[token_id] for token_id in written])
    return tokens.difference(written)


def _add_missing(alias: str, uses: list[KnownUse]) -> None:
    # Only another's very first use of the same token is waited for, and not for long.
    models.Use._base_manager.using(alias).bulk_create([models.Use(**dump(use)) for use in uses], ignore_conflicts=True)


def _replace(alias: str, uses: list[KnownUse]) -> None:
    _put(alias, [models.Use(**dump(use)) for use in uses], ["token_id"], ["last_used_at", "address", "scopes"])


def _count(alias: str, uses: list[NewUse]) -> None:
    # Whoever has the row of the use has these too, so nobody waits here, and what is read holds until it is written.
    days = {day for use in uses for day in use.requests}
    rows = models.UseDay._base_manager.using(alias).filter(token_id__in=[use.token_id for use in uses], day__in=days)
    known = {(token_id, day): requests for token_id, day, requests in rows.values_list("token_id", "day", "requests")}
    counted = [
        models.UseDay(token_id=use.token_id, day=day, requests=requests + known.get((use.token_id, day), 0))
        for use in uses
        for day, requests in sorted(use.requests.items())
    ]
    _put(alias, counted, ["token_id", "day"], ["requests"])


def _put(alias: str, items: Sequence[Model], key: list[str], fields: list[str]) -> None:
    """Insert these, or set their ``fields`` where they are there already."""
    if items:
        manager = type(items[0])._base_manager.using(alias)
        manager.bulk_create(items, update_conflicts=True, unique_fields=key, update_fields=fields)
