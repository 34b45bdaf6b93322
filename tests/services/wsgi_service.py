"""The contract's service on bare WSGI: nothing but tokenguard's middleware and a few plain applications."""

from __future__ import annotations

import json
import os
from typing import Any

from tokenguard import (
    AuthScheme,
    Guard,
    Issuer,
    ProtectedResource,
    ScopeCatalog,
    SigningKeys,
    TokenFormat,
    TokenGuardMiddleware,
    UsageLog,
)
from tokenguard.cache import TokenCache
from tokenguard.http import EMPTY_TYPE
from tokenguard.introspection import introspection_app
from tokenguard.ratelimits import RateLimiter
from tokenguard.request import RequestGuard
from tokenguard.revocation import revocation_app
from tokenguard.sqlalchemy import SQLAlchemyStore

from .common import CATALOG, HEADERS, ISSUER, METADATA_PATH


def create_app() -> Any:
    store = SQLAlchemyStore(os.environ["TOKENGUARD_DATABASE_URL"])
    tokens = TokenFormat(SigningKeys(os.environ["TOKENGUARD_SIGNING_KEY"]))
    catalog = ScopeCatalog(CATALOG)
    cache = TokenCache(store, staleness=float(os.environ["TOKENGUARD_STALENESS"]))
    guard = Guard(store, tokens, catalog=catalog, limiter=RateLimiter(), usage=UsageLog(store), cache=cache)
    resource = None
    if "TOKENGUARD_RESOURCE" in os.environ:
        servers = os.environ["TOKENGUARD_AUTHORIZATION_SERVERS"].split()
        resource = ProtectedResource(
            os.environ["TOKENGUARD_RESOURCE"], scopes=catalog, name="api", authorization_servers=servers
        )
    scheme = AuthScheme(headers=HEADERS, rate_headers="draft", resource=resource)

    def view(environ: Any, start_response: Any) -> list[bytes]:
        identity = environ.get("tokenguard.identity")
        body = json.dumps({"client": identity.client_name if identity else None}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def cached(environ: Any, start_response: Any) -> list[bytes]:
        headers = [
            EMPTY_TYPE,
            ("Content-Length", "0"),
            ("Cache-Control", "max-age=60"),
            ("Vary", "Accept, authorization"),
        ]
        start_response("200 OK", headers)
        return []

    open_ = RequestGuard(guard, scheme)

    def optional(environ: Any, start_response: Any) -> list[bytes]:
        open_.identify(environ)
        return view(environ, start_response)

    routes: dict[str, Any] = {
        "/open": optional,
        "/any": TokenGuardMiddleware(view, guard, scheme=scheme),
        "/read": TokenGuardMiddleware(view, guard, "users:read", scheme=scheme),
        "/manage": TokenGuardMiddleware(view, guard, "users:read", "users:manage", scheme=scheme),
        "/either": TokenGuardMiddleware(view, guard, any_of=("users:manage", "groups:read"), scheme=scheme),
        "/cached": TokenGuardMiddleware(cached, guard, scheme=scheme),
        "/revoke": revocation_app(Issuer(store, tokens), guard),
        "/introspect": introspection_app(guard, "users:manage", issuer=ISSUER, scheme=scheme),
    }
    routes[METADATA_PATH] = routes["/any"]
    return lambda environ, start_response: routes[environ["PATH_INFO"]](environ, start_response)
