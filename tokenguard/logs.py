"""Tokens in log lines that other code writes: a filter that takes them out.

tokenguard itself logs no token. But an application may log the headers of a request, a client library the URL that it
calls, and a traceback whatever a message quotes.
"""

from __future__ import annotations

import logging
import re
import reprlib
from typing import Any

from .tokens import ID_LENGTH

# Any service's token, whatever its prefix. From 24 characters of the secret on: a line may be cut short, and what comes
# before the cut is too much already.
_TOKEN = re.compile(rf"([a-z0-9]{{1,16}}_[0-9A-Za-z]{{{ID_LENGTH}}}_)[0-9A-Za-z]{{24,}}")
# Another issuer's: two JSON objects in base64url, and a signature that may be cut off. What comes after the brace is a
# quotation mark, a space or another line.
_OBJECT = r"e(?:y[AJ]|w[0ko])[0-9A-Za-z_-]{8,}"
_JWT = re.compile(rf"(?<![0-9A-Za-z_-]){_OBJECT}\.{_OBJECT}(?:\.[0-9A-Za-z_-]*)?")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))
_COLLECTIONS: tuple[type[Any], ...] = (dict, list, tuple, set, frozenset)
#: How deep texts are looked for in what a line is given besides its message.
MAX_DEPTH = 10


def redact_tokens(text: str) -> str:
    """``text`` with each token in it as ``<prefix>_<id>_(not shown)``, and each JWT as ``(JWT not shown)``."""
    return _JWT.sub("(JWT not shown)", _TOKEN.sub(r"\1(not shown)", text))


class RedactTokens(logging.Filter):
    """Replaces tokens in the records that pass by ``<prefix>_<id>_(not shown)``, and lets all of them pass.

    A JWT, which may be another issuer's token, becomes ``(JWT not shown)``.

    In the message and its arguments, in tracebacks and stacks, and in the texts of ``extra``, also within dictionaries
    and lists; objects of other kinds in ``extra`` are left as they are. Put it on the handlers: a logger's filter sees
    only what is logged by that very logger. The record itself is changed, so whatever handles it later sees no token.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact ``record``; always True."""
        _redact_message(record)
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            if (redacted := redact_tokens(text)) != text:
                record.exc_text = redacted  # which formatters take instead of making their own
        for name in ("exc_text", "stack_info"):
            if value := getattr(record, name):
                setattr(record, name, redact_tokens(value))
        for name in vars(record).keys() - _STANDARD:
            setattr(record, name, _redacted(getattr(record, name)))
        return True


def _redact_message(record: logging.LogRecord) -> None:
    message = _message(record)
    record.msg, record.args = _redacted(record.msg), _redacted(record.args)
    if message is not None:
        # An argument that is no text, such as a request's headers, may become one that holds a token; and one that has
        # ways of its own, such as a dictionary that knows what to say for a missing key, has lost them.
        if (redacted := redact_tokens(message)) != _message(record):
            record.msg, record.args = redacted, ()
    else:
        # The handler will report that, and print what the arguments are.
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        record.args = tuple(redact_tokens(reprlib.repr(argument)) for argument in arguments)


def _message(record: logging.LogRecord) -> str | None:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - too few arguments, or one that cannot be shown
        return None


def _redacted(value: Any, depth: int = 0) -> Any:
    """``value`` with tokens redacted in all texts that it consists of; itself, if there are none."""
    if isinstance(value, str):
        changed: Any = redact_tokens(value)
    elif isinstance(value, bytes):
        changed = redact_tokens(value.decode("latin-1")).encode("latin-1")
    elif not isinstance(value, _COLLECTIONS):
        return value
    elif depth == MAX_DEPTH:
        return redact_tokens(repr(value))
    elif isinstance(value, dict):
        # A copy first, here and below: others may be changing it, and whoever logs must not be the one to suffer.
        changed = {_redacted(key, depth + 1): _redacted(item, depth + 1) for key, item in list(value.items())}
    else:
        kind = next(kind for kind in _COLLECTIONS if isinstance(value, kind))
        changed = kind(_redacted(item, depth + 1) for item in list(value))
    return value if changed == value else changed
