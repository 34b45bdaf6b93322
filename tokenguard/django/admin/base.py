"""What both admins have in common: the store's database, no deletion, nothing to guess a digest by, clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from ...databases import askable
from ...errors import StoreError, TokenGuardError
from ...secret import TOKEN_SHAPED
from ..connections import store_error
from .writes import database

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin
View = Callable[..., HttpResponse]
#: For what a subclass may list anew: to a type checker, a bare tuple allows only another with as many items.
Listed: TypeAlias = list[Any] | tuple[Any, ...]
#: The most rows on one page of a list, and in one action.
MAX_AT_ONCE = 100
_PASTED = (
    "That was the text of a token: search for its id, the part between the two underscores. The text is "
    "in your browser's history and in the server's log now, so consider revoking the token."
)


def answered(view: View) -> View:
    """Make a view answer an error of the store or of tokenguard with a page that shows it, and forbid framing."""

    @wraps(view)
    def answer(self: StoreAdmin, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(self, request, *args, **kwargs)
        except Error as error:
            response = self.unavailable(request, store_error(error, database()))
        except TokenGuardError as error:
            response = self.unavailable(request, error)
        # As the project's own middleware would set them, if it has that.
        response.headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
        response.headers.setdefault("Referrer-Policy", settings.SECURE_REFERRER_POLICY or "same-origin")
        return response

    return answer


class StoreAdmin(ModelAdmin):
    """Reads from the store's database. Writes go through the issuer, never through the model."""

    #: The lookups that the query string may use. Not digests: filtering by them would reveal them letter by letter.
    lookups: frozenset[str] = frozenset()
    list_per_page = list_max_show_all = MAX_AT_ONCE
    #: Counting all rows once more, for each page, takes long where there are very many.
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["tokenguard/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> Any:
        return self.model._default_manager.using(database()).order_by(*self.get_ordering(request))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in self.lookups

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        return to_field == self.opts.pk.name

    @answered
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":
            self._check_action(request)
        if TOKEN_SHAPED.search(request.GET.get("q", "")):
            messages.warning(request, _PASTED)
            return HttpResponseRedirect(request.path)
        return super().changelist_view(request, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse, without asking the database for what would be deleted."""
        raise PermissionDenied

    @answered
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        check(self.has_view_or_change_permission(request))
        self.listed_id(request, object_id)
        return super().history_view(request, object_id, extra_context)

    def listed_id(self, request: HttpRequest, quoted: str) -> str:
        """Return the id in a URL; raises Http404 unless this user's list has a row with that id."""
        found = unquote(quoted)
        # No database needs to be asked for an id that is not printable.
        if not (askable(found) and self.get_queryset(request).filter(pk=found).exists()):
            raise not_found(str(self.opts.verbose_name))
        return found

    def unavailable(self, request: HttpRequest, error: TokenGuardError) -> HttpResponse:
        """Return the page that says what is wrong and what to do."""
        status = 503 if isinstance(error, StoreError) else 500
        context = {"title": "This cannot be done now", "error": error}
        return self.page(request, "unavailable", context, status=status)

    def page(
        self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int | None = None
    ) -> TemplateResponse:
        """Return a response with one of our templates, inside the admin's own."""
        request.current_app = self.admin_site.name
        everything = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "has_view_permission": self.has_view_or_change_permission(request),
            **context,
        }
        return TemplateResponse(request, f"admin/tokenguard/{template}.html", everything, status=status)

    def url(self, view: str, *args: str, model: str = "") -> str:
        """Return the URL of a view of this admin site: "changelist", "add", "change" …"""
        name = f"admin:tokenguard_{model or self.opts.model_name}_{view}"
        return reverse(name, args=[quote(arg) for arg in args], current_app=self.admin_site.name)

    def may_view(self, request: HttpRequest, model: type[Any]) -> bool:
        """Whether this user may see pages of ``model``."""
        other = self.admin_site._registry.get(model)
        return other is not None and other.has_view_or_change_permission(request)

    def may_add(self, request: HttpRequest, model: type[Any]) -> bool:
        """Whether this user may add an object of ``model`` here."""
        other = self.admin_site._registry.get(model)
        return other is not None and other.has_add_permission(request)

    def fieldsets_of(self, form: Any) -> helpers.AdminForm:
        """Return the form in the shape that the admin's own templates render."""
        fieldsets = [
            (name, {"fields": [field for field in options["fields"] if field in form.fields]})
            for name, options in form.fieldsets
        ]
        return helpers.AdminForm(form, fieldsets, {}, model_admin=self)

    def _check_action(self, request: HttpRequest) -> None:
        # Django ignores an action that the user may not take; this refuses it if it is posted anyway. If no action was
        # chosen, in either of the two selects, Django itself says so.
        allowed = self.get_actions(request)
        check(bool(allowed) and {*request.POST.getlist("action")} <= {"", *allowed})
        # PostgreSQL fails for some ids that no list shows, and that would look like an outage.
        check(all(map(askable, request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))))


def not_found(kind: str) -> Http404:
    """Return the error for an id that does not exist. It does not quote the id, which may be a token's text."""
    return Http404(f"no {kind} has this id")


def check(allowed: bool) -> None:
    """Raise PermissionDenied unless ``allowed``."""
    if not allowed:
        raise PermissionDenied
