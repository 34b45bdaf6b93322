"""Every way of forging or breaking another issuer's token, as data: each is refused wherever it is sent."""

from __future__ import annotations

import hmac
import json
import warnings
from collections.abc import Callable
from typing import Any

from joserfc.jwk import RSAKey

from .idp import AUDIENCE, EC_KEY, RSA_KEYS, Idp, b64, by_hand


def signed_with_the_public_key(idp: Idp) -> str:
    pem = idp.keys["one"].as_pem(private=False)  # type: ignore[attr-defined]
    signed = f"{b64({'alg': 'HS256', 'kid': 'one'})}.{b64(idp.claims)}"
    return f"{signed}.{b64(hmac.digest(pem, signed.encode(), 'sha256'))}"


def unsigned(idp: Idp, alg: str = "none") -> str:
    return f"{b64({'alg': alg, 'kid': 'one'})}.{b64(idp.claims)}."


def with_claims_changed(idp: Idp) -> str:
    header, _, signature = idp.token().split(".")
    return f"{header}.{b64({**idp.claims, 'scp': ['users:manage']})}.{signature}"


def own_key_in_the_header(idp: Idp, **more: Any) -> str:
    thief = RSA_KEYS[1]
    return idp.token(key=thief, header={"jwk": thief.as_dict(private=False), **more})


FORGERIES: dict[str, Callable[[Idp], str]] = {
    "none": unsigned,
    "None": lambda idp: unsigned(idp, "None"),
    "no signature": lambda idp: unsigned(idp, "RS256"),
    "HS256 with the public key": signed_with_the_public_key,
    "an algorithm that is not allowed": lambda idp: idp.token(header={"alg": "RS384"}),
    "another algorithm of the same key": lambda idp: idp.token(header={"alg": "PS256"}),
    "the algorithm of another key": lambda idp: idp.token(key=EC_KEY),
    "no algorithm": lambda idp: by_hand(idp, {"kid": "one"}),
    "an algorithm that is no text": lambda idp: by_hand(idp, {"alg": ["RS256"], "kid": "one"}),
    "a changed claim": with_claims_changed,
    "another key's signature": lambda idp: idp.token(key=RSA_KEYS[1]),
    "another key of the set": lambda idp: idp.token(kid="one", key=idp.keys["two"]),
    "an unknown kid": lambda idp: idp.token(kid="three", key=RSA_KEYS[1]),
    "no kid": lambda idp: idp.token(kid=None),
    "a kid that is no text": lambda idp: by_hand(idp, {"alg": "RS256", "kid": 1}),
    "a key of 1024 bits": lambda idp: idp.token(kid="weak"),
    "a key that is for encryption": lambda idp: idp.token(kid="enc"),
    "an embedded key": own_key_in_the_header,
    "an embedded key beside a good signature": lambda idp: idp.token(
        header={"jwk": idp.keys["one"].as_dict(private=False)}
    ),
    "a URL of keys": lambda idp: idp.token(header={"jku": idp.issuer + "/v1/keys"}),
    "a URL of a certificate": lambda idp: idp.token(header={"x5u": idp.issuer + "/cert"}),
    "a certificate": lambda idp: idp.token(header={"x5c": ["AAAA"]}),
    "another issuer": lambda idp: idp.token(iss="https://other.okta.com/oauth2/default"),
    "nearly the issuer": lambda idp: idp.token(iss=idp.issuer + "/"),
    "no issuer": lambda idp: idp.token(iss=None),
    "an issuer that is a list": lambda idp: idp.token(iss=[idp.issuer]),
    "another audience": lambda idp: idp.token(aud="api://other"),
    "no audience": lambda idp: idp.token(aud=None),
    "audiences of which none is ours": lambda idp: idp.token(aud=["api://other", "api://directory/"]),
    "an audience that is no text": lambda idp: idp.token(aud=[AUDIENCE, 7]),
    "an audience that is an object": lambda idp: idp.token(aud={AUDIENCE: 1}),
    "no end": lambda idp: idp.token(exp=None),
    "an end that is a text": lambda idp: idp.token(exp=str(idp.at + 60)),
    "an end that is true": lambda idp: idp.token(exp=True),
    "an end that is endless": lambda idp: idp.token(exp=1e300),
    "ended": lambda idp: idp.token(exp=idp.at - 600),
    "not valid yet": lambda idp: idp.token(nbf=idp.at + 600),
    "issued in the future": lambda idp: idp.token(iat=idp.at + 600),
    "a beginning that is a text": lambda idp: idp.token(nbf="0"),
    "crit": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "crit": ["exp"], "exp": idp.at + 60}),
    "an unencoded payload": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "b64": False}),
    "bound to a key": lambda idp: idp.token(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
    "an ID token by its typ": lambda idp: idp.token(header={"typ": "id+jwt"}),
    "an ID token by its claim": lambda idp: idp.token(typ="ID"),
    "an ID token by its use": lambda idp: idp.token(token_use="id"),
    "a refresh token by its claim": lambda idp: idp.token(typ="Refresh"),
    "a refresh token by its type": lambda idp: idp.token(token_type="refresh"),
    "a type that is a list": lambda idp: idp.token(token_type=["Bearer"]),
    "a logout token": lambda idp: idp.token(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "a DPoP proof": lambda idp: idp.token(header={"typ": "dpop+jwt"}),
    "a typ that is no text": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "typ": 1}),
    "a typ that is null": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "typ": None}),
    "a content type that is no text": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "cty": 1}),
    "a thumbprint that is no text": lambda idp: by_hand(idp, {"alg": "RS256", "kid": "one", "x5t#S256": ["A"]}),
    "no client": lambda idp: idp.token(cid=None),
    "an empty client": lambda idp: idp.token(cid=""),
    "a client that is no text": lambda idp: idp.token(cid=7),
    "a client of several lines": lambda idp: idp.token(cid="a\nb"),
    "a client that looks like a token of the service": lambda idp: idp.token(cid=f"tg_{'0' * 16}_{'x' * 75}"),
    "a jti that looks like one": lambda idp: idp.token(jti=f"{'0' * 16}_{'x' * 75}"),
    "two clients": lambda idp: idp.token(client_id="another"),
    "a jti that is no text": lambda idp: idp.token(jti=7),
    "a subject that is no text": lambda idp: idp.token(sub=7),
    "scopes that are no texts": lambda idp: idp.token(scp=[7]),
    "scopes that are an object": lambda idp: idp.token(scp={"users:read": True}),
    "scopes that contradict one another": lambda idp: idp.token(scope="users:read users:manage"),
    "more scopes in one claim than in the other": lambda idp: idp.token(scope="", scp=["users:manage"]),
    "scopes in one of two claims that are no text": lambda idp: idp.token(scope=7),
    "a claim twice": lambda idp: idp.signed(json.dumps(idp.claims)[:-1].encode() + b', "cid": "0oa1nightly"}'),
    "a header twice": lambda idp: by_hand(idp, b'{"alg":"none","alg":"RS256","kid":"one"}'),
    "claims that are a list": lambda idp: idp.signed(b"[]"),
    "claims that are no JSON": lambda idp: idp.signed(b"{NaN}"),
    "a number that is none": lambda idp: idp.signed(json.dumps({**idp.claims, "x": float("nan")}).encode()),
    "very many digits": lambda idp: idp.signed(json.dumps(idp.claims)[:-1].encode() + b', "x": ' + b"9" * 4400 + b"}"),
    "very deep claims": lambda idp: idp.signed(b'{"x":' * 900 + b"1" + b"}" * 900),
    "a subject of half a character": lambda idp: idp.token(sub="a\ud800"),
    "half a character somewhere": lambda idp: idp.token(x=[{"\udfff": 1}]),
    "claims that are not UTF-8": lambda idp: idp.signed(b"\xff\xfe"),
    "two parts": lambda idp: ".".join(idp.token().split(".")[:2]),
    "four parts": lambda idp: idp.token() + ".AAAA",
    "five parts": lambda idp: "a.b.c.d.e",
    "encrypted": lambda idp: f"{b64({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.a.b.c.d",
    "another text for the same signature": lambda idp: _respelt(idp.token()),
    "padding": lambda idp: idp.token() + "=",
}


def publish_more_keys(idp: Idp) -> None:
    """Publish the keys that some forgeries are signed with: of another type, too weak, and for another use."""
    with warnings.catch_warnings(action="ignore"):
        weak = RSAKey.generate_key(1024)
    idp.keys |= {"two": EC_KEY, "weak": weak, "enc": RSA_KEYS[1]}
    published = idp.jwks()
    published["keys"][-1]["use"] = "enc"
    idp.jwks = lambda: published  # type: ignore[method-assign]


def _respelt(text: str) -> str:
    """Return another base64 spelling of the same bytes, for a decoder that ignores the unused bits at the end."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text.split(".")[2]) % 4 == 2
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
