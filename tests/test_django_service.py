from __future__ import annotations

from typing import ClassVar

from sample_flask.playground import uvicorn

from .framework_contract import FrameworkContract


class TestDjango(FrameworkContract):
    app = "tests.services.common:validated('django.core.wsgi', 'get_wsgi_application')"


class TestDjangoAsync(FrameworkContract):
    app = "django.core.asgi:get_asgi_application"
    environ: ClassVar = {"TESTS_URLCONF": "tests.services.django_async_service"}
    serve = staticmethod(uvicorn)
    options = ("--factory",)
