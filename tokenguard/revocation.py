"""Revocation by whoever holds the token: the endpoint of RFC 7009, as a request in and an answer out.

That somebody has the text is all the authority it takes. So a leak can be ended by whoever finds it: the client that
lost the token, or a stranger, or a scanner that has come across it. Another issuer's token is refused here from then
on. Frameworks route a URL here and translate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from .errors import InvalidToken, StoreError, TemporarilyUnavailable, UnknownToken
from .foreign import revoke_token
from .http import Answer
from .issuer import Issuer
from .sources import MAX_LENGTH, Source
from .store import State
from .tokens import Secret, TokenFormat

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("tokenguard")
#: Bytes that a request's body may have: what the longest token takes, and as much again.
MAX_BODY = 2 * MAX_LENGTH
FORM = "application/x-www-form-urlencoded"
#: What the event says.
REASON = "revoked by whoever holds it"


class RevocationRequest(Request):
    """A request whose body is read only if it is a short one."""

    max_content_length = MAX_BODY


def respond(request: Request, issuer: Issuer, tokens: TokenFormat, sources: Sequence[Source] = ()) -> Answer:
    """The answer to a POST whose form has the text of a token as ``token``; that token is revoked with it.

    200 and nothing more, also for what is no token or has ended (RFC 7009 section 2.2); 400 and 413 for a request that
    names none (RFC 6749 section 5.2), 405 for other methods, and 503 when the store cannot do it. A
    ``token_type_hint`` changes nothing, and neither does the query. Of another issuer's token, that one of ``sources``
    takes, the service notes that it is revoked. What neither has signed never reaches the store.
    """
    if request.method != "POST":
        refusal = _error(405, "invalid_request", "A token is revoked with POST.")
        return refusal._replace(headers=[*refusal.headers, ("Allow", "POST")])
    try:
        if request.mimetype != FORM:
            return _error(400, "invalid_request", f"The body is a form: {FORM}.")
        given = request.form.getlist("token")
        request.stream.read(1)  # a form that was cut off at the limit is not taken for a whole one: this raises then
    except RequestEntityTooLarge:
        return _error(413, "invalid_request", f"The body is longer than {MAX_BODY} bytes.")
    except HTTPException:  # the client has gone away in the middle of it
        given = []
    if len(given) != 1 or not given[0]:
        return _error(400, "invalid_request", "The form has the text of one token, as token.")
    try:
        # As a file ends with a line break: nobody would be told that the token was not revoked for that.
        _revoke(Secret(given.pop().strip(), "credential"), issuer, tokens, sources)
    except (StoreError, TemporarilyUnavailable) as error:
        if isinstance(error, StoreError):  # of an issuer's keys the log tells already
            log.error("the token store failed: %s", error)
        unavailable = _error(503, "temporarily_unavailable", "The token may still work. Try again shortly.")
        retry_after = ("Retry-After", str(TemporarilyUnavailable.retry_after))
        return unavailable._replace(headers=[*unavailable.headers, retry_after])
    return Answer(200, [("Cache-Control", "no-store"), ("Content-Length", "0")], b"")


def revocation_app(issuer: Issuer, tokens: TokenFormat, sources: Sequence[Source] = ()) -> WSGIApplication:
    """The endpoint as a WSGI application, to be mounted where no framework is. ``sources`` are those of the guard."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = respond(RevocationRequest(environ), issuer, tokens, sources)
        return Response(body, status, headers)(environ, start_response)

    return app


def _revoke(credential: Secret, issuer: Issuer, tokens: TokenFormat, sources: Sequence[Source]) -> None:
    try:
        read = tokens.read(credential)
    except InvalidToken:
        _revoke_foreign(credential, issuer, sources)
        return
    record = issuer.store.find(read.id, primary=True)
    # A revoked one is not looked at twice: whoever holds it must not be able to keep the store's writers waiting.
    if record is None or record.token.digest != read.digest or record.state(issuer.clock()) is State.REVOKED:
        return
    try:
        issuer.revoke(read.id, actor=f"holder:{read.id}", reason=REASON)
    except UnknownToken:  # removed since
        return
    log.warning("token %s of client %s was revoked by whoever holds it", read.id, record.client.id)


def _revoke_foreign(credential: Secret, issuer: Issuer, sources: Sequence[Source]) -> None:
    source = next((source for source in sources if source.takes(credential.reveal())), None)
    if source is None:
        return
    try:
        token = source.verify(credential, issuer.clock(), issuer.catalog)
    except InvalidToken:
        return
    if issuer.store.find_foreign(token.local_token_id, token.local_client_id).revoked:
        return
    ids, holder = (token.issuer, token.client_id, token.token_id), f"holder:{token.local_token_id}"
    revoke_token(issuer, *ids, actor=holder, reason=REASON, expires_at=token.refused_at)
    log.warning("token %s of client %s of %s was revoked by whoever holds it", token.token_id, token.client_id, ids[0])


def _error(status: int, code: str, description: str) -> Answer:
    body = json.dumps({"error": code, "error_description": description}).encode("ascii")
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return Answer(status, headers, body)
