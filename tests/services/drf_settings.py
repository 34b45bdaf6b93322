"""The same settings with Django REST framework and drf-spectacular, which take as long to import as all the rest."""

from __future__ import annotations

from .django_settings import *  # noqa: F403
from .django_settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "drf_spectacular"]
