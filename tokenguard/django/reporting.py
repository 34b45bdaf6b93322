"""Django's error pages and error e-mails, without tokens."""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe
from django.views import debug

from ..logs import redact_tokens


class ExceptionReporter(debug.ExceptionReporter):
    """Django's own, with each token in what it reports as ``<prefix>_<id>_(not shown)``.

    Django hides headers by their names. This finds tokens wherever they are: in a header of another name, in the local
    variables of a view, in the message of an error. For ``DEFAULT_EXCEPTION_REPORTER``.
    """

    def get_traceback_html(self) -> SafeString:
        """The page, redacted."""
        return mark_safe(redact_tokens(super().get_traceback_html()))  # noqa: S308 - as Django has made it

    def get_traceback_text(self) -> SafeString:
        """The plain text, redacted."""
        return mark_safe(redact_tokens(super().get_traceback_text()))  # noqa: S308
