from __future__ import annotations

from .framework_contract import FrameworkContract


class TestWSGI(FrameworkContract):
    app = "tests.services.common:validated('tests.services.wsgi_service')"
