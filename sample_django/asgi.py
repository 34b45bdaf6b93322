"""The sample for ASGI servers: ``uvicorn sample_django.asgi:application``."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_django.settings")
application = get_asgi_application()
