"""What the services of the framework contract have in common."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING
from wsgiref.validate import validator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CATALOG: dict[str, object] = {
    "users:read": "Read users",
    "users:manage": {"description": "Change users", "implies": ["users:read"]},
    "groups:read": "Read groups",
}
HEADERS = ["X-API-Key"]
#: The issuer that the service names in the answers of its introspection endpoint.
ISSUER = "https://api.example.com"
#: The path at which a sample is mounted as well.
MOUNT = "/mounted"


def mounted(app: WSGIApplication) -> WSGIApplication:
    """Return the application at its usual place, and below MOUNT as well."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == MOUNT or path.startswith(f"{MOUNT}/"):
            environ["SCRIPT_NAME"] += MOUNT
            environ["PATH_INFO"] = path.removeprefix(MOUNT)
        return app(environ, start_response)

    return application


def validated(module: str, factory: str = "create_app") -> WSGIApplication:
    """Return a module's application, wrapped to raise AssertionError for whatever PEP 3333 does not allow."""
    application: WSGIApplication = validator(getattr(import_module(module), factory)())
    return application


#: The service's identifier, if its environment sets it, and the path of its metadata then.
RESOURCE = "https://api.example.com/directory"
METADATA_PATH = "/.well-known/oauth-protected-resource/directory"
