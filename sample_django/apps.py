"""The directory as one of the project's applications."""

from __future__ import annotations

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    name = "sample_django"
    label = "directory"
    verbose_name = "Directory"
