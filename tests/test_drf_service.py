from __future__ import annotations

from typing import ClassVar

import pytest

from .framework_contract import FrameworkContract, Running, same_refusal


class TestRestFramework(FrameworkContract):
    app = "django.core.wsgi:get_wsgi_application()"
    environ: ClassVar = {
        "DJANGO_SETTINGS_MODULE": "tests.services.drf_settings",
        "TESTS_URLCONF": "tests.services.drf_service",
    }

    @pytest.mark.parametrize("path", ["/any", "/manage", "/either"])
    def test_with_the_browsable_api_beside_json_refusals_are_the_same(self, running: Running, path: str) -> None:
        for accept in ("application/json", "*/*", "application/json, text/html;q=0.5"):
            refused = running.server.request("GET", path, [("Accept", accept)])
            same_refusal(refused, 401, "missing_token")
        _, text = running.issue()
        answer = running.server.get("/any", text)
        assert (answer.status, answer.headers["Vary"]) == (200, "Accept, Authorization, X-API-Key")

    def test_a_browser_is_refused_with_a_page(self, running: Running) -> None:
        _, text = running.issue()
        headers = [("Accept", "text/html"), ("Authorization", f"Bearer {text}")]
        refused = running.server.request("POST", "/manage", headers)
        assert refused.status == 403
        assert refused.headers["Content-Type"] == "text/html; charset=utf-8"
        assert refused.headers["Cache-Control"] == "no-store"
        assert 'scope="users:read users:manage"' in refused.headers["WWW-Authenticate"]
        assert "lacks a scope" in refused.body.decode()
        assert running.server.request("GET", "/any", headers).status == 200
