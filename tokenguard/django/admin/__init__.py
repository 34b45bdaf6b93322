"""Clients and tokens in Django's admin: to look at, and to change through the issuer alone."""

from __future__ import annotations

from django.contrib import admin

from ..models import Client, Token
from .clients import ClientAdmin
from .tokens import TokenAdmin

__all__ = ["ClientAdmin", "TokenAdmin"]

admin.site.register(Client, ClientAdmin)
admin.site.register(Token, TokenAdmin)
