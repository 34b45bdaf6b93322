"""An issuer of access tokens like Okta's: metadata and keys over HTTPS, and tokens of any kind, also broken ones."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

AUDIENCE = "api://directory"
#: The time of the tests' stopped clock, in seconds.
AT = 1_900_000_000
_REGISTRY = jws.JWSRegistry(algorithms=["RS256", "RS384", "PS256", "ES256", "HS256"], strict_check_header=False)


class Idp:
    """Serves ``documents`` by path; ``asked`` lists the paths that were requested."""

    def __init__(self, base: str, path: str = "/oauth2/default") -> None:
        self.base, self.issuer = base, base + path
        #: The current time, in seconds: each token is issued a minute before it and expires an hour after it.
        self.at = AT
        self.keys: dict[str, Key] = {"one": RSA_KEYS[0]}
        self.asked: list[str] = []
        #: Sent in place of an answer: a status, or bytes as they are. If ``hangs`` is set, the last byte is never sent.
        self.broken: int | bytes | None = None
        self.hangs: threading.Event | None = None
        self.documents: dict[str, Any] = {}
        self.documents[f"{path}/.well-known/oauth-authorization-server"] = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/v1/keys",
        }
        self.keys_path = f"{path}/v1/keys"

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if isinstance(self.broken, int):
            return self.broken, b"{}"
        if isinstance(self.broken, bytes):
            return 200, self.broken
        found = self.jwks() if path == self.keys_path else self.documents.get(path)
        return (200, json.dumps(found).encode()) if found is not None else (404, b"not found")

    def fetch(self, url: str) -> dict[str, Any] | None:
        """Fetch a document as :func:`tokenguard.issuers.jwks.fetch` does, without a network."""
        from tokenguard.issuers.jwks import KeysUnavailable

        status, body = self.answer(url.removeprefix(self.base))
        if status not in (200, 404):
            raise KeysUnavailable(f"status {status}")
        return json.loads(body) if status == 200 else None

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]}

    @property
    def claims(self) -> dict[str, Any]:
        """A token's claims, as Okta sets them."""
        return {
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "0oa1nightly",
            "iat": self.at - 60,
            "exp": self.at + 3600,
            "cid": "0oa1nightly",
            "scp": ["users:read"],
        }

    def token(
        self, *, kid: str | None = "one", key: Key | None = None, header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token with these claims changed, or left out where they are None."""
        made = {name: value for name, value in {**self.claims, **claims}.items() if value is not None}
        return self.signed(json.dumps(made).encode(), kid=kid, key=key, header=header)

    def signed(
        self, payload: bytes, *, kid: str | None = "one", key: Key | None = None, header: dict[str, Any] | None = None
    ) -> str:
        signing = key or self.keys[kid or "one"]
        made: dict[str, Any] = {"alg": "ES256" if isinstance(signing, ECKey) else "RS256"} | (header or {})
        if kid is not None:
            made = {"kid": kid} | made
        return jws.serialize_compact(made, payload, signing, registry=_REGISTRY)


def by_hand(idp: Idp, header: dict[str, Any] | bytes) -> str:
    """Return a token that is correctly signed with RS256, with a header that no library would write."""
    signed = f"{b64(header)}.{b64(idp.claims)}"
    private = RSA_KEYS[0].private_key
    return f"{signed}.{b64(private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def b64(data: bytes | dict[str, Any]) -> str:
    return urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode().rstrip("=")


@contextmanager
def https_idp(directory: Path) -> Iterator[tuple[Idp, Path]]:
    """Serve an issuer over HTTPS; yields it, and the file with the certificate to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = idp.answer(self.path)
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{idp.base}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if idp.hangs is not None:
                self.wfile.write(body[:-1])
                self.wfile.flush()
                idp.hangs.wait(30)
                return
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            pass  # a client that does not trust the certificate hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        idp = Idp(f"https://localhost:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield idp, directory / "ca.pem"
        finally:
            server.shutdown()
            thread.join(10)


RSA_KEYS = [RSAKey.generate_key(2048) for _ in range(2)]
EC_KEY = ECKey.generate_key("P-256")
