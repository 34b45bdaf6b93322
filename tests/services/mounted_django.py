"""The Django sample twice: at its usual place, and mounted below a path. For WSGI and for ASGI servers."""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from .common import MOUNT, mounted

application = mounted(get_wsgi_application())
_asgi_application = get_asgi_application()


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope.get("path", "").startswith(f"{MOUNT}/"):
        scope = {**scope, "root_path": MOUNT}
    await _asgi_application(scope, receive, send)
