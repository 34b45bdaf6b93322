"""What callers send: JSON objects whose members are all known, and each is read or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..conditions import Rate
from ..errors import InvalidValue
from ..okta import Invalid, read_object
from ..policy import check_idle_timeout
from ..scopes import Scopes
from ..tokens import check_label
from .shape import read_date, read_duration, read_network

Readers = Mapping[str, Callable[[Any], Any]]


def read_body(body: bytes, readers: Readers, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the members by name, as their readers return them; a null counts as missing.

    Raises NotWellFormed, or Invalid with every fault that there is.
    """
    given = {name: value for name, value in read_object(body).items() if value is not None}
    refuse_unknown(given, readers)
    faults = {name: "This member is required" for name in required if name not in given}
    read = {}
    for name, value in given.items():
        try:
            read[name] = readers[name](value)
        except InvalidValue as error:
            faults[name] = str(error)
    if faults:
        raise Invalid(faults)
    return read


def refuse_unknown(given: Mapping[str, Any], known: Collection[str], kind: str = "member") -> None:
    """Raise Invalid for a member, or an argument, that is not known: ignored, it would still be relied on."""
    if unknown := sorted(given.keys() - set(known)):
        # Only one of them, and cut: an answer should not be many times as long as the request.
        raise Invalid({unknown[0][:50]: f"Unknown {kind}; the {kind}s are {', '.join(known)}"})


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise InvalidValue("this must be a string")
    return given


def _scopes(given: object) -> Scopes:
    # Scopes would quote what is none, and a list may be nested too deeply for that.
    if not isinstance(given, (str, list)) or not all(isinstance(scope, str) for scope in given):
        raise InvalidValue("the scopes must be a list of strings")
    if not (scopes := Scopes.of(given)):
        raise InvalidValue("a token must have at least one scope")
    return scopes


#: The members of a token to issue.
NEW_TOKEN: Readers = {
    "name": lambda given: check_label("a token's name", _text(given)),
    "scopes": _scopes,
    "clientId": _text,
    "expiresAt": read_date,
    "tokenWindow": lambda given: check_idle_timeout(read_duration(given)),
    "network": read_network,
    "rate": lambda given: Rate.parse(_text(given)),
}
#: Those of a rotation.
ROTATION: Readers = {"overlap": read_duration}
