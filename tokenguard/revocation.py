"""Revocation by whoever holds the token: the endpoint of RFC 7009, as a request in and an answer out.

Having the text is all the authority it takes. So a leak can be ended by whoever finds it: the client that lost the
token, a stranger, or a scanner that has come across it. Another issuer's token is refused here from then on.
Frameworks route a URL here and translate.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from .endpoints import NO_STORE, form_app, posted_token, unavailable_answer
from .errors import InvalidToken, StoreError, TemporarilyUnavailable, UnknownToken
from .foreign import outlasts, revoke_token
from .guard import Guard
from .http import EMPTY_TYPE, Answer
from .issuer import Issuer
from .records import State
from .secret import Secret
from .sources import Source, source_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger("tokenguard")
#: The reason in the event.
REASON = "revoked by whoever holds it"


def respond(request: Request, issuer: Issuer, guard: Guard) -> Answer:
    """Revoke the token whose text the form of a POST has as ``token``, and return the answer.

    That is 200 and nothing more, also for a text that is no token or has ended (RFC 7009 section 2.2); 400 for a
    request that names none (RFC 6749 section 5.2), 413 for a long body, 405 for other methods, and 503 when the
    store cannot do it. A ``token_type_hint`` changes nothing, and neither does the query. Another issuer's token, if
    one of the guard's sources takes it, is recorded as revoked. A text that neither of the two has signed never reaches
    the store.
    """
    credential = posted_token(request, what="A token is revoked")
    if isinstance(credential, Answer):
        return credential
    try:
        _revoke(credential, issuer, guard)
    except (StoreError, TemporarilyUnavailable) as error:
        if isinstance(error, StoreError):  # an issuer that cannot be asked is in the log already
            log.error("the token store failed: %s", error)
        return unavailable_answer("The token may still work. Try again shortly.")
    return Answer(200, [EMPTY_TYPE, ("Content-Length", "0"), NO_STORE], b"")


def revocation_app(issuer: Issuer, guard: Guard) -> WSGIApplication:
    """Return the endpoint as a WSGI application, to mount without a framework."""
    return form_app(lambda request: respond(request, issuer, guard))


def _revoke(credential: Secret, issuer: Issuer, guard: Guard) -> None:
    try:
        read = guard.tokens.read(credential)
    except InvalidToken:
        _revoke_foreign(credential, issuer, source_of(credential.reveal(), guard.sources, guard.tokens.beginning))
        return
    record = issuer.store.find(read.id)
    # Nothing more is done for a revoked token: whoever holds it must not be able to keep the store's writers waiting.
    if record is None or record.token.digest != read.digest or record.state(issuer.clock()) is State.REVOKED:
        return
    try:
        issuer.revoke(read.id, actor=f"holder:{read.id}", reason=REASON)
    except UnknownToken:  # removed since
        return
    log.warning("token %s of client %s was revoked by whoever holds it", read.id, record.client.id)


def _revoke_foreign(credential: Secret, issuer: Issuer, source: Source | None) -> None:
    if source is None:
        return
    try:
        token = source.verify(credential, issuer.clock(), issuer.catalog)
    except InvalidToken:
        return
    known = issuer.store.find(token.local_token_id)
    if known is not None and not outlasts(token.ends_for_good_at, known.token.expires_at):
        return
    ids, holder = (token.issuer, token.client_id, token.token_id), f"holder:{token.local_token_id}"
    revoke_token(issuer, *ids, actor=holder, reason=REASON, expires_at=token.ends_for_good_at)
    log.warning("token %s of client %s of %s was revoked by whoever holds it", token.token_id, token.client_id, ids[0])
