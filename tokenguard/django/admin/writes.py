"""How the admin writes: as whom, in one transaction with its own history, and each form once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.db import Error, transaction
from django.http import HttpRequest

from ...errors import InvalidValue, PolicyViolation, StoreError, TokenGuardError
from ...events import MAX_ACTOR_LENGTH
from ...secret import redact
from ...tokens import check_label
from ..conf import service
from ..connections import store_error

log = logging.getLogger("tokenguard")
_SHOWN = "tokenguard_shown"
#: The number of forms whose texts were shown that a session remembers: few, as it may have to fit into a cookie.
MAX_REMEMBERED = 10
#: At most this many of the tokens that were issued then are named.
MAX_NAMED = 3


class ShownBefore(TokenGuardError):
    """This very form was sent before: its texts were shown then."""

    def __init__(self, token_ids: Sequence[str]) -> None:
        super().__init__("this form was sent before")
        self.token_ids = token_ids[:MAX_NAMED]
        #: Whether more tokens were issued than those named.
        self.more = len(token_ids) > MAX_NAMED


def database() -> str:
    """The alias of the database that keeps the tokens."""
    using: str = service().store.using  # type: ignore[attr-defined] # it is a DjangoStore
    return using


def actor(request: HttpRequest) -> str:
    """Return the logged-in user for the audit trail: by name, or by primary key if the name is not fit to be shown."""
    try:
        return check_label("an actor", f"admin:{request.user.get_username()}", max_length=MAX_ACTOR_LENGTH)
    except InvalidValue:
        return f"admin#{request.user.pk}"


@contextmanager
def one_transaction(request: HttpRequest) -> Iterator[None]:
    """Write all that the block writes, including the admin's history, or nothing.

    Raises StoreError for what the database refuses. A refusal by the policy is recorded all the same. An error after
    the commit, as in a project's own callback, is only logged, so that the answer is not lost.
    """
    committed: list[bool] = []
    try:
        with transaction.atomic(using=database()):
            transaction.on_commit(partial(committed.append, True), using=database())
            yield
    except Exception as error:
        if committed:
            log.error("what was to be done after the commit failed: %s", redact(traceback.format_exc()))
            return
        if isinstance(error, PolicyViolation):
            # The issuer's own record of it is rolled back with the rest.
            service().issuer.record_refusal(error, actor=actor(request))
        if isinstance(error, Error):
            raise store_error(error, database()) from error
        raise


@contextmanager
def shown_once(request: HttpRequest, form_id: str) -> Iterator[Callable[[Sequence[str]], None]]:
    """Run one transaction whose answer shows new tokens' texts, unless the form with this id has had such an answer.

    Yields a function to call last, with the new tokens' ids. Raises ShownBefore for a form that is sent again, and then
    rolls back what was done in the block.
    """
    before = request.session.get(_SHOWN, {})
    _check_not_shown(before, form_id)
    try:
        with one_transaction(request):
            yield partial(_remember_shown, request, form_id)
    except StoreError:
        if form_id in request.session.get(_SHOWN, {}):
            # The commit itself failed, so nothing was issued: the form may be sent again.
            request.session[_SHOWN] = before
        raise


def _remember_shown(request: HttpRequest, form_id: str, token_ids: Sequence[str]) -> None:
    # The transaction holds the counter's lock by now: of two requests at the same time, the second reads here what the
    # first has written.
    session: Any = request.session
    shown = type(session)(session.session_key).get(_SHOWN, {})
    _check_not_shown(shown, form_id)
    session[_SHOWN] = {**dict(list(shown.items())[1 - MAX_REMEMBERED :]), form_id: list(token_ids[: MAX_NAMED + 1])}
    try:
        session.save()
    except UpdateError:
        raise SessionInterrupted("the session ended while the request was answered") from None


def _check_not_shown(shown: Mapping[str, Sequence[str]], form_id: str) -> None:
    if (token_ids := shown.get(form_id)) is not None:
        raise ShownBefore(token_ids)
