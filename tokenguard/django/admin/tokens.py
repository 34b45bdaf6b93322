"""Tokens: issue, rotate, revoke, and see what is known of them. A text is shown only in the answer to its own POST."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.text import slugify

from ...clock import now
from ...errors import TokenGuardError
from ...events import EventFilter
from ...issuer import Issued
from ...records import ALIVE, Record
from .. import models
from ..conf import service
from .base import MAX_AT_ONCE, Listed, StoreAdmin, answered, check, not_found
from .confirm import Confirmation, Revocation, Rotation
from .details import happenings, moment_text, scopes_text, token_facts
from .filters import AttentionFilter, ClientFilter, StateFilter
from .forms import IssueForm
from .states import with_state
from .writes import ShownBefore, actor, shown_once


class TokenAdmin(StoreAdmin):
    """Credentials of clients, without their texts."""

    list_display: Listed = ("id", "name", "client_name", "scope_names", "state", "expires", "last_used", "created")
    list_filter: ClassVar[Listed] = (StateFilter, AttentionFilter, ClientFilter)
    search_fields: ClassVar[Listed] = ("id", "name", "client__name")
    search_help_text = "Search by id, name or client"
    ordering: ClassVar[Listed] = ("-created_at",)
    lookups = frozenset({"state", "attention", "client"})
    actions: Listed | None = ("rotate_selected", "revoke_selected")

    def get_queryset(self, request: HttpRequest) -> Any:
        tokens = super().get_queryset(request).select_related("client").defer("digest", "key_fingerprint")
        return with_state(tokens, now())

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"tokenguard_token_{name}")
            for name, view in (("rotate", self.rotate_view), ("revoke", self.revoke_view))
        ]
        return own + super().get_urls()

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        """Rotating makes a new token, and changes the old one."""
        return self.has_change_permission(request) and self.has_add_permission(request)

    # The list

    @admin.display(description="client", ordering="client__name")
    def client_name(self, token: models.Token) -> str:
        return token.client.name

    @admin.display(description="scopes")
    def scope_names(self, token: models.Token) -> str:
        return scopes_text(token.scopes)

    @admin.display(description="state", ordering="state")
    def state(self, token: Any) -> str:
        return format_html('<span class="tg-state tg-{}">{}</span>', slugify(token.state), token.state)

    @admin.display(description="created", ordering="created_at")
    def created(self, token: models.Token) -> str | None:
        return moment_text(token.created_at)

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, token: models.Token) -> str | None:
        return moment_text(token.expires_at)

    @admin.display(description="last used", ordering="last_used")
    def last_used(self, token: Any) -> str | None:
        return moment_text(token.last_used)

    @admin.action(description="Rotate selected tokens", permissions=["rotate"])
    def rotate_selected(self, request: HttpRequest, tokens: Any) -> HttpResponse:
        return self._confirmed(request, tokens, Rotation(self, "rotate_selected"))

    @admin.action(description="Revoke selected tokens", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, tokens: Any) -> HttpResponse:
        return self._confirmed(request, tokens, Revocation(self, "revoke_selected"))

    # One token

    @answered
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check(self.has_add_permission(request))
        posted = request.method == "POST"
        initial = {"client": request.GET.get("client", "")}
        form = IssueForm(request.POST if posted else None, options=service().options, initial=initial)
        if form.is_valid():
            try:
                return self._issue(request, form)
            except ShownBefore as shown:
                return self.shown_before(request, shown)
            except TokenGuardError as error:
                form.refuse(error)
        context = {"title": "Issue a token", "form": form, "adminform": self.fieldsets_of(form)}
        return self.page(request, "form", {**context, "submit": "Issue"})

    @answered
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check(self.has_view_or_change_permission(request))
        if request.method not in ("GET", "HEAD"):
            check(self.has_change_permission(request))
            return HttpResponseNotAllowed(["GET", "HEAD"])
        at = now()
        record = self._record(request, object_id)
        token, state = record.token, record.state(at)
        facts, chart = token_facts(record, at)
        context = {
            "title": f"Token {token.id}",
            "subject": token.id,
            "object_id": token.id,
            "name": token.name,
            "state": state,
            "facts": facts,
            "chart": chart,
            "events": happenings(EventFilter(token_id=token.id)),
            "may_rotate": state in ALIVE and token.successor_id is None and self.has_rotate_permission(request),
            "may_revoke": token.revoked_at is None and self.has_change_permission(request),
            "may_view_clients": self.may_view(request, models.Client),
        }
        return self.page(request, "token", context)

    @answered
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask how to rotate one token, and do it."""
        check(self.has_rotate_permission(request))
        return self._confirmed_one(request, object_id, Rotation(self))

    @answered
    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whether to revoke one token, and do it."""
        check(self.has_change_permission(request))
        return self._confirmed_one(request, object_id, Revocation(self))

    def show_texts(self, request: HttpRequest, issued: list[Issued], **more: Any) -> HttpResponse:
        """Return the answer that shows new tokens' texts, which nobody can get again.

        Call it while everything can still be rolled back: raises TokenGuardError if the page cannot be rendered.
        """
        title = "The new token" if len(issued) == 1 else "The new tokens"
        try:
            return self.page(request, "issued", {"title": title, "issued": issued, **more}).render()
        except Exception as error:  # noqa: BLE001 - whatever it is, its traceback holds the half-drawn page
            said = f"{type(error).__name__}: {error}"
        raise TokenGuardError(f"the page that shows the text cannot be rendered, so nothing was done ({said})")

    def shown_before(self, request: HttpRequest, shown: ShownBefore) -> HttpResponse:
        """Return the answer to a form that is sent again: nothing is made a second time."""
        context = {"title": "This form was sent before", "token_ids": shown.token_ids, "more": shown.more}
        return self.page(request, "shown_before", context, status=409)

    def log_done(self, request: HttpRequest, token: Any, message: str) -> None:
        """Add a line to the admin's history of a token."""
        self.log_change(request, models.Token(id=token.id, name=token.name), message)

    def _issue(self, request: HttpRequest, form: IssueForm) -> HttpResponse:
        given = form.cleaned_data
        with shown_once(request, given["form_id"]) as shown:
            issued = service().issuer.issue(
                given["client"],
                form.chosen,
                name=given["name"],
                expires_in=given["expires_in"],
                idle_timeout=given["idle"],
                conditions=form.conditions,
                actor=actor(request),
            )
            self.log_addition(request, models.Token(id=issued.token.id, name=issued.token.name), "Issued.")
            answer = self.show_texts(request, [issued])
            shown([issued.token.id])
        return answer

    def _record(self, request: HttpRequest, object_id: str) -> Record:
        record = service().store.find(self.listed_id(request, object_id))
        if record is None:
            raise not_found("token")
        return record

    def _confirmed_one(self, request: HttpRequest, object_id: str, confirmation: Confirmation) -> HttpResponse:
        token_id = self.listed_id(request, object_id)
        return self._confirmed(request, self.get_queryset(request).filter(pk=token_id), confirmation)

    def _confirmed(self, request: HttpRequest, tokens: Any, confirmation: Confirmation) -> HttpResponse:
        chosen = list(tokens[: MAX_AT_ONCE + 1])
        if len(chosen) > MAX_AT_ONCE:
            messages.error(request, f"Nothing was done: at most {MAX_AT_ONCE} tokens can be selected at once.")
            return HttpResponseRedirect(request.get_full_path())
        return confirmation.answer(request, chosen)
