"""Write the uses of tokens, without waiting for other writers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from ..clock import Clock
from ..databases import NO_USES, USE_LOCK_TIMEOUT
from ..records import NewUse, merge_use
from ..rows import columns, dump, load
from ..tokens import Use as KnownUse
from . import models
from .connections import first_to_write, lock_timeout
from .queries import database_time


def write_uses(connection: BaseDatabaseWrapper, uses: Sequence[NewUse], clock: Clock | None) -> set[str]:
    """Add ``uses`` in the caller's transaction; return the ids of tokens whose use another process is writing.

    Those are skipped rather than waited for: their last use will be as recent, and the rest can be added later. Unknown
    tokens are ignored.
    """
    alias = connection.alias
    by_id = {use.token_id: use for use in uses}
    first_to_write(connection)
    # Both kinds of id are random, or derived in the same way, so no token has the id of a client.
    kinds = (models.Token.objects, models.Client.objects)
    found = [kind.using(alias).filter(pk__in=by_id).order_by().values_list("pk", flat=True) for kind in kinds]
    tokens = set(chain(*found))
    if not tokens:  # as when the doctor tries
        with connection.cursor() as cursor:
            for statement in NO_USES:
                cursor.execute(statement)
        return set()
    rows = models.Use._base_manager.using(alias).filter(pk__in=tokens)
    # In one order for all, so that two processes that write the same first uses cannot deadlock.
    missing = sorted(tokens.difference(rows.values_list("pk", flat=True)))
    with lock_timeout(connection, USE_LOCK_TIMEOUT):
        # Nobody else sees these rows before their time is corrected below.
        _add_missing(alias, [merge_use(None, by_id[token_id], 0) for token_id in missing])
        kept = rows.select_for_update(skip_locked=True).values_list(*columns(KnownUse))
        locked = [load(KnownUse, row) for row in kept]
        # Read only now, so that a use that another process has just written does not lie in the future.
        now = clock() if clock else database_time(connection)
        _replace(alias, [merge_use(use, by_id[use.token_id], now) for use in locked])
        written = sorted(use.token_id for use in locked)
        _count(alias, [by_id[token_id] for token_id in written])
    return tokens.difference(written)


def _add_missing(alias: str, uses: list[KnownUse]) -> None:
    # This waits only for another process's very first use of the same token, and not for long.
    models.Use._base_manager.using(alias).bulk_create([models.Use(**dump(use)) for use in uses], ignore_conflicts=True)


def _replace(alias: str, uses: list[KnownUse]) -> None:
    _put(alias, [models.Use(**dump(use)) for use in uses], ["token_id"], ["last_used_at", "address", "scopes"])


def _count(alias: str, uses: list[NewUse]) -> None:
    # The lock on the row of the use covers these too: nobody waits here, and what is read holds until it is written.
    days = {day for use in uses for day in use.requests}
    rows = models.UseDay._base_manager.using(alias).filter(token_id__in=[use.token_id for use in uses], day__in=days)
    # Locked for another reason: no package answers this query from a cache.
    rows = rows.select_for_update()
    known = {(token_id, day): requests for token_id, day, requests in rows.values_list("token_id", "day", "requests")}
    counted = [
        models.UseDay(token_id=use.token_id, day=day, requests=requests + known.get((use.token_id, day), 0))
        for use in uses
        for day, requests in sorted(use.requests.items())
    ]
    _put(alias, counted, ["token_id", "day"], ["requests"])


def _put(alias: str, items: Sequence[Model], key: list[str], fields: list[str]) -> None:
    """Insert these, or set their ``fields`` if they exist already."""
    if items:
        manager = type(items[0])._base_manager.using(alias)
        manager.bulk_create(items, update_conflicts=True, unique_fields=key, update_fields=fields)
