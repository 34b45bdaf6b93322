"""The errors, and the HTTP status of each refusal.

There are two families under one root. :class:`AuthError` is what a *caller* of the API is told; it carries a status, a
stable ``code`` and a ``detail`` that is safe to send. Everything else is for the *operator* or the developer:
a wrong option, a store that cannot be reached, a grant that the rules forbid.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .secret import redact

if TYPE_CHECKING:
    from .conditions import Allowance


def counted(number: int, noun: str) -> str:
    """Return ``number`` with the noun, which is in the plural unless there is just one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class TokenGuardError(Exception):
    """Root of every error that tokenguard raises on purpose.

    Its message never shows a token: people enter a token's text where its id or a client's name is expected, and
    messages that quote their input end up in logs.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    def __reduce__(self) -> tuple[Any, ...]:
        # For a job's caller in another process. By default the class would be called with ``args``, which are the
        # finished message, or empty.
        return _as_raised, (type(self), *self.args), vars(self)


def _as_raised(kind: type[TokenGuardError], *args: str) -> TokenGuardError:
    return kind.__new__(kind, *args)


class ConfigurationError(TokenGuardError):
    """An option is missing, unknown or wrong; the message names it and says what to do."""


class InvalidValue(TokenGuardError, ValueError):
    """A value that was passed in is malformed: a scope, a name, a duration. The message quotes it."""


class StoreError(TokenGuardError):
    """The store could not do what was asked; nothing was changed, unless the connection broke during the commit."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is locked for too long, or cannot be written to."""


class StoreBusy(StoreUnavailable):
    """Another writer was in the way: the same call may succeed a moment later."""


class SchemaError(StoreError):
    """The database has no tokenguard tables, older ones, or newer ones than this version knows."""


class IssuanceError(TokenGuardError):
    """The granting side refuses: the message names the rule and the value that broke it."""


class PolicyViolation(IssuanceError):
    """A rule of the issuance policy forbids it; ``rule`` is that rule's name."""

    def __init__(self, rule: str, message: str, client_id: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule
        self.client_id = client_id


class Conflict(IssuanceError):
    """The token is no longer what it was when this was decided: look at it again."""


class UnknownClient(IssuanceError):
    """No client has this id or name."""

    def __init__(self, client: str) -> None:
        super().__init__(f"no client has the id or name {client!r}")


class UnknownToken(IssuanceError):
    """No token has any of these ids."""

    def __init__(self, token_ids: Iterable[str]) -> None:
        given = list(token_ids)
        # An id has no underscore, and the text of a token has two.
        advice = "; the id is the part between the two underscores" if any("_" in text for text in given) else ""
        super().__init__(f"no token has the id {', '.join(map(repr, given))}{advice}")


class CallerError(TokenGuardError):
    """An error that the caller of an API is told."""

    @cached_property
    def id(self) -> str:
        """What identifies this error to the caller, where the form of errors has such an id, and in the log.

        That is Okta's ``errorId``; all have the same length.
        """
        return "oae" + secrets.token_urlsafe(16)


class AuthError(CallerError):
    """A request is refused.

    ``status``, ``code`` and ``detail`` are what the caller is told. ``reason`` is for the log and for hooks only:
    telling a caller *why* a token is invalid would tell an attacker which guesses come close. ``token_id`` and
    ``client_id`` identify the token and its client, as far as they are known. With an ``issuer`` (its URL) they are
    that issuer's ids, and may be those of another token or client here. ``issuer`` is None for the service's own.
    """

    status: int = 401
    #: Stable name of the refusal, for programs (the ``code`` member of the problem body).
    code: str = "unauthorized"
    #: The RFC 6750 section 3.1 error code; None where the challenge must carry none.
    bearer_error: str | None = None
    detail: str = "This request is refused."

    def __init__(
        self,
        reason: str = "",
        *,
        token_id: str | None = None,
        client_id: str | None = None,
        issuer: str | None = None,
    ) -> None:
        self.reason = reason or self.code
        self.token_id = token_id
        self.client_id = client_id
        self.issuer = issuer
        # Most are made for strangers' requests and never shown, so the message is made only when it is asked for.
        self.args = ()

    def __str__(self) -> str:
        return redact(self.detail if self.reason == self.code else self.reason)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class MissingToken(AuthError):
    """There is no credential, or one of another scheme: the challenge has no error code (RFC 6750 section 3.1)."""

    code = "missing_token"
    detail = "This resource needs an API token, sent as Authorization: Bearer TOKEN."


class InvalidRequest(AuthError):
    """The credential cannot be read: it is malformed, or there is more than one (RFC 6750 section 3.1)."""

    status = 400
    code = bearer_error = "invalid_request"
    detail = (
        "The credential of this request is malformed (empty, or with a character that no token has, such as a quote, "
        "a space or a $), or there is more than one."
    )


class InvalidToken(AuthError):
    """The token is malformed, unknown, forged, expired or revoked, or of a disabled client: all alike to the caller."""

    code = bearer_error = "invalid_token"
    detail = "The API token is not valid."


class InsufficientScope(AuthError):
    """The token is valid, but does not hold what this resource asks for."""

    status = 403
    code = bearer_error = "insufficient_scope"

    def __init__(self, scopes: Iterable[str], needs: str, **whose: str | None) -> None:
        """``whose``: ``token_id``, ``client_id`` and ``issuer``, as for :class:`AuthError`."""
        super().__init__(f"lacks {needs}", **whose)
        self.scopes = tuple(scopes)
        self.detail = f"The API token lacks a scope that this resource requires: {needs}."


class NetworkNotAllowed(AuthError):
    """The token is valid, but not for the network that the request comes from."""

    status = 403
    code = "network_not_allowed"
    detail = "The API token may not be used from this network."

    def __init__(self, address: str | None, **whose: str | None) -> None:
        """``whose``: ``token_id``, ``client_id`` and ``issuer``, as for :class:`AuthError`."""
        unknown = "the address is unknown (fewer hops in X-Forwarded-For than PROXIES, if that is set)"
        super().__init__(f"network: {unknown if address is None else ascii(address)}", **whose)
        #: The address that the request comes from, if it is known.
        self.address = address


class RateLimited(AuthError):
    """The token, or its client, has made as many requests as it may for now."""

    status = 429
    code = "rate_limited"

    def __init__(self, allowance: Allowance, **whose: str | None) -> None:
        """``whose``: ``token_id``, ``client_id`` and ``issuer``, as for :class:`AuthError`."""
        holders = f"{allowance.holder}'s " if allowance.holder else ""
        super().__init__(f"over the {holders}limit of {allowance.rate}", **whose)
        self.allowance = allowance
        #: Seconds after which the caller may try again.
        self.retry_after = allowance.reset
        wait = counted(allowance.reset, "second")
        self.detail = f"Too many requests: the {holders}limit is {allowance.rate}. Try again in {wait}."


class TemporarilyUnavailable(AuthError):
    """Whether the request may pass cannot be decided for now, so the caller is asked to try again."""

    status = 503
    code = "temporarily_unavailable"
    detail = "API tokens cannot be verified at the moment. Try again shortly."
    #: Seconds after which the caller may try again.
    retry_after: int = 5
