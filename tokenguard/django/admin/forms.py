"""The forms by which something is granted or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django import forms
from django.utils.crypto import get_random_string
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ...clock import DAY, SECOND, duration_text, overlap_seconds, parse_duration
from ...conditions import UNCONDITIONAL, Conditions, Rate
from ...config import Options
from ...databases import askable
from ...errors import InvalidValue, PolicyViolation, TokenGuardError
from ...policy import Policy, check_idle_timeout
from ...rows import dump
from ...scopes import ScopeCatalog, Scopes
from ...tokens import MAX_NAME_LENGTH, Client
from .. import models
from .details import scopes_text
from .writes import database

T = TypeVar("T")
#: The proposed lifetime in seconds, if a token may live that long.
LIFETIME = 90 * DAY // SECOND
#: If more clients than this could hold a new token, the client is typed: a page with all of them may be megabytes long.
MAX_OFFERED = 500
#: The field that is to blame for each broken rule of the policy.
_BLAMED = {
    "require_expiry": "expires_in",
    "max_lifetime": "expires_in",
    "require_name": "name",
    "max_active_tokens": "client",
}


class RestoredHidden(forms.Textarea):
    """A hidden field that a browser restores together with the text areas of its form."""

    # When Firefox restores a tab, it loads the page again and writes the old texts into all text areas, but leaves
    # hidden inputs as they came.
    input_type = "hidden"

    def __init__(self) -> None:
        super().__init__({"hidden": True})


class AdminForm(forms.Form):
    """A form that shows what the issuer refuses."""

    #: The headings, each with the names of the fields below it.
    fieldsets: tuple[tuple[str | None, dict[str, Any]], ...] = ()

    def refuse(self, error: TokenGuardError) -> None:
        """Show ``error`` beside the field that is to blame, or above them all."""
        rule = error.rule if isinstance(error, PolicyViolation) else ""
        field = _BLAMED.get(rule)
        self.add_error(field if field in self.fields else None, str(error))

    def read(self, reader: Callable[[str], T], field: str) -> T | None:
        """Return what ``reader`` makes of a field's text, None if empty; an InvalidValue becomes a form error."""
        text = self.cleaned_data[field]
        try:
            return reader(text) if text else None
        except InvalidValue as error:
            raise forms.ValidationError(str(error)) from None


class OnceForm(AdminForm):
    """A form with an id, so that sending it a second time is noticed."""

    form_id = forms.CharField(widget=forms.HiddenInput, max_length=32, initial=lambda: get_random_string(22))


class ScopesForm(AdminForm):
    """Scopes as check boxes with their descriptions; those that are not in the catalogue, as text."""

    scopes = forms.MultipleChoiceField(widget=forms.CheckboxSelectMultiple, required=False)
    more_scopes = forms.CharField(label="More scopes", required=False, widget=forms.TextInput(attrs={"size": 60}))

    def __init__(self, data: Any = None, *, catalog: ScopeCatalog, held: Iterable[str] = (), **options: Any) -> None:
        initial = options.pop("initial", {})
        initial["scopes"] = [scope for scope in held if scope in catalog.descriptions]
        initial["more_scopes"] = " ".join(scope for scope in held if scope not in catalog.descriptions)
        super().__init__(data, initial=initial, **options)
        boxes: Any = self.fields["scopes"]
        boxes.choices = [(name, _described(name, catalog)) for name in catalog]
        self.fields["more_scopes"].help_text = "Wildcards, as in users:* or *, separated by spaces."
        if not len(catalog):
            del self.fields["scopes"]
            self.fields["more_scopes"].label = "Scopes"
            self.fields["more_scopes"].help_text = "Separated by spaces. There is no catalogue to choose from."

    def clean_more_scopes(self) -> Scopes:
        return self.read(Scopes.parse, "more_scopes") or Scopes()

    @property
    def chosen(self) -> Scopes:
        """All chosen scopes, once the form is valid."""
        more: Scopes = self.cleaned_data["more_scopes"]
        return Scopes(self.cleaned_data.get("scopes", ())) | more


class ConditionsForm(AdminForm):
    """From where tokens may be used, and how often."""

    allow = forms.CharField(
        label="Only from",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 40}),
        help_text="Networks or addresses, as in 10.0.0.0/8 or 2001:db8::/32. Empty: from anywhere.",
    )
    deny = forms.CharField(
        label="Not from",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 40}),
        help_text="This takes precedence: these networks are refused, whatever is allowed above.",
    )
    rate = forms.CharField(required=False, help_text="As in 100/minute, or per second, hour or day. Empty: no limit.")

    def clean_allow(self) -> Conditions | None:
        return self.read(lambda text: Conditions.parse(allow=text.replace(",", " ").split()), "allow")

    def clean_deny(self) -> Conditions | None:
        return self.read(lambda text: Conditions.parse(deny=text.replace(",", " ").split()), "deny")

    def clean_rate(self) -> Rate | None:
        return self.read(Rate.parse, "rate")

    @property
    def conditions(self) -> Conditions:
        """All chosen conditions, once the form is valid."""
        allow = self.cleaned_data["allow"] or UNCONDITIONAL
        deny = self.cleaned_data["deny"] or UNCONDITIONAL
        return Conditions(allow.allow, deny.deny, self.cleaned_data["rate"])


class NewClientForm(ScopesForm, ConditionsForm):
    """Registers a client."""

    name = forms.CharField(max_length=MAX_NAME_LENGTH)
    field_order = ("name", "scopes", "more_scopes")
    fieldsets = (
        (None, {"fields": ("name",)}),
        ("The scopes that its tokens may have", {"fields": ("scopes", "more_scopes")}),
        ("For all its tokens together", {"fields": ("allow", "deny", "rate")}),
    )


class ClientForm(ScopesForm, ConditionsForm):
    """Changes a client, if nobody has changed it since it was shown."""

    enabled = forms.BooleanField(required=False, help_text="While this is off, all its tokens are refused.")
    seen = forms.CharField(widget=RestoredHidden, max_length=64)
    fieldsets = (
        (None, {"fields": ("enabled",)}),
        *NewClientForm.fieldsets[1:],
    )

    def __init__(self, data: Any = None, *, client: Client, catalog: ScopeCatalog) -> None:
        conditions = client.conditions
        initial = {
            "enabled": client.enabled,
            "seen": version(client),
            "allow": "\n".join(map(str, conditions.allow)),
            "deny": "\n".join(map(str, conditions.deny)),
            "rate": str(conditions.rate or ""),
        }
        super().__init__(data, catalog=catalog, held=client.scopes, initial=initial)


class IssueForm(ScopesForm, ConditionsForm, OnceForm):
    """Issues a token."""

    #: Replaced by a choice where there are not too many clients.
    client = forms.CharField(help_text="The id or name of the client.")
    name = forms.CharField(max_length=MAX_NAME_LENGTH, required=False, help_text="A name for the token.")
    expires_in = forms.CharField(required=False)
    idle = forms.CharField(label="Idle timeout", required=False)
    field_order = ("client", "name")
    fieldsets = (
        (None, {"fields": ("client", "name")}),
        ("What it may do", {"fields": ("scopes", "more_scopes")}),
        ("How long it lives", {"fields": ("expires_in", "idle")}),
        ("From where, and how often", {"fields": ("allow", "deny", "rate")}),
    )

    def __init__(self, data: Any = None, *, options: Options, initial: dict[str, Any]) -> None:
        policy = options.policy
        lifetime = min(LIFETIME, policy.max_lifetime or LIFETIME)
        super().__init__(data, catalog=options.catalog, initial={"expires_in": duration_text(lifetime), **initial})
        enabled = models.Client.objects.using(database()).filter(enabled=True).order_by("name")
        offered = list(enabled[: MAX_OFFERED + 1])
        if len(offered) <= MAX_OFFERED:
            choices = [("", "---------"), *((client.pk, client.name) for client in offered)]
            self.fields["client"] = forms.ChoiceField(choices=choices)
            self.order_fields(self.field_order)
        # Checking the policy is left to the issuer, which names the rule and records that it was broken.
        if policy.require_name:
            self.fields["name"].help_text += " It must have a name here."
        self.fields["expires_in"].help_text = _lifetime_help(policy)
        self.fields["idle"].help_text = _idle_help(policy)
        value = self["client"].value() or ""
        chosen = enabled.filter(pk=value).first() if askable(value) else None
        scopes = self.fields.get("scopes", self.fields["more_scopes"])
        scopes.help_text = _scopes_help(chosen)

    def clean_expires_in(self) -> int | None:
        return self.read(parse_duration, "expires_in")

    def clean_idle(self) -> int | None:
        return self.read(lambda text: check_idle_timeout(parse_duration(text)), "idle")


class RotateForm(OnceForm):
    """Asks how long the old token works beside the new one."""

    overlap = forms.CharField(
        initial="24h",
        help_text="How long the old token keeps working beside the new one: 24h, 30m, 7d; 0 ends it at once.",
    )
    fieldsets = ((None, {"fields": ("overlap",)}),)

    def clean_overlap(self) -> int:
        return self.read(overlap_seconds, "overlap") or 0


def version(client: Client) -> str:
    """Return a text that differs as soon as the client is changed."""
    return hashlib.sha256(repr(dump(client)).encode()).hexdigest()


def _scopes_help(client: models.Client | None) -> str:
    said = "Only what the client may have can be granted"
    if client is None:
        return f"{said}."
    # The admin's templates treat a help text as markup.
    return format_html("{}; {} may have {}.", said, client.name, scopes_text(client.scopes))


def _described(name: str, catalog: ScopeCatalog) -> SafeString:
    implied = [other for other in catalog.expand(Scopes([name])) if other != name]
    notes = (catalog.descriptions[name], f"implies {', '.join(implied)}" if implied else "")
    return format_html('<code>{}</code> <span class="tg-note">{}</span>', name, "; ".join(filter(None, notes)))


def _lifetime_help(policy: Policy) -> str:
    if policy.max_lifetime is not None:
        return f"As in 90d, 12h or 30m; at most {duration_text(policy.max_lifetime)} here."
    return f"As in 90d, 12h or 30m. {'It must expire here.' if policy.require_expiry else 'Empty: it does not expire.'}"


def _idle_help(policy: Policy) -> str:
    default = "it may stay unused" if policy.idle_timeout is None else f"{duration_text(policy.idle_timeout)} here"
    return f"It ends when unused for so long, as in 30d. Empty: {default}."
