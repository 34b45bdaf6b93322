"""A tiny issuer of access tokens for the demo, like an Okta authorization server, with a key made on the spot."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

AUDIENCE = "api://directory"
PATH = "/oauth2/default"
LIFETIME = 3600


class Idp:
    """Signs tokens, and publishes its metadata (RFC 8414) and its public key at ``base``."""

    def __init__(self, base: str) -> None:
        self.issuer = base + PATH
        self._key = RSAKey.generate_key(2048, {"kid": "demo", "use": "sig"})
        self.documents: dict[str, Any] = {
            f"{PATH}/.well-known/oauth-authorization-server": {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/v1/keys",
            },
            f"{PATH}/v1/keys": {"keys": [self._key.as_dict(private=False)]},
        }

    @property
    def trusted(self) -> str:
        """The value of TOKENGUARD_ISSUERS in a service that trusts it."""
        return json.dumps([{"issuer": self.issuer, "audience": AUDIENCE}])

    def claims(self, client_id: str, *scopes: str) -> dict[str, Any]:
        """Return the claims of a token for this client."""
        at = int(time.time())
        names = {"iss": self.issuer, "aud": AUDIENCE, "jti": f"AT.{secrets.token_urlsafe(16)}"}
        return {**names, "cid": client_id, "sub": client_id, "iat": at, "exp": at + LIFETIME, "scp": list(scopes)}

    def sign(self, claims: dict[str, Any]) -> str:
        """Return the signed token's text."""
        return jwt.encode({"alg": "RS256", "kid": "demo"}, claims, self._key)


@contextmanager
def serve() -> Iterator[Idp]:
    """Serve an issuer at a free loopback port until the block ends: only there may it be without HTTPS."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = idp.documents.get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        idp = Idp(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield idp
        finally:
            server.shutdown()
            thread.join()
