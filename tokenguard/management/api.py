"""What each call does. Frameworks guard the routes, hand over a :class:`Call` and send the answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..clock import SECOND
from ..conditions import Conditions
from ..errors import (
    AuthError,
    Conflict,
    InsufficientScope,
    InvalidToken,
    InvalidValue,
    IssuanceError,
    PolicyViolation,
    StoreError,
    TemporarilyUnavailable,
    UnknownToken,
)
from ..guard import whose_token
from ..http import Answer, AuthScheme
from ..identity import OWN_ISSUER, Identity
from ..issuer import DEFAULT_OVERLAP, Issued, Issuer, Provided
from ..okta import ApiError, Changed, Forbidden, Invalid, NotFound, Paging, read_object
from ..records import ALIVE, Place, Record, State
from ..scopes import Scopes
from ..sources import local_client_id, local_token_id
from ..store import Transaction
from ..tokens import Client
from .bodies import NEW_TOKEN, ROTATION, read_body, refuse_unknown
from .call import Call
from .grants import Grant, Holder
from .routes import Rights, Route
from .shape import read_network, show_token

Find = Callable[[str], Record | None]
log = logging.getLogger("tokenguard")
#: How every message about a conflict ends, whichever change came first.
_AGAIN = ": look at it again"


class _Unmanageable(TemporarilyUnavailable):
    """The store failed after the caller's own token was verified."""

    detail = "API tokens cannot be managed at the moment. Try again shortly."


class Management:
    """Answers the calls, for one service."""

    def __init__(self, issuer: Issuer, scheme: AuthScheme, rights: Rights) -> None:
        self.issuer = issuer
        self.store = issuer.store
        self.scheme = scheme
        self.rights = rights

    def answer(self, route: Route, call: Call) -> Answer:
        """Return the answer to the caller, whatever happens."""
        handle: Callable[[Call], Answer] = getattr(self, route.name)
        try:
            return handle(call)
        except Forbidden as error:
            self._log_refusal(route, call, error, "; ".join(error.causes))
            return self.scheme.report(error)
        except ApiError as error:
            return self.scheme.report(error)
        except (InvalidToken, InsufficientScope) as error:
            self._log_refusal(route, call, error, error.reason)
            return self.scheme.refusal(error)
        except StoreError as error:
            unmanageable = _Unmanageable(f"store: {error}")
            log.error("the token store failed: %s%s", error, self.scheme.form.logged_id(unmanageable))
            return self.scheme.refusal(unmanageable)

    def _log_refusal(self, route: Route, call: Call, error: AuthError | ApiError, why: str) -> None:
        told = self.scheme.form.logged_id(error)
        log.warning("%s refused to token %s: %s%s", route.name, call.identity.token_id, why, told)

    def list_tokens(self, call: Call) -> Answer:
        """List the tokens that have not ended, oldest first, page by page."""
        refuse_unknown(call.query, ("limit", "after"), "argument")
        paging = Paging.read(call.query, r"[0-9]{1,16}-[0-9A-Za-z]{16}")
        records = self.store.page(
            paging.limit + 1,
            self.issuer.clock(),
            client_id=None if self._sees_all(call) else _own_client(call.identity),
            after=_read_place(paging.after),
        )
        page = records[: paging.limit]
        next_after = "{}-{}".format(*page[-1].place) if len(records) > len(page) else None
        shown = [show_token(record, _url_of(call, record)) for record in page]
        return _answer(200, shown, ("Link", paging.links(call.url, next_after)))

    def get_token(self, call: Call) -> Answer:
        """Show one token."""
        record = self._find(call)
        return _answer(200, show_token(record, _url_of(call, record)))

    def issue_token(self, call: Call) -> Answer:
        """Issue a token. What the body does not say is as in the calling token."""
        holder = self._holder(call)
        given = read_body(call.body, NEW_TOKEN, required=("scopes",))
        own, network = holder.conditions, given.get("network", holder.conditions)
        client = self._client(call, holder, given.get("clientId"))
        grant = Grant(
            client,
            scopes=given["scopes"],
            conditions=Conditions(network.allow, network.deny, given.get("rate", own.rate)),
            idle_timeout=given.get("tokenWindow", holder.idle_timeout),
            not_after=given.get("expiresAt", holder.ends_at),
        )
        holder.check(grant, self.issuer.catalog)
        with _refusals(call):
            issued = self.issuer.issue(
                client.id,
                grant.scopes,
                actor=call.actor,
                name=given.get("name", ""),
                idle_timeout=grant.idle_timeout,
                conditions=grant.conditions,
                not_after=grant.not_after,
                provided=self._still(call, client.id, lambda tx: replace(grant, client=tx.client(client.id) or client)),
            )
        return _shown_once(call, issued, client)

    def update_token(self, call: Call) -> Answer:
        """Change a token's networks. Nothing else of it can change: other members must be as they are."""
        record = self._find(call)
        shown, given = show_token(record, _url_of(call, record)), read_object(call.body)
        refuse_unknown(given, shown)
        # Members that change with each use may have changed since the caller read them.
        free = {"network", "lastUpdated", *(["expiresAt"] if record.token.idle_timeout is not None else [])}
        changed = [name for name, value in given.items() if name not in free and value != shown[name]]
        faults = dict.fromkeys(changed, "This cannot be changed")
        if "network" not in given:
            faults["network"] = "This member is required"
        if faults:
            raise Invalid(faults)
        with _refusals(call, "network"):
            network = read_network(given["network"])
            before = record.token.conditions
            conditions = Conditions(network.allow, network.deny, before.rate)
            grant = None
            if not conditions.networks_within(before):
                # The token could then be used from where it could not before: that is a grant.
                wider = record._replace(token=replace(record.token, conditions=conditions))
                grant = _grant_of(wider, self._check_grant(call, wider).ends_at)
            provided = self._still(call, record.client.id, lambda tx: grant)
            token = self.issuer.set_token_conditions(
                record.token.id, conditions, actor=call.actor, instead_of=before, provided=provided
            )
        record = record._replace(token=token)
        return _answer(200, show_token(record, _url_of(call, record)))

    def rotate_token(self, call: Call) -> Answer:
        """Issue a successor, which lives as long as the token did, but not beyond the calling token."""
        record = self._find(call)
        body = call.body
        given = read_body(body, ROTATION) if body else {}
        holder = self._check_grant(call, record)
        with _refusals(call, "overlap"):
            issued = self.issuer.rotate(
                record.token.id,
                actor=call.actor,
                overlap=given.get("overlap", DEFAULT_OVERLAP),
                not_after=holder.ends_at,
                provided=self._still(
                    call,
                    record.client.id,
                    lambda tx: _grant_of(tx.record(call.token_id) or record, holder.ends_at),
                ),
            )
        return _shown_once(call, issued, record.client)

    def revoke_token(self, call: Call) -> Answer:
        """End a token for good."""
        record = self._find(call)
        return self._revoked(call, record.token.id, self._still(call, record.client.id))

    def revoke_current_token(self, call: Call) -> Answer:
        """End the calling token itself."""
        self._holder(call)
        return self._revoked(call, call.identity.token_id)

    def _revoked(self, call: Call, token_id: str, provided: Provided | None = None) -> Answer:
        with _refusals(call):
            self.issuer.revoke(token_id, actor=call.actor, provided=provided)
        return Answer(204, [], b"")

    def _sees_all(self, call: Call) -> bool:
        all_clients = self.rights.all_clients
        return all_clients in call.identity.scopes and all_clients in self._scopes(call)

    def _sees(self, call: Call, client_id: str) -> bool:
        return client_id == _own_client(call.identity) or self._sees_all(call)

    def _find(self, call: Call) -> Record:
        """The token that the call names; raises NotFound also if it has ended, or the caller may not see it."""
        record = self.store.find(call.token_id)
        if record is None or not self._sees(call, record.client.id) or record.state(self.issuer.clock()) not in ALIVE:
            raise NotFound(call.token_id, "Token")
        return record

    def _holder(self, call: Call, find: Find | None = None) -> Holder:
        """The calling token as it is now; raises Forbidden if it is not this service's, InvalidToken if it has ended.

        For a moment this process may not know that it has ended: what it hands on would outlive it.
        """
        identity = call.identity
        record = (find or self.store.find)(identity.token_id) if identity.issuer == OWN_ISSUER else None
        if record is None:
            raise Forbidden(causes=["Only a token that this service has issued may do this"])
        if (state := record.state(self.issuer.clock())) is not State.ACTIVE:
            raise InvalidToken(state.value, token_id=record.token.id, client_id=record.client.id)
        return Holder(record, self.issuer.catalog.effective(record.token.scopes, record.client.scopes))

    def _check_grant(self, call: Call, record: Record) -> Holder:
        """Return the calling token; raises Forbidden if ``record`` is more than it may hand on."""
        holder = self._holder(call)
        # The token's own end does not matter: a successor's is cut to the calling token's.
        holder.check(_grant_of(record, holder.ends_at), self.issuer.catalog)
        return holder

    def _scopes(self, call: Call, tx: Transaction | None = None) -> Scopes:
        """The caller's scopes now, which may be news to this process; raises InvalidToken if its token has ended."""
        find, find_client = (self.store.find, self.store.client) if tx is None else (tx.record, tx.client)
        identity = call.identity
        if identity.issuer == OWN_ISSUER:
            return self._holder(call, find).scopes
        whose = whose_token(identity)
        if find(local_token_id(identity.issuer, identity.token_id)) is not None:  # stored only once it is revoked
            raise InvalidToken(State.REVOKED.value, **whose)
        local = local_client_id(identity.issuer, identity.client_id)
        client = find_client(local)
        if client is None or client.id != local:
            return identity.scopes
        if not client.enabled:
            raise InvalidToken(State.CLIENT_DISABLED.value, **whose)
        return self.issuer.catalog.effective(identity.scopes, client.scopes)

    def _still(
        self, call: Call, client_id: str, grant_of: Callable[[Transaction], Grant | None] = lambda tx: None
    ) -> Provided:
        """Return what checks, in the transaction that changes a token of this client, that the caller still may do so.

        Meanwhile the calling token may have been revoked, or a right withdrawn from its client. What ``grant_of``
        returns must still be the caller's to hand on.
        """

        def check(tx: Transaction) -> None:
            scopes, manage = self._scopes(call, tx), self.rights.manage
            if manage not in scopes:
                raise InsufficientScope([manage], manage, **whose_token(call.identity))
            if client_id != _own_client(call.identity) and self.rights.all_clients not in scopes:
                raise NotFound(call.token_id, "Token") if call.token_id else _no_client()
            if (grant := grant_of(tx)) is not None:
                self._holder(call, tx.record).check(grant, self.issuer.catalog)

        return check

    def _client(self, call: Call, holder: Holder, given: str | None) -> Client:
        """The client that the new token is for."""
        if given is None or given == holder.record.client.id:
            return holder.record.client
        client = self.store.client(given) if self._sees_all(call) else None
        if client is None or client.id != given:
            raise _no_client()
        return client


@contextmanager
def _refusals(call: Call, about: str = "token") -> Iterator[None]:
    """Turn the issuer's refusals in the block into answers to the caller; ``about`` is the member that they concern."""
    try:
        yield
    except UnknownToken:
        raise NotFound(call.token_id, "Token") from None
    except PolicyViolation as violation:
        raise Invalid({violation.rule: str(violation).removeprefix(f"{violation.rule}: ")}) from None
    except Conflict as error:
        raise Changed({"token": f"{str(error).removesuffix(_AGAIN)}{_AGAIN}"}) from None
    except (InvalidValue, IssuanceError) as error:
        raise Invalid({about: str(error)}) from None


def _no_client() -> Invalid:
    return Invalid({"clientId": "No client has this id"})


def _grant_of(record: Record, not_after: int | None) -> Grant:
    token = record.token
    idle = None if token.idle_timeout is None else token.idle_timeout // SECOND
    return Grant(record.client, token.scopes, token.conditions, idle, not_after)


def _own_client(identity: Identity) -> str:
    """The id of the caller's client; for another issuer's, whose ids are not ours, an id that no client has."""
    return identity.client_id if identity.issuer == OWN_ISSUER else ""


def _read_place(after: str | None) -> Place | None:
    if after is None:
        return None
    created_at, _, token_id = after.partition("-")
    return Place(int(created_at), token_id)


def _url_of(call: Call, record: Record) -> str:
    return f"{call.url}/{record.token.id}"


def _shown_once(call: Call, issued: Issued, client: Client) -> Answer:
    # Not read from the store: if that failed, the token would exist, but its text would be lost.
    record = Record(issued.token, client, revision=0)
    url = _url_of(call, record)
    shown = {**show_token(record, url), "token": issued.text.reveal()}
    return _answer(201, shown, ("Location", url), ("Cache-Control", "no-store"))


def _answer(status: int, data: Any, *headers: tuple[str, str]) -> Answer:
    body = json.dumps(data).encode("ascii")
    return Answer(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers], body)
