"""The groups of the directory. Both views are guarded as a whole, and asynchronous."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from sample_flask import okta
from sample_flask.people import Group
from tokenguard.django import ScopesRequiredMixin

from .. import directory, web


class GroupsView(ScopesRequiredMixin, web.DirectoryView):
    """All groups."""

    required_scopes = ("okta.groups.read",)

    async def get(self, request: HttpRequest) -> HttpResponse:
        paging = okta.read_paging(request.GET)
        page = await directory.groups(paging.limit, paging.after)
        return web.answer_page(request, "groups", paging, page, lambda group: _show(request, group))


class GroupView(ScopesRequiredMixin, web.DirectoryView):
    """One group."""

    required_scopes = ("okta.groups.read",)

    async def get(self, request: HttpRequest, group_id: str) -> HttpResponse:
        return JsonResponse(_show(request, await directory.group(group_id)))


def _show(request: HttpRequest, group: Group) -> dict[str, Any]:
    return okta.show_group(group, web.url(request, "group", group.id))
