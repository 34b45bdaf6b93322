"""The tests. Some run Django in their own process: it is set up before anything of it is imported."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.services.django_settings")
django.setup()
