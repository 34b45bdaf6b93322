"""The Django sample's settings, for the server that finds its application there."""

from __future__ import annotations

from sample_django.settings import *  # noqa: F403
from sample_django.settings import TOKENGUARD

# Its own form of errors would not tell why a request was refused.
TOKENGUARD = {**TOKENGUARD, "ERROR_FORM": "problem"}
WSGI_APPLICATION = "tests.services.mounted_django.application"
