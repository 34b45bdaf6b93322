"""What the views share: the directory, a page as an answer, and errors in Okta's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Response, current_app, jsonify, request, url_for
from werkzeug import exceptions

from tokenguard.okta import ApiError, NotFound, NotWellFormed, Paging, TooLarge, WrongMethod, show_error

from . import errors, okta
from .directory import Directory
from .people import Item, Page

Show = Callable[[Item], dict[str, Any]]


def directory() -> Directory:
    """The directory of the running application."""
    return cast(Directory, current_app.extensions["sample_directory"])


def body() -> bytes:
    """Return the request's body; raises TooLarge, or RequestEntityTooLarge if the declared length is too large."""
    # Werkzeug returns a chunked body up to its own limit, which is one byte more.
    if len(data := request.get_data()) > okta.MAX_BODY:
        raise TooLarge
    return data


def answer_page(endpoint: str, paging: Paging, page: Page[Item], show: Show[Item]) -> Response:
    """Return a page of a list, with links to itself and to the next page."""
    response = jsonify([show(item) for item in page.items])
    next_after = page.items[-1].id if page.more else None
    response.headers["Link"] = paging.links(url_for(endpoint, _external=True), next_after)
    return response


def handle_errors(app: Flask) -> None:
    """Answer errors in Okta's form: the directory's own, and the few that Flask raises on the way to a view.

    Each is registered by its class. A handler for HTTPException or for a status would also get tokenguard's refusals,
    which already say what they must say.
    """
    app.register_error_handler(ApiError, _answer)
    app.register_error_handler(exceptions.NotFound, _no_such_path)
    app.register_error_handler(exceptions.MethodNotAllowed, _wrong_method)
    app.register_error_handler(exceptions.RequestEntityTooLarge, lambda _: _answer(TooLarge()))
    app.register_error_handler(exceptions.ClientDisconnected, lambda _: _answer(NotWellFormed()))
    app.register_error_handler(exceptions.BadHost, _bad_host)
    app.register_error_handler(exceptions.SecurityError, _bad_host)
    app.register_error_handler(exceptions.InternalServerError, lambda _: _answer(errors.Internal()))


def _answer(error: ApiError) -> Response:
    response = jsonify(show_error(error))
    response.status_code = error.status
    response.headers.update(error.headers)
    return response


def _bad_host(_: exceptions.BadRequest) -> Response:
    return _answer(errors.BadHost())


def _no_such_path(_: exceptions.NotFound) -> Response:
    return _answer(NotFound(request.path))


def _wrong_method(error: exceptions.MethodNotAllowed) -> Response:
    return _answer(WrongMethod(error.valid_methods or ()))
