"""The filters of the list of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from ...clock import now
from ...databases import askable
from ...records import State
from ..models import Client
from .states import expiring
from .writes import database

#: At most this many clients are offered by the filter; if there are more, their own pages lead to their tokens.
MAX_CLIENTS = 20


class StateFilter(admin.SimpleListFilter):
    """By their state now."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state.value.replace(" ", "_"), state.value) for state in State]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        state = dict(self.lookup_choices).get(value)
        return queryset.none() if state is None else queryset.filter(state=state)


class AttentionFilter(admin.SimpleListFilter):
    """By what may need attention."""

    title = "attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("expiring", "expiring within 30 days"), ("unused", "never used")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "expiring":
            return expiring(queryset, now())
        return queryset.filter(use__isnull=True) if self.value() == "unused" else queryset


class ClientFilter(admin.SimpleListFilter):
    """By their client."""

    title = "client"
    parameter_name = "client"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        clients = Client.objects.using(database()).values_list("pk", "name")
        named = list(clients.order_by("name")[: MAX_CLIENTS + 1])
        if len(named) <= MAX_CLIENTS:
            return named
        chosen = self.value() or ""
        return list(clients.filter(pk=chosen)) if askable(chosen) else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(client_id=value) if askable(value) else queryset.none()
