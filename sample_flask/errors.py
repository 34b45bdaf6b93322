"""The directory's own errors, in Okta's terms. The errors of any such API are in ``tokenguard.okta``."""

from __future__ import annotations

from tokenguard.okta import ApiError, Forbidden, Invalid


class LoginTaken(Invalid):
    """Another user has this login."""

    def __init__(self) -> None:
        super().__init__({"login": "An object with this field already exists in the current organization"})


class BadHost(Invalid):
    """A Host header that this service does not accept."""

    def __init__(self) -> None:
        super().__init__({"host": "The Host header is not valid here"})


class WrongStatus(Forbidden):
    """The request cannot be applied to a user with this status."""

    okta_code = "E0000038"


class Internal(ApiError):
    """Our fault. The reason goes to the log, not to the caller."""

    status = 500
    okta_code = "E0000009"
