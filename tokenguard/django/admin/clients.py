"""Clients: register, change, and see what they hold."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminToField
from django.contrib.admin.options import IS_POPUP_VAR, TO_FIELD_VAR
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from ... import issuer as granting
from ...clock import now
from ...errors import StoreError, TokenGuardError
from ...events import EventFilter
from ...tokens import Client
from .. import models
from ..conf import service
from .base import Listed, StoreAdmin, answered, check, not_found
from .details import client_facts, happenings, moment, moment_text, scopes_text
from .forms import ClientForm, NewClientForm, version
from .states import with_state, with_use
from .writes import actor, database, one_transaction

#: At most this many of its tokens are shown on a client's page, the newest first.
MAX_TOKENS = 50
_CHANGED_MEANWHILE = (
    "Somebody else has changed this client since you opened the page. Nothing was saved: open it again."
)


class ClientAdmin(StoreAdmin):
    """Applications that may hold tokens."""

    list_display: Listed = ("name", "id", "scope_names", "enabled", "active_tokens", "last_used", "created")
    list_filter: ClassVar[Listed] = ("enabled",)
    search_fields: ClassVar[Listed] = ("name", "id")
    search_help_text = "Search by name or id"
    ordering: ClassVar[Listed] = ("name",)
    lookups = frozenset({"enabled__exact"})
    actions: Listed | None = None

    def get_queryset(self, request: HttpRequest) -> Any:
        return with_use(super().get_queryset(request), database(), now())

    @admin.display(description="scopes")
    def scope_names(self, client: models.Client) -> str:
        return scopes_text(client.scopes)

    @admin.display(description="active tokens", ordering="active")
    def active_tokens(self, client: Any) -> int:
        return int(client.active)

    @admin.display(description="last used", ordering="last_used")
    def last_used(self, client: Any) -> str | None:
        return moment_text(client.last_used)

    @admin.display(description="created", ordering="created_at")
    def created(self, client: models.Client) -> str | None:
        return moment_text(client.created_at)

    @answered
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check(self.has_add_permission(request))
        if (wanted := request.POST.get(TO_FIELD_VAR)) and not self.to_field_allowed(request, wanted):
            raise DisallowedModelAdminToField("This field cannot be referenced.")  # 400, as in Django's own views
        found = service()
        form = NewClientForm(request.POST if request.method == "POST" else None, catalog=found.options.catalog)
        if form.is_valid():
            try:
                client = self._register(request, form, found.issuer)
                if IS_POPUP_VAR in request.POST:
                    # The window was opened beside a field of the project's own: fill it in, and close.
                    return self.response_add(request, models.Client(id=client.id, name=client.name))
                messages.success(request, f"The client {client.name} is registered: tokens can be issued to it now.")
                seen = self.has_view_or_change_permission(request)
                return HttpResponseRedirect(self.url("change", client.id) if seen else self.url("add"))
            except TokenGuardError as error:
                form.refuse(error)
        popup = IS_POPUP_VAR in request.GET
        context = {"title": "Register a client", "form": form, "adminform": self.fieldsets_of(form), "is_popup": popup}
        return self.page(request, "form", {**context, "submit": "Register"})

    @answered
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check(self.has_view_or_change_permission(request))
        editable = self.has_change_permission(request)
        found = service()
        client = found.store.client(self.listed_id(request, object_id))
        if client is None:
            raise not_found("client")
        posted = request.method == "POST"
        check(editable or not posted)
        form = ClientForm(request.POST if posted else None, client=client, catalog=found.options.catalog)
        if form.is_valid():
            try:
                self._change(request, client, form, found.issuer)
                return HttpResponseRedirect(self.url("change", client.id))
            except TokenGuardError as error:
                form.refuse(error)
        return self._show(request, client, form if editable else None)

    def _show(self, request: HttpRequest, client: Client, form: ClientForm | None) -> HttpResponse:
        with_tokens = self.may_view(request, models.Token)
        context = {
            "title": client.name,
            "subject": client.name,
            "object_id": client.id,
            "facts": client_facts(client, now(), editable=form is not None),
            "form": form,
            "adminform": form and self.fieldsets_of(form),
            "tokens": self._tokens(client) if with_tokens else None,
            "events": happenings(EventFilter(client_id=client.id), of_tokens=with_tokens),
            "may_issue": client.enabled and self.may_add(request, models.Token),
            "may_view_tokens": with_tokens,
        }
        return self.page(request, "client", context)

    def _register(self, request: HttpRequest, form: NewClientForm, issuer: granting.Issuer) -> Client:
        with one_transaction(request):
            client = issuer.register(
                form.cleaned_data["name"], form.chosen, conditions=form.conditions, actor=actor(request)
            )
            self.log_addition(request, models.Client(id=client.id, name=client.name), "Registered.")
        return client

    def _change(self, request: HttpRequest, client: Client, form: ClientForm, issuer: granting.Issuer) -> None:
        wanted = {"scopes": form.chosen, "enabled": form.cleaned_data["enabled"], "conditions": form.conditions}
        with one_transaction(request):
            with issuer.store.transaction() as tx:
                present = tx.client(client.id)
            # From here on, nobody else can change the client.
            if present is None or version(present) != form.cleaned_data["seen"]:
                raise StoreError(_CHANGED_MEANWHILE)
            changes = [name for name, value in wanted.items() if value != getattr(present, name)]
            _apply(issuer, client.id, {name: wanted[name] for name in changes}, actor(request))
            done = f"Changed {', '.join(changes)}." if changes else "nothing to change."
            if changes:
                self.log_change(request, models.Client(id=client.id, name=client.name), done)
        messages.success(request, f"{client.name}: {done}")

    def _tokens(self, client: Client) -> list[dict[str, Any]]:
        tokens = models.Token.objects.using(database()).filter(client_id=client.id).order_by("-created_at", "-pk")
        rows = with_state(tokens, now()).values("id", "name", "scopes", "state", "expires_at", "last_used")
        return [
            {
                **row,
                "scopes": scopes_text(row["scopes"]),
                "expires": moment(row["expires_at"]),
                "last_used": moment(row["last_used"]),
            }
            for row in rows[:MAX_TOKENS]
        ]


def _apply(issuer: granting.Issuer, client_id: str, changes: dict[str, Any], by: str) -> None:
    if "scopes" in changes:
        issuer.set_scopes(client_id, changes["scopes"], actor=by)
    if "conditions" in changes:
        issuer.set_conditions(client_id, changes["conditions"], actor=by)
    if "enabled" in changes:
        (issuer.enable if changes["enabled"] else issuer.disable)(client_id, actor=by)
