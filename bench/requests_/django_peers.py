"""Other guards of a view of Django, or of Django REST framework, each as its own documentation shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.permissions import IsAuthenticated

from ..django_project import handler
from ..fixtures import SCOPE, forged
from .contestants import Contestant, Maker
from .django_apps import contestant, users
from .drf_apps import view


def _owner() -> User:
    return User.objects.get_or_create(username="billing")[0]


def rest_framework_tokens(folder: Path) -> Iterator[Contestant]:
    """The framework's own tokens, which have no scopes."""
    from rest_framework.authentication import TokenAuthentication
    from rest_framework.authtoken.models import Token

    text = Token.objects.create(user=_owner()).key
    app, guarded = handler(), view(TokenAuthentication, IsAuthenticated)
    yield contestant("DRF TokenAuthentication (no scopes)", app, guarded, text, word="Token")
    name = "DRF TokenAuthentication, forged"
    yield contestant(name, app, guarded, forged(text), word="Token", status=401)


def api_keys(folder: Path) -> Iterator[Contestant]:
    """djangorestframework-api-key, which has no scopes."""
    from rest_framework_api_key.models import APIKey
    from rest_framework_api_key.permissions import HasAPIKey

    _, text = APIKey.objects.create_key(name="billing")
    app, guarded = handler(), view(None, HasAPIKey)
    yield contestant("djangorestframework-api-key (no scopes)", app, guarded, text, word="Api-Key")
    name = "djangorestframework-api-key, forged"
    yield contestant(name, app, guarded, forged(text), word="Api-Key", status=403)


def knox(folder: Path) -> Iterator[Contestant]:
    """django-rest-knox, which has no scopes."""
    from knox.auth import TokenAuthentication
    from knox.models import AuthToken

    _, text = AuthToken.objects.create(_owner())
    app, guarded = handler(), view(TokenAuthentication, IsAuthenticated)
    yield contestant("django-rest-knox (no scopes)", app, guarded, text, word="Token")
    yield contestant("django-rest-knox, forged", app, guarded, forged(text), word="Token", status=401)


def toolkit(folder: Path) -> Iterator[Contestant]:
    """django-oauth-toolkit on a plain view of Django."""
    from oauth2_provider.decorators import protected_resource

    text = _oauth_token()
    app, guarded = handler(), protected_resource(scopes=[SCOPE])(users)
    yield contestant("django-oauth-toolkit", app, guarded, text)
    yield contestant("django-oauth-toolkit, forged", app, guarded, forged(text), status=403)


def toolkit_in_rest_framework(folder: Path) -> Iterator[Contestant]:
    """django-oauth-toolkit on a view of the framework."""
    from oauth2_provider.contrib.rest_framework import OAuth2Authentication, TokenHasScope

    text = _oauth_token()
    app, guarded = handler(), view(OAuth2Authentication, TokenHasScope)
    yield contestant("django-oauth-toolkit", app, guarded, text)
    yield contestant("django-oauth-toolkit, forged", app, guarded, forged(text), status=401)


def _oauth_token() -> str:
    from oauth2_provider.models import get_access_token_model, get_application_model

    models: tuple[Any, Any] = (get_application_model(), get_access_token_model())
    application = models[0].objects.create(
        name="billing", client_type="confidential", authorization_grant_type="client-credentials"
    )
    text = token_urlsafe(32)
    expires = timezone.now() + timedelta(hours=12)
    models[1].objects.create(application=application, token=text, scope=f"{SCOPE} groups:read", expires=expires)
    return text


DJANGO: dict[str, Maker] = {"django-oauth-toolkit": toolkit}
REST_FRAMEWORK: dict[str, Maker] = {
    "DRF TokenAuthentication": rest_framework_tokens,
    "djangorestframework-api-key": api_keys,
    "django-rest-knox": knox,
    "django-oauth-toolkit in DRF": toolkit_in_rest_framework,
}
