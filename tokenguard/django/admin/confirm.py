"""Pages that say what will happen to tokens, and do it once that is confirmed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from ...clock import SECOND
from ...errors import IssuanceError, TokenGuardError
from ..conf import service
from .details import moment
from .forms import AdminForm, RotateForm
from .writes import ShownBefore, actor, one_transaction, shown_once

if TYPE_CHECKING:
    from .tokens import TokenAdmin


class Confirmation(ABC):
    """Asks for confirmation: for one token from its page, or for several as an action of the list."""

    template: ClassVar[str]
    form: ClassVar[type[AdminForm]] = AdminForm
    title: ClassVar[str]

    def __init__(self, admin: TokenAdmin, action: str = "") -> None:
        self.admin = admin
        self.action = action

    def answer(self, request: HttpRequest, tokens: list[Any]) -> HttpResponse:
        """Return the page that asks, or the answer once it is done."""
        confirmed = request.method == "POST" and "confirmed" in request.POST
        form = self.form(request.POST if confirmed else None)
        if confirmed and form.is_valid():
            try:
                return self.do(request, tokens, form)
            except ShownBefore as shown:
                return self.admin.shown_before(request, shown)
            except TokenGuardError as error:
                form.refuse(error)
        return self._ask(request, tokens, form)

    @abstractmethod
    def do(self, request: HttpRequest, tokens: list[Any], form: Any) -> HttpResponse:
        """Do it, and say so."""

    def _ask(self, request: HttpRequest, tokens: list[Any], form: AdminForm) -> HttpResponse:
        context = {
            "title": self.title.format("this token" if len(tokens) == 1 else f"these {len(tokens)} tokens"),
            "tokens": [(token, moment(token.last_used)) for token in tokens],
            "action": self.action,
            "form": form,
            "adminform": self.admin.fieldsets_of(form),
            "back": self.back(tokens),
        }
        return self.admin.page(request, self.template, context)

    def back(self, tokens: list[Any]) -> str:
        """Return the URL of the page that one came from: the list, or that of the one token."""
        return self.admin.url("changelist") if self.action or not tokens else self.admin.url("change", tokens[0].pk)


def check_any(tokens: list[Any]) -> None:
    """Raise IssuanceError if there are none: they have left the list since they were selected."""
    if not tokens:
        raise IssuanceError("none of the selected tokens is in this list any more: nothing was done")


class Revocation(Confirmation):
    """Ends tokens for good."""

    template = "revoke"
    title = "Revoke {}?"

    def do(self, request: HttpRequest, tokens: list[Any], form: Any) -> HttpResponse:
        check_any(tokens)
        with one_transaction(request):
            service().issuer.revoke(*(token.pk for token in tokens), actor=actor(request))
            for token in tokens:
                self.admin.log_done(request, token, "Revoked.")
        named = ", ".join(str(token) for token in tokens)
        verb = "is" if len(tokens) == 1 else "are"
        messages.success(request, f"{named} {verb} revoked.")
        return HttpResponseRedirect(self.back(tokens))


class Rotation(Confirmation):
    """Issues successors, and gives the old tokens an end."""

    template = "rotate"
    title = "Rotate {}?"
    form = RotateForm

    def do(self, request: HttpRequest, tokens: list[Any], form: Any) -> HttpResponse:
        overlap, issuer, by = form.cleaned_data["overlap"], service().issuer, actor(request)
        with shown_once(request, form.cleaned_data["form_id"]) as shown:
            check_any(tokens)
            issued = [issuer.rotate(token.pk, overlap=overlap, actor=by) for token in tokens]
            for token, new in zip(tokens, issued, strict=True):
                self.admin.log_done(request, token, f"Rotated: its successor is {new.token.id}.")
                self.admin.log_done(request, new.token, f"Issued in place of {token.pk}.")
            ends = moment(issued[-1].token.created_at + overlap * SECOND) if overlap else None
            answer = self.admin.show_texts(request, issued, replaced=[token.pk for token in tokens], ends=ends)
            shown([new.token.id for new in issued])
        return answer
