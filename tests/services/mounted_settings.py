"""The Django sample's settings, for the server that finds its application through them."""

from __future__ import annotations

from sample_django.settings import *  # noqa: F403
from sample_django.settings import TOKENGUARD

# The sample's own error form would not show why a request was refused.
TOKENGUARD = {**TOKENGUARD, "ERROR_FORM": "problem"}
WSGI_APPLICATION = "tests.services.mounted_django.application"
