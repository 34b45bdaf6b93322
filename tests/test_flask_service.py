from __future__ import annotations

from .framework_contract import FrameworkContract


class TestFlask(FrameworkContract):
    app = "tests.services.common:validated('tests.services.flask_service')"
