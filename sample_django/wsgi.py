"""The sample for WSGI servers: ``gunicorn sample_django.wsgi:application``."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sample_django.settings")
application = get_wsgi_application()
