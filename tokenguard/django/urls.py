"""URLs to include at the root of a project: ``path("", include("tokenguard.django.urls"))``."""

from __future__ import annotations

import re

from django.urls import re_path

from ..resource import WELL_KNOWN
from .metadata import metadata

app_name = "tokenguard"
# For any path that the resource may have: settings are read live, and URLconfs are not.
urlpatterns = [re_path(rf"^{re.escape(WELL_KNOWN[1:])}(?:/.*)?$", metadata, name="metadata")]
