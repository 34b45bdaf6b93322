"""What the directory refuses, in Okta's terms. Refusals of a *token* are tokenguard's, and look different."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class DirectoryError(Exception):
    """A request cannot be done. ``causes`` say what is wrong with which field."""

    status = 400
    code = "E0000001"
    summary = "Api validation failed: {0}"
    #: What the answer must have besides.
    headers: Mapping[str, str] = {}

    def __init__(self, about: str = "", *, causes: tuple[str, ...] = ()) -> None:
        super().__init__(self.summary.format(about))
        self.causes = causes


class Invalid(DirectoryError):
    """Fields that break a rule: each with the reason."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(next(iter(faults)), causes=tuple(f"{name}: {why}" for name, why in faults.items()))


class LoginTaken(Invalid):
    """Another user has this login."""

    def __init__(self) -> None:
        super().__init__({"login": "An object with this field already exists in the current organization"})


class BadHost(Invalid):
    """A Host header that this service does not answer to."""

    def __init__(self) -> None:
        super().__init__({"host": "The Host header is not valid here"})


class TooLarge(Invalid):
    """A body that is longer than any that makes sense."""

    status = 413

    def __init__(self) -> None:
        super().__init__({"body": "The request body is too large"})


class NotWellFormed(DirectoryError):
    """The body is not a JSON object, or did not arrive whole."""

    code = "E0000003"
    summary = "The request body was not well-formed."


class NotFound(DirectoryError):
    """Nothing of this kind has this id; without a kind, nothing has this path."""

    status = 404
    code = "E0000007"
    summary = "Not found: Resource not found: {0}"

    def __init__(self, name: str, kind: str = "") -> None:
        super().__init__(f"{name[:100]} ({kind})" if kind else name[:100])


class WrongMethod(DirectoryError):
    """The path exists, but only for other HTTP methods."""

    status = 405
    code = "E0000022"
    summary = "The endpoint does not support the provided HTTP method"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.headers = {"Allow": ", ".join(sorted(allowed))}


class WrongStatus(DirectoryError):
    """What is asked for cannot be done to a user who has this status."""

    status = 403
    code = "E0000038"
    summary = "This operation is not allowed in the user's current status."


class Internal(DirectoryError):
    """Our fault. The reason goes to the log, not to the caller."""

    status = 500
    code = "E0000009"
    summary = "Internal Server Error"
