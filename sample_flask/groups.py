"""The groups of the directory. ``application.py`` guards the whole blueprint, so no view here names a scope."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, url_for

from . import okta
from .people import Group
from .web import answer_page, directory

blueprint = Blueprint("groups", __name__, url_prefix="/api/v1/groups")


@blueprint.get("")
def list_groups() -> Response:
    paging = okta.read_paging(request.args)
    page = directory().groups(paging.limit, paging.after)
    return answer_page("groups.list_groups", paging, page, _show)


@blueprint.get("/<group_id>")
def get_group(group_id: str) -> dict[str, Any]:
    return _show(directory().group(group_id))


def _show(group: Group) -> dict[str, Any]:
    return okta.show_group(group, url_for("groups.get_group", group_id=group.id, _external=True))
