"""A filter that removes tokens from the log lines of other code.

tokenguard itself logs no token. But an application may log the headers of a request, a client library the URL that it
calls, and a traceback shows whatever a message quotes.
"""

from __future__ import annotations

import logging
import re
import reprlib
from typing import Any

from .tokens import ID_LENGTH

# Any service's token, whatever its prefix. 24 characters of the secret suffice: a line may be cut short, and so much of
# a secret is too much already. Of a token that follows with nothing between, the prefix is taken for a part of it.
_ID, _SECRET = rf"_[0-9A-Za-z]{{{ID_LENGTH}}}_", "[0-9A-Za-z]{24,}"
_TOKEN = re.compile(rf"([a-z0-9]{{1,16}}{_ID}){_SECRET}(?:{_ID}{_SECRET})*")
# Another issuer's token: two JSON objects in base64url, and a signature that may be cut off. An object's brace is
# followed by a quotation mark or white space.
_OBJECT = r"e(?:y[AJ]|w[0ko])[0-9A-Za-z_-]{8,}"
_JWT = re.compile(rf"(?<![0-9A-Za-z_-]){_OBJECT}\.{_OBJECT}(?:\.[0-9A-Za-z_-]*)?")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))
_COLLECTIONS: tuple[type[Any], ...] = (dict, list, tuple, set, frozenset)
#: How deeply nested collections in a record's arguments and ``extra`` are searched for texts.
MAX_DEPTH = 10


def redact_tokens(text: str) -> str:
    """Return ``text`` with each token as ``<prefix>_<id>_(not shown)``, and each JWT as ``(JWT not shown)``."""
    return _JWT.sub("(JWT not shown)", _TOKEN.sub(r"\1(not shown)", text))


class RedactTokens(logging.Filter):
    """Replaces tokens in log records by ``<prefix>_<id>_(not shown)``, and lets all records pass.

    A JWT, which may be another issuer's token, becomes ``(JWT not shown)``.

    It covers the message and its arguments, tracebacks and stacks, and the texts of ``extra``, also within dictionaries
    and lists; objects of other kinds in ``extra`` are left as they are. Put it on the handlers: a logger's filter sees
    only what is logged by that very logger. The record itself is changed, so whatever handles it later sees no token.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact ``record``; always True."""
        _redact_message(record)
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            if (redacted := redact_tokens(text)) != text:
                record.exc_text = redacted  # formatters use this instead of making their own
        for name in ("exc_text", "stack_info"):
            if value := getattr(record, name):
                setattr(record, name, redact_tokens(value))
        for name in vars(record).keys() - _STANDARD:
            setattr(record, name, _redacted(getattr(record, name)))
        return True


def _redact_message(record: logging.LogRecord) -> None:
    message = _message(record)
    record.msg, record.args = _redacted(record.msg), _redacted(record.args)
    if message is None:
        # It cannot be made: the handler will report that, and print the arguments.
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        record.args = tuple(redact_tokens(reprlib.repr(argument)) for argument in arguments)
        return
    # An argument that is not text, such as a request's headers, may turn into text with a token in it. And a
    # collection's redacted copy lacks special behaviour, such as a dictionary's defaults for missing keys.
    if (redacted := redact_tokens(message)) == _message(record):
        return
    if isinstance(record.msg, dict) and not record.args:  # structlog's formatter expects its dictionary
        record.msg = {_shown(key): _shown(item) for key, item in list(record.msg.items())}
    else:
        record.msg, record.args = redacted, ()


def _message(record: logging.LogRecord) -> str | None:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - too few arguments, or one that cannot be shown
        return None


def _shown(value: Any) -> Any:
    """Return ``value``, or how it is shown, redacted, if it would be shown with a token."""
    text = repr(value)
    return value if (redacted := redact_tokens(text)) == text else redacted


def _redacted(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with tokens redacted in all texts that it consists of; ``value`` itself if there are none."""
    if isinstance(value, str):
        changed: Any = redact_tokens(value)
    elif isinstance(value, bytes):
        changed = redact_tokens(value.decode("latin-1")).encode("latin-1")
    elif not isinstance(value, _COLLECTIONS):
        return value
    elif depth == MAX_DEPTH:
        return redact_tokens(repr(value))
    elif isinstance(value, dict):
        # A copy first, here and below: another thread may be changing it, and that must not break the logging.
        changed = {_redacted(key, depth + 1): _redacted(item, depth + 1) for key, item in list(value.items())}
    else:
        kind = next(kind for kind in _COLLECTIONS if isinstance(value, kind))
        changed = kind(_redacted(item, depth + 1) for item in list(value))
    return value if changed == value else changed
