"""The directory in the admin, read-only. Applications change it, through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from .models import Group, User

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Model]
else:
    ModelAdmin = admin.ModelAdmin


class LookAtOnly(ModelAdmin):
    """Lets nobody add, change or delete."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission


@admin.register(User)
class UserAdmin(LookAtOnly):
    list_display = ("login_key", "id", "status")
    list_filter = ("status",)
    search_fields = ("login_key", "id")


@admin.register(Group)
class GroupAdmin(LookAtOnly):
    list_display = ("name", "id", "description")
