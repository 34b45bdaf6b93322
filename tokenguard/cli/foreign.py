"""What is known here of other issuers and their tokens."""

from __future__ import annotations

from typing import Any

from ..clock import SECOND, isoformat, now
from ..errors import TemporarilyUnavailable
from ..records import State
from ..secret import Secret, redact
from ..sources import ForeignToken, source_of
from .base import Backend, Failure
from .output import printable, say


def verified(backend: Backend, credential: Secret) -> ForeignToken | None:
    """Return the token with this text, None if its shape is not that of any configured issuer's tokens.

    Raises InvalidToken if it would be refused, and Failure if its issuer, or the issuer's keys, cannot be reached.
    """
    source = source_of(credential.reveal(), backend.options.sources(), backend.reader.beginning)
    if source is None:
        return None
    try:
        return source.verify(credential, now(), backend.options.catalog)
    except TemporarilyUnavailable:
        raise Failure("its issuer is unavailable, so the token cannot be verified") from None


def note_issuer(backend: Backend, issuer: str) -> None:
    """Tell somebody who has mistyped an issuer, and may believe that something of it was refused."""
    names = [known.issuer for known in backend.options.issuers]
    if names and issuer not in names:
        given, known_are = redact(printable(issuer)), ", ".join(names)
        option = backend.name_options("TOKENGUARD_ISSUERS")
        say(f"Note: {given} is not one of {option} ({known_are}). Its tokens are not accepted here.")


def foreign_fields(backend: Backend, token: ForeignToken) -> dict[str, Any]:
    """The token as JSON members: whose it is, and what it is worth here."""
    found = backend.store.find_foreign(token.local_token_id, token.local_client_id)
    client = found.client
    state = State.ACTIVE if client is None or client.enabled else State.CLIENT_DISABLED
    if found.revoked:
        state = State.REVOKED
    effective = backend.options.catalog.effective(token.scopes, token.scopes if client is None else client.scopes)
    return {
        "issuer": token.issuer,
        "client_id": token.client_id,
        "token_id": token.token_id,
        "subject": token.subject,
        "state": state.value,
        "effective_scopes": list(effective),
        # As its issuer says: ``token.expires_at`` may be when the token has to be verified again.
        "issued_at": _time(token, "iat"),
        "expires_at": _time(token, "exp"),
        # The ids by which the store knows them, if it does: those that events and "tokenguard list" show.
        "local_client_id": token.local_client_id,
        "local_token_id": token.local_token_id,
        "registered_as": None if client is None else client.name,
    }


def _time(token: ForeignToken, claim: str) -> str | None:
    return isoformat(int(token.claims[claim] * SECOND)) if claim in token.claims else None
