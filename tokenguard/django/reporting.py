"""Django's error pages and error e-mails, without tokens."""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe
from django.views import debug

from ..logs import redact_tokens


class ExceptionReporter(debug.ExceptionReporter):
    """Django's own reporter, except that it shows each token as ``<prefix>_<id>_(not shown)``.

    Django hides headers by their names. This finds tokens wherever they are: in a header of another name, in the local
    variables of a view, in the message of an error. Set it as ``DEFAULT_EXCEPTION_REPORTER``.
    """

    def get_traceback_html(self) -> SafeString:
        """Return the page, redacted."""
        return mark_safe(redact_tokens(super().get_traceback_html()))  # noqa: S308 - as Django has made it

    def get_traceback_text(self) -> SafeString:
        """Return the plain text, redacted."""
        return mark_safe(redact_tokens(super().get_traceback_text()))  # noqa: S308
