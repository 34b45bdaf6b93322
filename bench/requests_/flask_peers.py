"""Other guards of a view of Flask, each as its own documentation shows, with the same view and the same scope."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache, wraps
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from flask import Flask, abort, request

from ..fixtures import SCOPE, forged
from .contestants import Contestant, Maker

#: The scopes of every peer's token.
HELD = [SCOPE, "groups:read"]
#: Long enough for the whole run.
HOURS = 12


def _app(guard: Callable[[Callable[..., Any]], Callable[..., Any]], **config: Any) -> Flask:
    app = Flask("bench")
    app.config.update(config)
    app.add_url_rule("/users", "users", guard(_users))
    return app


def _users() -> dict[str, Any]:
    return {"users": []}


def http_auth_dict(folder: Path) -> Iterator[Contestant]:
    """Flask-HTTPAuth, which looks the token's hash up in a dictionary."""
    from flask_httpauth import HTTPTokenAuth

    text = token_urlsafe(32)
    callers = {sha256(text.encode()).hexdigest(): ("billing", HELD)}
    auth = HTTPTokenAuth(scheme="Bearer")
    auth.verify_token(lambda token: callers.get(sha256(token.encode()).hexdigest()))
    auth.get_user_roles(lambda caller: caller[1])
    app = _app(auth.login_required(role=SCOPE))
    yield Contestant("Flask-HTTPAuth, hash in a dictionary", app, [text])
    yield Contestant("Flask-HTTPAuth, hash in a dictionary, forged", app, [forged(text)], status=401)


def http_auth_signed(folder: Path) -> Iterator[Contestant]:
    """Flask-HTTPAuth, with tokens that itsdangerous signs."""
    from flask_httpauth import HTTPTokenAuth
    from itsdangerous import BadData, URLSafeTimedSerializer

    serializer = URLSafeTimedSerializer("a key that only the benchmark knows")
    text = serializer.dumps({"client": "billing", "scopes": HELD})
    auth = HTTPTokenAuth(scheme="Bearer")

    @auth.verify_token
    def verify(token: str) -> Any:
        try:
            return serializer.loads(token, max_age=HOURS * 3600)
        except BadData:
            return None

    auth.get_user_roles(lambda caller: caller["scopes"])
    app = _app(auth.login_required(role=SCOPE))
    yield Contestant("Flask-HTTPAuth, itsdangerous", app, [str(text)])
    yield Contestant("Flask-HTTPAuth, itsdangerous, forged", app, [forged(str(text))], status=401)


def jwt_extended(folder: Path, algorithm: str = "HS256") -> Iterator[Contestant]:
    """Flask-JWT-Extended, with a check of the claim that has the scopes."""
    from flask_jwt_extended import JWTManager, create_access_token, get_jwt, jwt_required

    def guard(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        @jwt_required()
        def guarded() -> Any:
            if SCOPE not in get_jwt()["scopes"]:
                abort(403)
            return view()

        return guarded

    private, public = _rsa_keys()
    app = _app(
        guard,
        JWT_ALGORITHM=algorithm,
        JWT_SECRET_KEY="a key that only the benchmark knows, of 32 bytes or more",
        JWT_PRIVATE_KEY=private,
        JWT_PUBLIC_KEY=public,
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(hours=HOURS),
    )
    JWTManager(app)
    with app.app_context():
        text = create_access_token("billing", additional_claims={"scopes": HELD})
    name = f"Flask-JWT-Extended, {algorithm}"
    yield Contestant(name, app, [text])
    yield Contestant(f"{name}, forged", app, [forged(text)], status=422)


def jwt_extended_rs256(folder: Path) -> Iterator[Contestant]:
    """The same with a key pair."""
    return jwt_extended(folder, "RS256")


def authlib(folder: Path) -> Iterator[Contestant]:
    """Authlib's ResourceProtector, whose validator queries SQLite through SQLAlchemy's ORM."""
    from authlib.integrations.flask_oauth2 import ResourceProtector
    from authlib.oauth2.rfc6750 import BearerTokenValidator

    from .authlib_models import issue_token, open_sessions

    find, text = issue_token(open_sessions(folder / "authlib.db"), " ".join(HELD), HOURS)

    class Validator(BearerTokenValidator):
        def authenticate_token(self, token_string: str) -> Any:
            return find(token_string)

    require = ResourceProtector()
    require.register_token_validator(Validator())
    app = _app(require(SCOPE))
    yield Contestant("Authlib, SQLAlchemy", app, [text])
    yield Contestant("Authlib, SQLAlchemy, forged", app, [forged(text)], status=401)


def authlib_rs256(folder: Path) -> Iterator[Contestant]:
    """Authlib's validator of JWT access tokens (RFC 9068), with the key set at hand."""
    from authlib.integrations.flask_oauth2 import ResourceProtector
    from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
    from joserfc import jwt
    from joserfc.jwk import KeySet, RSAKey

    key = RSAKey.generate_key(2048, {"kid": "bench"})
    key_set = KeySet([key])

    class Validator(JWTBearerTokenValidator):
        def get_jwks(self) -> Any:
            return key_set

    at = int(time.time())
    claims = {"iss": _ISSUER, "aud": "api", "sub": "billing", "client_id": "billing", "jti": "1", "iat": at}
    claims |= {"exp": at + HOURS * 3600, "scope": " ".join(HELD)}
    text = jwt.encode({"alg": "RS256", "kid": "bench", "typ": "at+jwt"}, claims, key)
    require = ResourceProtector()
    require.register_token_validator(Validator(_ISSUER, "api"))
    app = _app(require(SCOPE))
    yield Contestant("Authlib, RS256", app, [text])
    yield Contestant("Authlib, RS256, forged", app, [forged(text)], status=401)


def okta_jwt_verifier(folder: Path) -> Iterator[Contestant]:
    """Okta's verifier, which has the key set at hand: nothing goes over the network."""
    import asyncio

    from okta_jwt_verifier import AccessTokenVerifier
    from okta_jwt_verifier.exceptions import JWTValidationException
    from okta_jwt_verifier.jwt_utils import JWTUtils

    text, executor = _okta_token_and_keys()
    verifier = AccessTokenVerifier(issuer=_ISSUER, request_executor=executor)
    loop = asyncio.new_event_loop()

    def guarding(verify: Callable[[str], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def guarded() -> Any:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            try:
                verify(token)
            except JWTValidationException:
                abort(401)
            if SCOPE not in JWTUtils.parse_token(token)[1]["scp"]:
                abort(403)
            return _users()

        return lambda view: guarded

    app = _app(guarding(verifier.verify_sync))
    yield Contestant("okta-jwt-verifier", app, [text])
    yield Contestant("okta-jwt-verifier, forged", app, [forged(text)], status=401)
    on_loop = _app(guarding(lambda token: loop.run_until_complete(verifier.verify(token))))
    yield Contestant("okta-jwt-verifier, its async way", on_loop, [text])


_ISSUER = "https://example.okta.com/oauth2/default"


def _okta_token_and_keys() -> tuple[str, type[Any]]:
    import json

    import jwt
    from okta_jwt_verifier.request_executor import RequestExecutor

    private, public = _rsa_keys()
    at = int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": "api://default",
        "iat": at,
        "exp": at + HOURS * 3600,
        "sub": "billing",
        "scp": HELD,
    }
    text = jwt.encode(claims, private, "RS256", headers={"kid": "bench"})
    algorithm = jwt.algorithms.RSAAlgorithm
    key = json.loads(algorithm.to_jwk(algorithm(algorithm.SHA256).prepare_key(public)))
    key_set = {"keys": [{**key, "kid": "bench", "alg": "RS256", "use": "sig"}]}

    class AtHand(RequestExecutor):
        async def fire_request(self, uri: str, **params: Any) -> Any:
            return key_set

        def fire_request_sync(self, uri: str, **params: Any) -> Any:
            return key_set

    return text, AtHand


@cache
def _rsa_keys() -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.PEM, info)
    return private.decode(), public.decode()


MAKERS: dict[str, Maker] = {
    "Flask-HTTPAuth": http_auth_dict,
    "Flask-HTTPAuth with itsdangerous": http_auth_signed,
    "Flask-JWT-Extended": jwt_extended,
    "Flask-JWT-Extended with RS256": jwt_extended_rs256,
    "Authlib": authlib,
    "Authlib with RS256": authlib_rs256,
    "okta-jwt-verifier": okta_jwt_verifier,
}
