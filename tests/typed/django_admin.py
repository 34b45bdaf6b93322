from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from tokenguard.django.admin import ClientAdmin, TokenAdmin
from tokenguard.django.models import Client, Token


class Tokens(TokenAdmin):
    list_display = ("id", "client_name", "team")
    list_filter = ("client",)
    search_fields = ("id",)
    ordering = ("client__name", "name")
    actions = ("revoke_selected",)

    @admin.display(description="team")
    def team(self, token: Token) -> str:
        return token.client.name.partition("-")[0]


class Clients(ClientAdmin):
    list_display = ["name", "scope_names"]  # noqa: RUF012 - as users do
    list_filter = ()
    search_fields = ("name",)
    ordering = ("-created_at", "name")
    actions = ["disable_selected"]  # noqa: RUF012 - as users do

    @admin.action(description="Disable selected clients", permissions=["change"])
    def disable_selected(self, request: HttpRequest, clients: Any) -> None: ...


admin.site.unregister([Client, Token])
admin.site.register(Client, Clients)
admin.site.register(Token, Tokens)
