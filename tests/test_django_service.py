from __future__ import annotations

from .framework_contract import FrameworkContract


class TestDjango(FrameworkContract):
    app = "tests.services.django_service:create_app()"
