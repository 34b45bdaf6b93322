from __future__ import annotations

from sample_flask.playground import uvicorn

from .framework_contract import FrameworkContract


class TestDjango(FrameworkContract):
    app = "tests.services.django_service:create_app()"


class TestDjangoAsync(FrameworkContract):
    app = "tests.services.django_async_service:create_app"
    serve = staticmethod(uvicorn)
    options = ("--factory",)
