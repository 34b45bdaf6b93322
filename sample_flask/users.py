"""The users of the directory. Each view itself names the scope that it requires."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, request, url_for

from tokenguard.flask import current_identity, require_scopes

from . import lifecycle, okta
from .people import User, profile_changes, whole_profile
from .web import answer_page, body, directory

blueprint = Blueprint("users", __name__, url_prefix="/api/v1/users")


@blueprint.get("")
@require_scopes("okta.users.read")
def list_users() -> Response:
    paging = okta.read_paging(request.args)
    page = directory().users(paging.limit, paging.after)
    return answer_page("users.list_users", paging, page, _show)


@blueprint.post("")
@require_scopes("okta.users.manage")
def create_user() -> dict[str, Any]:
    """Answers 200 as Okta does, not 201: for any other status, Okta's SDK gives its caller no user."""
    active = okta.read_flag(request.args, "activate", default=True)
    profile = whole_profile(okta.read_profile(body()))
    return _changed("created", directory().add_user(lifecycle.new_user(profile, active=active)))


@blueprint.get("/<key>")
@require_scopes("okta.users.read")
def get_user(key: str) -> dict[str, Any]:
    """``key`` is an id or a login, here and below."""
    return _show(directory().user(key))


@blueprint.post("/<key>")
@require_scopes("okta.users.manage")
def update_user(key: str) -> dict[str, Any]:
    """Changes the fields that are sent and leaves the others; null clears one."""
    given = okta.read_profile(body())
    changes = profile_changes({} if given is None else given)
    return _changed("updated", directory().change_user(key, lifecycle.updated(changes)))


@blueprint.put("/<key>")
@require_scopes("okta.users.manage")
def replace_user(key: str) -> dict[str, Any]:
    """Fields that are not sent are cleared."""
    profile = whole_profile(okta.read_profile(body()))
    return _changed("replaced", directory().change_user(key, lifecycle.replaced(profile)))


@blueprint.delete("/<key>")
@require_scopes("okta.users.manage")
def delete_user(key: str) -> tuple[str, int]:
    """Deactivates a user that is not DEPROVISIONED yet."""
    _changed("asked to delete", directory().change_user(key, lifecycle.deleted))
    return "", 204


@blueprint.post("/<key>/lifecycle/activate")
@require_scopes("okta.users.manage")
def activate_user(key: str) -> dict[str, Any]:
    _changed("activated", directory().change_user(key, lifecycle.activated))
    return {}


@blueprint.post("/<key>/lifecycle/deactivate")
@require_scopes("okta.users.manage")
def deactivate_user(key: str) -> dict[str, Any]:
    _changed("deactivated", directory().change_user(key, lifecycle.deactivated))
    return {}


def _show(user: User) -> dict[str, Any]:
    return okta.show_user(user, url_for("users.get_user", key=user.id, _external=True))


def _changed(what: str, user: User) -> dict[str, Any]:
    # The token shows which application did this, which is all that tokenguard knows: there is no person behind it.
    current_app.logger.info("%s %s user %s", current_identity.client_name, what, user.id)
    return _show(user)
