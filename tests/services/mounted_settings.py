"""The Django sample's settings, for the server that finds its application there."""

from __future__ import annotations

from sample_django.settings import *  # noqa: F403

WSGI_APPLICATION = "tests.services.mounted_django.application"
