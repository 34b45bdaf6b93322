"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class TokenGuardConfig(AppConfig):
    """``"tokenguard.django"`` in INSTALLED_APPS."""

    name = "tokenguard.django"
    label = "tokenguard"
    verbose_name = "API tokens"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, upgrade

        checks.register()
        post_migrate.connect(upgrade.restore_counter, sender=self)
        if apps.is_installed("drf_spectacular"):
            from . import spectacular  # noqa: F401 - drf-spectacular finds what has been imported
