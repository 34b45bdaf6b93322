"""What the directory refuses, in Okta's terms: what is its own. What any such API refuses is in ``tokenguard.okta``."""

from __future__ import annotations

from tokenguard.okta import ApiError, Forbidden, Invalid


class LoginTaken(Invalid):
    """Another user has this login."""

    def __init__(self) -> None:
        super().__init__({"login": "An object with this field already exists in the current organization"})


class BadHost(Invalid):
    """A Host header that this service does not answer to."""

    def __init__(self) -> None:
        super().__init__({"host": "The Host header is not valid here"})


class WrongStatus(Forbidden):
    """What is asked for cannot be done to a user who has this status."""

    okta_code = "E0000038"


class Internal(ApiError):
    """Our fault. The reason goes to the log, not to the caller."""

    status = 500
    okta_code = "E0000009"
