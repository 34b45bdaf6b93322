"""The users of the directory. Each view says which scopes its methods ask for."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from django.http import HttpResponse, JsonResponse

from sample_flask import lifecycle, okta
from sample_flask.people import User, profile_changes, whole_profile
from tokenguard.django import GuardedRequest, ScopesRequiredMixin

from .. import directory, web

log = logging.getLogger(__name__)

READ, MANAGE = "okta.users.read", "okta.users.manage"


class UsersView(ScopesRequiredMixin, web.DirectoryView):
    """All users."""

    required_scopes: ClassVar = {"get": READ, "post": MANAGE}

    def get(self, request: GuardedRequest) -> HttpResponse:
        paging = okta.read_paging(request.GET)
        page = directory.users(paging.limit, paging.after)
        return web.answer_page(request, "users", paging, page, lambda user: _show(request, user))

    def post(self, request: GuardedRequest) -> HttpResponse:
        """Answer 200 like Okta, not 201: for any other status, its SDK does not return the user to the caller."""
        active = okta.read_flag(request.GET, "activate", default=True)
        profile = whole_profile(okta.read_profile(web.body(request)))
        user = directory.add_user(lifecycle.new_user(profile, active=active))
        _log(request, "created", user)
        return JsonResponse(_show(request, user))


class UserView(ScopesRequiredMixin, web.DirectoryView):
    """One user; ``key`` is an id or a login, here and below."""

    required_scopes: ClassVar = {"get": READ, "post": MANAGE, "put": MANAGE, "delete": MANAGE}

    def get(self, request: GuardedRequest, key: str) -> HttpResponse:
        return JsonResponse(_show(request, directory.user(key)))

    def post(self, request: GuardedRequest, key: str) -> HttpResponse:
        """Change the fields that are sent and leave the others; null clears a field."""
        given = okta.read_profile(web.body(request))
        changes = profile_changes({} if given is None else given)
        return JsonResponse(_show(request, _change(request, "updated", key, lifecycle.updated(changes))))

    def put(self, request: GuardedRequest, key: str) -> HttpResponse:
        """Replace the profile: fields that are not sent are cleared."""
        profile = whole_profile(okta.read_profile(web.body(request)))
        return JsonResponse(_show(request, _change(request, "replaced", key, lifecycle.replaced(profile))))

    def delete(self, request: GuardedRequest, key: str) -> HttpResponse:
        """Delete a DEPROVISIONED user; deactivate any other."""
        _change(request, "asked to delete", key, lifecycle.deleted)
        return HttpResponse(status=204)


class ActivateView(ScopesRequiredMixin, web.DirectoryView):
    required_scopes = MANAGE

    def post(self, request: GuardedRequest, key: str) -> HttpResponse:
        _change(request, "activated", key, lifecycle.activated)
        return JsonResponse({})


class DeactivateView(ScopesRequiredMixin, web.DirectoryView):
    required_scopes = MANAGE

    def post(self, request: GuardedRequest, key: str) -> HttpResponse:
        _change(request, "deactivated", key, lifecycle.deactivated)
        return JsonResponse({})


def _show(request: GuardedRequest, user: User) -> dict[str, Any]:
    return okta.show_user(user, web.url(request, "user", user.id))


def _change(request: GuardedRequest, what: str, key: str, change: lifecycle.Change) -> User:
    user = directory.change_user(key, change)
    _log(request, what, user)
    return user


def _log(request: GuardedRequest, what: str, user: User) -> None:
    # The token identifies the application that did it. That is all that tokenguard knows: no person is behind it.
    log.info("%s %s user %s", request.identity.client_name, what, user.id)
