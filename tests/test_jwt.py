"""Other issuers' access tokens beside the service's own: which are let in, and every kind of forgery that is not."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey
from werkzeug.test import Client as WsgiClient

from tokenguard import (
    AuthError,
    AuthScheme,
    Client,
    Conditions,
    ConfigurationError,
    Guard,
    Identity,
    InsufficientScope,
    InvalidToken,
    Issuer,
    MemoryStore,
    NetworkNotAllowed,
    RequestGuard,
    Requirement,
    ScopeCatalog,
    Scopes,
    Secret,
    SigningKeys,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenCache,
    TokenFormat,
    UsageLog,
)
from tokenguard.config import Options
from tokenguard.foreign import register_client, revoke_token
from tokenguard.hooks import Hooks
from tokenguard.identity import Claims
from tokenguard.issuers.jwks import MAX_WAITING, KeysUnavailable, PublishedKeys, decoded, fetch, metadata_urls
from tokenguard.issuers.jwt import JWTSource, TrustedIssuer
from tokenguard.outcome import LET_IN, OUTCOME
from tokenguard.prune import prune
from tokenguard.revocation import revocation_app
from tokenguard.sources import local_client_id, local_token_id
from tokenguard.store import Event, EventFilter, ForeignRecord, Record
from tokenguard.verified import Verified

from .canaries import raised, shown
from .child import in_child
from .conftest import KEY, CountingStore, Interrupted, StoppedClock, interrupt_while_waiting, run_together
from .forgeries import FORGERIES, publish_more_keys, with_claims_changed
from .idp import AT, AUDIENCE, EC_KEY, RSA_KEYS, Idp, b64, by_hand
from .services.common import CATALOG

READ = Requirement(("users:read",))


class Store(CountingStore):
    """Counts and fails for other issuers' tokens too."""

    #: What happens, once, while a token is being looked up.
    meanwhile: Callable[[], object] = staticmethod(int)

    def find(self, token_id: str) -> Record | None:
        if self.down:
            raise StoreUnavailable("the database cannot be used")
        return super().find(token_id)

    def find_foreign(self, token_id: str, client_id: str) -> ForeignRecord:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("the database cannot be used")
        found = super().find_foreign(token_id, client_id)
        meanwhile, self.meanwhile = self.meanwhile, int
        meanwhile()
        return found


@dataclass
class Service:
    """A guard that accepts its own tokens and those of one issuer."""

    idp: Idp = field(default_factory=lambda: Idp("https://org.okta.com"))
    options: dict[str, Any] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    clock: StoppedClock = field(default_factory=StoppedClock)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        trusted = TrustedIssuer(self.idp.issuer, AUDIENCE, **self.options)
        self.source = JWTSource([trusted], fetch=self.idp.fetch, monotonic=lambda: self.seconds)
        self.tokens, self.catalog = TokenFormat(SigningKeys(KEY)), ScopeCatalog(CATALOG)
        self.usage = UsageLog(self.store, clock=self.clock)
        self.guard = self.another_process()
        self.issuer = Issuer(self.store, self.tokens, catalog=self.catalog, clock=self.clock)

    def another_process(self) -> Guard:
        cache = TokenCache(self.store, monotonic=lambda: self.seconds)
        return Guard(
            self.store,
            self.tokens,
            catalog=self.catalog,
            clock=self.clock,
            usage=self.usage,
            cache=cache,
            sources=[self.source],
        )

    def who(self, text: str) -> Identity:
        return self.guard.authenticate(Secret(text), "192.0.2.1")

    def register(self, **options: Any) -> Client:
        return register_client(self.issuer, self.idp.issuer, "0oa1nightly", actor="tests", **options)

    def goes_by(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.seconds += seconds

    def revoke(self) -> None:
        revoke_token(self.issuer, self.idp.issuer, "0oa1nightly", self.idp.claims["jti"], actor="tests")

    def refusal(self, text: str) -> str:
        with pytest.raises(InvalidToken) as refused:
            self.who(text)
        assert refused.value.detail == InvalidToken.detail
        return refused.value.reason


@pytest.fixture
def service() -> Service:
    return Service()


def test_a_token_of_okta_is_its_application(service: Service) -> None:
    identity = service.who(service.idp.token())
    assert (identity.client_id, identity.client_name) == ("0oa1nightly", "0oa1nightly")
    assert identity.issuer == "https://org.okta.com/oauth2/default"
    assert identity.token_id == service.idp.claims["jti"]
    assert identity.subject == "0oa1nightly"
    assert identity.scopes == Scopes(["users:read"])


def test_a_source_that_logs_what_it_is_given_shows_no_text(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    verify, shown = service.source.verify, []
    monkeypatch.setattr(
        service.source,
        "verify",
        lambda credential, *rest: (shown.append(str(credential)), verify(credential, *rest))[1],
    )
    text = service.idp.token()
    found = service.guard.try_verify(text, service.guard.key(text))
    assert found.identity.client_id == "0oa1nightly"
    assert shown == ["<credential, not shown>"]


def test_own_tokens_and_others_go_beside_each_other(service: Service) -> None:
    service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue("billing", "users:read", actor="tests")
    for _ in range(2):
        assert service.who(own.text.reveal()).issuer == "tokenguard"
        assert service.who(service.idp.token()).issuer == service.idp.issuer
    identity = service.who(own.text.reveal())
    assert identity.subject is None
    assert len(identity.claims) == 0


@pytest.mark.parametrize(
    ("claims", "client"),
    [
        ({"cid": None, "client_id": "abc"}, "abc"),
        ({"cid": None, "azp": "abc"}, "abc"),
        ({"cid": None, "client_id": "abc", "azp": "abc"}, "abc"),
    ],
)
def test_what_other_issuers_call_a_client(service: Service, claims: dict[str, Any], client: str) -> None:
    assert service.who(service.idp.token(**claims)).client_id == client


@pytest.mark.parametrize(
    "claims", [{"typ": "Bearer"}, {"typ": "at+jwt"}, {"token_use": "access"}, {"token_type": "access"}]
)
def test_what_other_issuers_call_an_access_token(service: Service, claims: dict[str, str]) -> None:
    assert service.who(service.idp.token(**claims))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scp": ["users:manage"]}, "users:manage users:read"),
        ({"scp": None, "scope": "users:read groups:read"}, "users:read groups:read"),
        ({"scp": "users:read"}, "users:read"),
        ({"scp": ["users:read", "groups:read"], "scope": "groups:read users:read"}, "users:read groups:read"),
        ({"scp": [], "scope": ""}, ""),
        ({"scp": ["openid", "users:read"]}, "users:read"),
        ({"scp": ["*", "users.*", "users:*"]}, ""),
        ({"scp": []}, ""),
        ({"scp": None}, ""),
    ],
)
def test_scopes_that_the_catalogue_has_stand_for_themselves(
    service: Service, claims: dict[str, Any], scopes: str
) -> None:
    identity = service.who(service.idp.token(**claims))
    assert identity.scopes == Scopes.parse(scopes)
    if not scopes:
        with pytest.raises(InsufficientScope):
            service.guard.authorize(identity, READ)


def test_scopes_are_mapped_as_the_operator_says_and_no_others() -> None:
    mapped = {"okta.users.manage": ["users:manage"], "okta.groups.read": "groups:read"}
    service = Service(options={"scopes": mapped})
    text = service.idp.token(scp=["okta.users.manage", "users:read", "groups:read"])
    assert service.who(text).scopes == Scopes(["users:manage", "users:read"])


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scp": "users:read", "roles": ["groups:read"]}, "users:read"),
        ({"scp": None, "roles": ["groups:read", "*"]}, "groups:read"),
        ({"scp": [], "roles": ["groups:read"]}, ""),
        ({"scp": None, "scope": "users:read", "roles": "groups:read"}, "groups:read"),
        ({"scp": None, "scope": "users:read"}, ""),
    ],
)
def test_scopes_are_named_by_the_first_claim_of_those_that_the_operator_lists(
    claims: dict[str, Any], scopes: str
) -> None:
    service = Service(options={"scope_claims": ["scp", "roles"]})
    assert service.who(service.idp.token(**claims)).scopes == Scopes.parse(scopes)


def test_scopes_in_a_claim_that_is_not_what_it_should_be() -> None:
    service = Service(options={"scope_claims": "permissions"})
    assert service.refusal(service.idp.token(permissions={"users:read": True})) == "the scopes are malformed"
    with pytest.raises(ConfigurationError, match=r"the scope_claims must be a string or a list of strings, not \[\]"):
        Service(options={"scope_claims": []})


# What docs/issuers.md says of each issuer. None leaves out what Okta's tokens have.
NOT_OKTA = dict.fromkeys(("ver", "cid", "scp", "jti"))
USER = {"sub": "9f1c", "azp": "app"}
AUTH0 = {**NOT_OKTA, **USER, "aud": [AUDIENCE, "https://example.eu.auth0.com/userinfo"], "scope": "openid users:read"}
KEYCLOAK = {**NOT_OKTA, "azp": "app", "client_id": "app", "typ": "Bearer", "acr": "1", "scope": "email users:read"}
ENTRA = {**NOT_OKTA, **USER, "ver": "2.0", "azpacr": "1", "oid": "9f1c", "tid": "72f9", "uti": "u", "nbf": AT - 60}
COGNITO = {**NOT_OKTA, "client_id": "app", "token_use": "access", "version": 2, "scope": "directory/read"}


@pytest.mark.parametrize(
    ("claims", "options", "scopes"),
    [
        (AUTH0, {}, "users:read"),
        ({**AUTH0, "permissions": ["groups:read"]}, {"scope_claims": "permissions"}, "groups:read"),
        ({**AUTH0, "azp": None, "client_id": "app", "jti": "73Wa"}, {"typ": "at+jwt"}, "users:read"),
        ({**KEYCLOAK, "aud": [AUDIENCE, "account"]}, {}, "users:read"),
        ({**ENTRA, "scp": "users:read", "roles": ["groups:read"]}, {"scope_claims": ["scp", "roles"]}, "users:read"),
        ({**ENTRA, "roles": ["groups:read"]}, {"scope_claims": ["scp", "roles"]}, "groups:read"),
        ({**ENTRA, "roles": ["groups:read"]}, {}, ""),
        (COGNITO, {"scopes": {"directory/read": "users:read"}}, "users:read"),
    ],
)
def test_common_issuers(claims: dict[str, Any], options: dict[str, Any], scopes: str) -> None:
    service = Service(options=options)
    identity = service.who(service.idp.token(header={"typ": options.get("typ", "JWT")}, **claims))
    assert (identity.client_id, identity.scopes) == ("app", Scopes.parse(scopes))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({**KEYCLOAK, "aud": "account"}, "for another audience"),
        ({**ENTRA, "ver": "1.0", "azp": None, "appid": "app"}, "names no client"),
        ({**COGNITO, "aud": None}, "for another audience"),
    ],
)
def test_common_issuers_that_are_not_set_up_for_it(service: Service, claims: dict[str, Any], reason: str) -> None:
    assert service.refusal(service.idp.token(**claims)) == reason


def test_claims_can_be_read_and_not_changed(service: Service) -> None:
    text = service.idp.token(groups=["a", "b"], address={"country": "AT"})
    identity = service.who(text)
    assert identity.claims["groups"] == ("a", "b")
    assert identity.claims["address"]["country"] == "AT"
    with pytest.raises(TypeError):
        identity.claims["groups"] = ()  # type: ignore[index]
    with pytest.raises(TypeError):
        identity.claims["address"]["country"] = "DE"
    for part in text.split("."):
        assert part not in repr(identity) + repr(identity.claims) + repr(dict(identity.claims))
    hash(identity)


def test_claims_are_the_same_however_they_came_and_whatever_becomes_of_it(service: Service) -> None:
    said: dict[str, Any] = {"groups": ["a", ["b"]], "address": {"lines": ["c"]}}
    read = service.who(service.idp.token(**said)).claims
    claims = Claims({name: said.get(name, read[name]) for name in read})
    before = hash(claims)
    said["groups"][1].append("d")
    said["address"]["lines"].append("d")
    assert (claims["groups"], claims["address"]["lines"]) == (("a", ("b",)), ("c",))
    assert (claims, hash(claims)) == (read, hash(read)) == (Claims(claims), before)


def test_a_token_without_an_id_has_one_that_is_made_of_it(service: Service) -> None:
    one, other = service.idp.token(jti=None), service.idp.token(jti=None, exp=AT + 3601)
    assert service.who(one).token_id == service.who(one).token_id != service.who(other).token_id


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_and_broken_tokens_are_refused_and_ask_the_store_nothing(service: Service, forgery: str) -> None:
    idp = service.idp
    publish_more_keys(idp)
    service.refusal(FORGERIES[forgery](idp))
    assert service.store.asked == 0
    assert len(service.guard.cache) == 0
    assert service.who(idp.token()).client_id == "0oa1nightly"


def test_what_is_signed_by_hand_is_good_but_for_what_is_wrong_with_it(service: Service) -> None:
    assert service.who(by_hand(service.idp, {"alg": "RS256", "kid": "one", "typ": "JWT", "x": 1}))


def test_what_the_library_cannot_verify_is_not_signed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(jws.JWSRegistry().get_alg("RS256")), "verify", lambda *_: 1 // 0)
    assert service.refusal(service.idp.token()) == "the signature does not match"


def test_every_truncation_is_refused(service: Service) -> None:
    text = service.idp.token()
    for length in range(0, len(text), 7):
        service.refusal(text[:length])
    for length in (1, 2, 3, 4):
        service.refusal(text[:-length])


def test_what_is_too_long_is_not_looked_at(service: Service) -> None:
    text = service.idp.token(x="y" * 8192)
    assert service.refusal(text) == "not a token of this service"
    assert service.idp.asked == []


@given(st.text("AQgwEIMUYcxyz019-_+/= \n\u00e9", max_size=9))
def test_a_text_in_base64url_is_the_one_text_for_what_it_stands_for(text: str) -> None:
    try:
        meant = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        meant = b"?"
    if base64.urlsafe_b64encode(meant).rstrip(b"=").decode() == text:
        assert decoded(text) == meant
    else:
        with pytest.raises(ValueError, match="base64url"):
            decoded(text)


@pytest.mark.parametrize("text", ["é.a.b", "\ud800.a.b", "\ud800" * 8193, "\ud800", ""])
def test_what_is_no_ascii_is_no_token(service: Service, text: str) -> None:
    assert service.refusal(text) == "not a token of this service"
    assert service.idp.asked == []


def test_the_edges_of_the_leeway(service: Service) -> None:
    assert service.who(service.idp.token(exp=AT - 59, nbf=AT + 60, iat=AT + 60))
    for beyond in ({"exp": AT - 60}, {"nbf": AT + 61}, {"iat": AT + 61}):
        service.refusal(service.idp.token(**beyond))
    assert len(service.guard.cache) == 0  # and it is not cached beyond its end
    # Even then, a request is verified only once.
    requests = RequestGuard(service.guard, AuthScheme())
    assert requests.wave_through(environ(service.idp.token(exp=AT - 59)), None) is not None
    strict = Service(options={"leeway": 0})
    assert strict.refusal(strict.idp.token(exp=AT)) == "expired"
    assert strict.refusal(strict.idp.token(exp=None)) == "without an end"


def test_what_is_remembered_ends_with_the_token(service: Service) -> None:
    text = service.idp.token(exp=AT + 10)
    service.who(text)
    service.clock.move(10 + 60)
    assert service.refusal(text) == "expired"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_a_strict_issuer_is_asked_for_the_typ(typ: str) -> None:
    service = Service(options={"typ": "at+jwt"})
    assert service.who(service.idp.token(header={"typ": typ}))
    assert service.refusal(service.idp.token()) == "the typ is not that of an access token"
    service.refusal(service.idp.token(header={"typ": "JWT"}))


def test_the_same_header_is_judged_for_each_issuer_anew(service: Service) -> None:
    strict = Service(idp=Idp("https://strict.okta.com"), options={"typ": "at+jwt"})
    for _ in range(2):
        assert service.who(service.idp.token())
        assert strict.refusal(strict.idp.token()) == "the typ is not that of an access token"


def test_a_key_with_an_algorithm_of_its_own_is_good_for_no_other() -> None:
    service = Service(options={"algorithms": ["RS256", "RS384"]})
    published = service.idp.jwks()
    published["keys"][0]["alg"] = "RS384"
    service.idp.jwks = lambda: published  # type: ignore[method-assign]
    service.refusal(service.idp.token())
    assert service.who(service.idp.token(header={"alg": "RS384"}))


def test_elliptic_curves(service: Service) -> None:
    service.idp.keys = {"one": EC_KEY}
    assert service.who(service.idp.token())


def test_one_key_without_an_id_is_enough(service: Service) -> None:
    published = service.idp.jwks()
    del published["keys"][0]["kid"]
    service.idp.jwks = lambda: published  # type: ignore[method-assign]
    assert service.who(service.idp.token(kid=None))


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # the warning would become an error
def test_a_key_that_is_too_short_verifies_nothing(service: Service) -> None:
    service.idp.keys["weak"] = RSAKey.generate_key(1024)
    assert service.refusal(service.idp.token(kid="weak")) == "the issuer has no such key"


@pytest.mark.parametrize("more", [{"key_ops": ["encrypt"]}, {"key_ops": "verify"}, {"d": "AAAA"}])
def test_a_key_that_is_not_for_verifying_verifies_nothing(service: Service, more: dict[str, Any]) -> None:
    (published,) = service.idp.jwks()["keys"]
    service.idp.jwks = lambda: {"keys": [published | more]}  # type: ignore[method-assign]
    assert service.refusal(service.idp.token()) == "the issuer has no such key"


@pytest.mark.parametrize("more", [{}, {"key_ops": ["verify"]}])
def test_a_key_may_leave_out_what_it_is_for(service: Service, more: dict[str, Any]) -> None:
    (published,) = service.idp.jwks()["keys"]
    del published["use"]
    service.idp.jwks = lambda: {"keys": [published | more]}  # type: ignore[method-assign]
    assert service.who(service.idp.token())


@pytest.mark.parametrize("entry", [None, "x", EC_KEY.as_dict(private=False) | {"kid": ["two"]}])
def test_what_is_no_key_does_no_harm_to_the_others(service: Service, entry: Any) -> None:
    published = {"keys": [entry, *service.idp.jwks()["keys"]]}
    service.idp.jwks = lambda: published  # type: ignore[method-assign]
    assert service.who(service.idp.token())


def test_where_the_keys_are_can_be_configured_and_then_no_metadata_is_asked_for() -> None:
    service = Service(options={"jwks_url": "https://org.okta.com/keys"})
    service.idp.documents.clear()
    service.idp.keys_path = "/keys"
    assert service.who(service.idp.token())
    assert service.idp.asked == ["/keys"]


# Keys that come and go


@pytest.mark.parametrize("known", [True, False])
def test_a_repeated_token_asks_nobody(service: Service, known: bool) -> None:
    if known:
        service.register()
    text = service.idp.token()
    service.who(text)
    asked, service.idp.asked = service.store.asked, []
    for _ in range(3):
        service.who(text)
    assert service.store.asked == asked
    assert service.idp.asked == []


def test_a_new_key_is_fetched_when_it_is_first_used(service: Service) -> None:
    service.who(service.idp.token())
    service.idp.keys["two"] = RSA_KEYS[1]
    service.seconds = 61
    assert service.who(service.idp.token(kid="two", jti="2"))


def with_a_new_key(service: Service) -> PublishedKeys:
    """Publish another key, "two", at a time when it may be fetched as soon as it is used."""
    service.who(service.idp.token())
    service.idp.keys["two"] = RSA_KEYS[1]
    service.seconds = 61
    return service.source._issuers[service.idp.issuer][1]


def test_a_new_key_is_known_though_another_threads_fetch_ends_just_now(service: Service) -> None:
    keys = with_a_new_key(service)

    class Held:
        """A lock that another thread holds until it is asked about."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            return False

        def locked(self) -> bool:
            keys._keys = keys._published()
            return False

    keys._fetching = Held()  # type: ignore[assignment]
    assert service.who(service.idp.token(kid="two", jti="2"))


def test_a_fetch_that_was_interrupted_calls_no_key_unknown(service: Service) -> None:
    keys = with_a_new_key(service)

    def interrupted(_: str) -> None:
        raise Interrupted

    keys._fetch = interrupted
    with pytest.raises(Interrupted):
        service.who(service.idp.token(kid="two", jti="2"))
    keys._fetch = service.idp.fetch
    assert service.who(service.idp.token(kid="two", jti="2"))


def test_a_process_that_was_forked_during_a_fetch_calls_no_key_unknown(service: Service) -> None:
    keys = with_a_new_key(service)
    found = []

    def forks(url: str) -> dict[str, Any] | None:
        keys._fetch = service.idp.fetch
        found.append(in_child(lambda: service.who(service.idp.token(kid="two", jti="2")).token_id))
        return service.idp.fetch(url)

    keys._fetch = forks
    assert service.who(service.idp.token(kid="two", jti="3"))
    assert found == ["2"]


def test_a_flood_of_unknown_keys_costs_a_fetch_a_minute(service: Service) -> None:
    service.who(service.idp.token())
    service.idp.asked.clear()
    for number in range(50):
        service.refusal(service.idp.token(kid=f"x{number}", key=RSA_KEYS[1]))
    assert service.idp.asked == []
    for seconds, fetches in ((59, 0), (60, 1)):
        service.seconds = seconds
        for number in range(50):
            service.refusal(service.idp.token(kid=f"x{number}", key=RSA_KEYS[1]))
        assert service.idp.asked.count(service.idp.keys_path) == fetches


def test_a_key_that_is_withdrawn_verifies_nothing_after_the_maximum_age(service: Service) -> None:
    service.who(service.idp.token())
    service.idp.keys = {"two": RSA_KEYS[1]}
    service.seconds = 3601
    service.refusal(service.idp.token(jti="2", key=RSA_KEYS[0]))


def test_what_a_withdrawn_key_has_signed_is_remembered_for_the_maximum_age_at_most(service: Service) -> None:
    service.who(service.idp.token())
    service.goes_by(3599)
    forever = service.idp.token(exp=AT + 50 * 365 * 86_400)
    service.who(forever)
    service.idp.keys = {"two": RSA_KEYS[1]}
    service.goes_by(3599)
    assert service.who(forever)
    service.goes_by(1)
    assert service.refusal(forever) == "the issuer has no such key"


def test_who_is_verified_anew_goes_on(service: Service) -> None:
    text = service.idp.token(exp=AT + 86_400)
    for _ in range(3):
        asked = service.store.asked
        for _ in range(3):
            assert service.who(text)
        assert service.store.asked == asked + 1
        service.goes_by(3600)


@pytest.mark.parametrize("left", [[], [{"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "11qYAYKxCrfVS_7TyWQHOg"}]])
def test_a_set_without_a_key_that_can_be_used_is_an_answer_and_no_outage(
    service: Service, left: list[dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    service.who(service.idp.token())
    service.idp.jwks = lambda: {"keys": left}  # type: ignore[method-assign]
    service.goes_by(3600 + 1)
    assert service.refusal(service.idp.token(jti="2", exp=AT + 86_400)) == "the issuer has no such key"
    (line,) = caplog.messages
    assert line.startswith(f"no token of {service.idp.issuer} is let in: none of its keys can be used")
    del service.idp.jwks
    service.goes_by(60)
    assert service.who(service.idp.token(jti="2", exp=AT + 86_400))


def test_an_outage_is_bridged_for_a_day_and_then_nobody_says_yes_or_no(service: Service) -> None:
    service.who(service.idp.token())
    service.idp.broken = 500
    service.seconds = 3601
    assert service.who(service.idp.token(jti="2"))
    with pytest.raises(TemporarilyUnavailable):  # the key may be a new one
        service.who(service.idp.token(kid="new", key=RSA_KEYS[1]))
    service.seconds = 3600 + 86_400 + 1
    with pytest.raises(TemporarilyUnavailable):
        service.who(service.idp.token(jti="3"))
    service.idp.broken = None
    service.seconds += 10
    assert service.who(service.idp.token(jti="3"))


@pytest.mark.parametrize("broken", [503, b"no JSON"])
def test_an_issuer_that_is_away_is_asked_every_ten_seconds(service: Service, broken: int | bytes) -> None:
    service.idp.broken = broken
    for _ in range(5):
        with pytest.raises(TemporarilyUnavailable):
            service.who(service.idp.token())
    assert len(service.idp.asked) == 1
    service.idp.broken = None
    service.seconds = 10
    assert service.who(service.idp.token())


def test_an_unknown_key_of_an_issuer_that_was_away_is_asked_for_after_ten_seconds(service: Service) -> None:
    service.who(service.idp.token())
    service.idp.keys["two"] = RSA_KEYS[1]
    service.idp.broken, service.seconds = 503, 61
    new = service.idp.token(kid="two", jti="2")
    service.idp.asked.clear()
    for _ in range(5):
        with pytest.raises(TemporarilyUnavailable):
            service.who(new)
    assert len(service.idp.asked) == 1
    service.idp.broken, service.seconds = None, 71
    assert service.who(new)


def test_one_thread_fetches_and_the_others_go_on(service: Service) -> None:
    service.who(service.idp.token())
    service.seconds = 3601
    found: list[str] = []
    plain = service.idp.fetch

    def slow(url: str) -> dict[str, Any] | None:
        if not found:  # while this one waits, another thread is served
            found.append("")
            run_together([lambda: found.append(service.who(service.idp.token(jti="2")).token_id)])
        return plain(url)

    service.source._issuers[service.idp.issuer][1]._fetch = slow
    service.who(service.idp.token(jti="3"))
    assert found == ["", "2"]


class AnnouncedLock:
    """A lock that reports when a thread waits for it."""

    def __init__(self) -> None:
        self._lock, self.is_waited_for = threading.Lock(), threading.Event()
        self.locked, self.release = self._lock.locked, self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking and timeout and self.locked():
            self.is_waited_for.set()
        return self._lock.acquire(blocking, timeout)


def test_a_thread_that_waited_does_not_fetch_again(service: Service) -> None:
    keys = service.source._issuers[service.idp.issuer][1]
    keys._fetching = lock = AnnouncedLock()  # type: ignore[assignment]
    late = threading.Thread(target=lambda: service.who(service.idp.token(jti="late")), daemon=True)
    plain = service.idp.fetch

    def slow(url: str) -> dict[str, Any] | None:
        service.seconds += 1
        if late.ident is None:
            late.start()
            assert lock.is_waited_for.wait(10)
        return plain(url)

    keys._fetch = slow
    service.who(service.idp.token())
    late.join(10)
    assert not late.is_alive()
    assert service.idp.asked.count(service.idp.keys_path) == 1


def test_what_was_interrupted_while_another_fetched_keeps_nobody_from_fetching(service: Service) -> None:
    keys = service.source._issuers[service.idp.issuer][1]
    interrupt_while_waiting(keys._fetching, lambda: service.who(service.idp.token()))
    assert not keys._fetching.locked()
    assert service.who(service.idp.token()).issuer == service.idp.issuer


def test_only_a_few_wait_for_the_first_fetch_and_own_tokens_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenguard.issuers.jwks.TIMEOUT", 60)
    service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue("billing", "users:read", actor="tests").text.reveal()
    keys = service.source._issuers[service.idp.issuer][1]
    announced = threading.Semaphore(0)
    keys._fetching = lock = AnnouncedLock()  # type: ignore[assignment]
    lock.is_waited_for.set = announced.release  # type: ignore[method-assign]
    found: list[str] = []

    def wait(number: int) -> None:
        found.append(service.who(service.idp.token(jti=f"waiting {number}")).token_id)

    waiting = [threading.Thread(target=wait, args=[number], daemon=True) for number in range(MAX_WAITING)]
    plain = service.idp.fetch

    def slow(url: str) -> dict[str, Any] | None:
        if waiting[0].ident is None:
            for thread in waiting:
                thread.start()
                assert announced.acquire(timeout=10)
            forged = f"{b64({'alg': 'RS256', 'kid': 'one'})}.{b64({'iss': service.idp.issuer})}.{b64(b'x' * 256)}"
            for _ in range(20):
                with pytest.raises(TemporarilyUnavailable):
                    service.who(forged)
            assert not announced.acquire(blocking=False)  # none of them has waited
            assert service.who(own).client_name == "billing"
        return plain(url)

    keys._fetch = slow
    service.who(service.idp.token())
    for thread in waiting:
        thread.join(10)
    assert sorted(found) == [f"waiting {number}" for number in range(MAX_WAITING)]


@pytest.mark.parametrize(
    "lie",
    [
        {"issuer": "https://other.okta.com/oauth2/default"},
        {"issuer": None},
        {"jwks_uri": "http://org.okta.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://org.okta.com/keys\r\nX: y"},
        {"jwks_uri": 7},
    ],
)
def test_metadata_that_lies_is_not_believed(service: Service, lie: dict[str, Any]) -> None:
    service.idp.documents["/oauth2/default/.well-known/oauth-authorization-server"] |= lie
    with pytest.raises(TemporarilyUnavailable):
        service.who(service.idp.token())
    assert service.idp.keys_path not in service.idp.asked


def test_metadata_of_openid_connect_will_do(service: Service) -> None:
    documents = service.idp.documents
    documents["/oauth2/default/.well-known/openid-configuration"] = documents.pop(next(iter(documents)))
    assert service.who(service.idp.token())
    assert list(metadata_urls("https://idp.example/a/"))[2] == (
        "https://idp.example/.well-known/oauth-authorization-server/a"
    )


# What is recorded here of others' clients and tokens


def test_a_client_that_is_disabled_here_is_refused_in_every_process_within_the_bound(service: Service) -> None:
    other = service.another_process()
    text = service.idp.token()
    client = register_client(service.issuer, service.idp.issuer, "0oa1nightly", name="nightly", actor="tests")
    assert service.who(text).client_name == "nightly"
    other.authenticate(Secret(text))
    assert client.id == local_client_id(service.idp.issuer, "0oa1nightly")
    with service.store.transaction():
        pass
    service.issuer.disable("nightly", actor="tests")
    assert service.refusal(text) == "client disabled"
    service.seconds = 1.1
    with pytest.raises(InvalidToken):
        other.authenticate(Secret(text))
    service.issuer.enable("nightly", actor="tests")
    assert service.who(text)


class Elsewhere(Store):
    """Announces no commit to this process, as if each was made in another one."""

    def __init__(self) -> None:
        super().__init__()
        self.committed.announce = lambda events: None  # type: ignore[method-assign]


def test_a_revocation_elsewhere_is_known_from_the_feed() -> None:
    service = Service(store=Elsewhere())
    text = service.idp.token()
    service.who(text)
    revoke_token(service.issuer, service.idp.issuer, "0oa1nightly", service.idp.claims["jti"], actor="tests")
    service.who(text)
    service.seconds = 0.6  # the feed is due
    assert service.refusal(text) == "revoked"


def test_the_first_change_that_there_ever_was_is_known_from_the_feed_too() -> None:
    service = Service(store=Elsewhere())
    text = service.idp.token()
    assert service.who(text).scopes == Scopes(["users:read"])
    service.register(scopes="groups:read")
    service.seconds = 0.6
    assert service.who(text).scopes == Scopes()


@pytest.mark.parametrize("before", [0, 1])
def test_the_first_changes_of_others_concern_nobody_else(before: int) -> None:
    service = Service(store=Elsewhere())
    for number in range(before):
        service.issuer.register(f"before {number}", "users:read", actor="tests")
    text = service.idp.token()
    service.who(text)
    service.seconds = 0.6
    service.who(text)  # now the newest change is known too
    asked = service.store.asked
    for number in range(2):
        service.issuer.register(f"after {number}", "users:read", actor="tests")
    service.seconds = 1.2
    assert service.who(text)
    assert service.store.asked == asked


def test_a_token_is_revoked_here_by_its_jti(service: Service) -> None:
    text, other = service.idp.token(), service.idp.token(jti="another")
    for known in (text, other):
        service.who(known)
    jti = service.idp.claims["jti"]
    revoke_token(service.issuer, service.idp.issuer, "0oa1nightly", jti, actor="tests", reason="leaked")
    assert service.refusal(text) == "revoked"
    assert service.who(other).scopes == Scopes(["users:read"])
    # Signed again, it is still the same token.
    assert service.refusal(service.idp.token(x=1)) == "revoked"
    event: Event = service.store.events(1)[0]
    assert (event.kind, event.data["reason"]) == ("token.revoked", [None, "leaked"])
    again = revoke_token(service.issuer, service.idp.issuer, "0oa1nightly", jti, actor="tests")
    assert again.revoked_at == AT * 1_000_000


def test_a_token_is_revoked_whose_client_was_known_before(service: Service) -> None:
    service.register()
    text, other = service.idp.token(), service.idp.token(jti="another")
    for known in (other, text):
        service.who(known)
    service.revoke()
    assert service.refusal(text) == "revoked"
    service.store.down = True
    assert service.who(other)  # only the revoked token was evicted


def test_the_refusal_names_whose_it_is_to_the_operator(service: Service) -> None:
    text = service.idp.token()
    service.revoke()
    with pytest.raises(InvalidToken, match="revoked") as refused:
        service.who(text)
    assert (refused.value.token_id, refused.value.client_id) == (service.idp.claims["jti"], "0oa1nightly")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": 7},
        {"aud": "api://other"},
        {"token_use": "id"},
        {"events": {}},
        {"cnf": {"jkt": "x"}},
        {"exp": AT - 60},
        {"nbf": AT + 61},
        {"iat": AT + 61},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_so_does_that_of_a_token_that_is_signed_and_not_for_us_now(service: Service, claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken) as refused:
        service.who(service.idp.token(**claims))
    error = refused.value
    whose = (service.idp.claims["jti"], "0oa1nightly", service.idp.issuer)
    assert (error.token_id, error.client_id, error.issuer) == whose


def test_a_refusal_tells_an_issuers_client_from_ours_of_the_same_id(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    service.register(conditions=Conditions.parse(["192.0.2.0/24"]))
    client = service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue(client.id, "users:read", actor="tests")
    names = {"jti": own.token.id, "cid": client.id}
    refused: list[AuthError] = []
    hooks = Hooks(refused=[lambda error, environ: refused.append(error)])
    requests, manage = RequestGuard(service.guard, AuthScheme(), hooks=hooks), Requirement(("users:manage",))
    elsewhere = {"REMOTE_ADDR": "198.51.100.1"}
    requests.decide(environ(service.idp.token(**names, exp=AT - 60)), READ)
    requests.decide(environ(service.idp.token(**names, scp=[])), READ)
    requests.decide(environ(service.idp.token(jti=own.token.id), **elsewhere), READ)
    revoke_token(service.issuer, service.idp.issuer, client.id, own.token.id, actor="tests")
    requests.decide(environ(service.idp.token(**names)), READ)
    requests.decide(environ(own.text.reveal()), manage)
    requests.decide(environ("nobody's"), READ)
    assert [error.issuer for error in refused] == [service.idp.issuer] * 4 + [None] * 2
    assert [error.token_id for error in refused] == [own.token.id] * 5 + [None]
    lines = [message.partition("(")[2] for message in caplog.messages if message.startswith("refused")]
    theirs = f"token {own.token.id}, client {{}} of {service.idp.issuer}, from '{{}}')"
    assert lines == [
        theirs.format(client.id, "192.0.2.1"),
        theirs.format(client.id, "192.0.2.1"),
        theirs.format("0oa1nightly", "198.51.100.1"),
        theirs.format(client.id, "192.0.2.1"),
        f"token {own.token.id}, client {client.id}, from '192.0.2.1')",
        "token -, client -, from '192.0.2.1')",
    ]


def test_a_revocation_while_a_token_is_being_verified_holds(service: Service) -> None:
    text = service.idp.token()
    service.store.meanwhile = service.revoke
    assert service.refusal(text) == "revoked"


@pytest.mark.parametrize("expires_at", [AT + 3600, AT - 59])
def test_a_snapshot_of_before_a_revocation_lets_nobody_in_once_that_is_known(service: Service, expires_at: int) -> None:
    text = service.idp.token(exp=expires_at)
    service.who(text)
    snapshot = service.store._data
    service.revoke()
    present, service.store._data = service.store._data, snapshot
    with pytest.raises(TemporarilyUnavailable) as refused:
        service.who(text)
    assert refused.value.token_id == service.idp.claims["jti"]
    service.store._data = present
    assert service.refusal(text) == "revoked"


def test_a_change_while_a_token_is_being_verified_is_read_once(service: Service) -> None:
    text = service.idp.token()
    service.store.meanwhile = lambda: service.issuer.register("other", "users:read", actor="tests")
    service.who(text)
    asked = service.store.asked
    assert service.who(text)
    assert service.store.asked == asked == 2


def test_a_client_that_is_registered_later_is_limited_from_then_on(service: Service) -> None:
    text = service.idp.token()
    assert service.who(text).scopes == Scopes(["users:read"])
    service.register(scopes="groups:read")
    assert service.who(text).scopes == Scopes()


def test_every_text_of_a_revoked_token_is_forgotten(service: Service) -> None:
    service.idp.keys = {"one": EC_KEY}
    texts = [service.idp.token() for _ in range(3)]  # each with a signature of its own, as ECDSA makes them
    for text in texts:
        service.who(text)
    assert len(set(texts)) == 3
    revoke_token(service.issuer, service.idp.issuer, "0oa1nightly", service.idp.claims["jti"], actor="tests")
    assert {service.refusal(text) for text in texts} == {"revoked"}


def test_an_issuer_cannot_take_the_place_of_an_own_token_or_client(service: Service) -> None:
    client = service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue(client.id, "users:read", actor="tests")
    service.who(own.text.reveal())
    service.who(service.idp.token(jti=own.token.id, cid=client.id))
    service.issuer.revoke(own.token.id, actor="tests")
    assert service.refusal(own.text.reveal()) == "revoked"
    service.issuer.disable(client.id, actor="tests")
    assert service.who(service.idp.token(jti=own.token.id, cid=client.id)).issuer == service.idp.issuer


def test_the_limits_of_a_client_hold_for_its_tokens(service: Service) -> None:
    register_client(
        service.issuer,
        service.idp.issuer,
        "0oa1nightly",
        scopes="groups:read",
        conditions=Conditions.parse(["198.51.100.0/24"]),
        actor="tests",
    )
    text = service.idp.token(scp=["users:manage", "groups:read"])
    with pytest.raises(NetworkNotAllowed):
        service.who(text)
    assert service.guard.authenticate(Secret(text), "198.51.100.7").scopes == Scopes(["groups:read"])


def post_to_revocation(service: Service, text: str) -> int:
    app = revocation_app(service.issuer, service.guard)
    form = {"data": f"token={text}", "content_type": "application/x-www-form-urlencoded"}
    return WsgiClient(app).post("/", **form).status_code


def test_whoever_holds_a_token_revokes_it(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    text, other = service.idp.token(), service.idp.token(jti="other")
    service.who(text)
    for _ in range(3):
        assert post_to_revocation(service, text + "%0A") == 200
    assert service.refusal(text) == "revoked"
    assert service.who(other)
    (event,) = service.store.events(9, EventFilter(kind="token.revoked"))
    assert event.actor == f"holder:{event.token_id}"
    # The record can be removed once the token has ended.
    (record,) = service.store.records()
    assert record.token.expires_at == (AT + 3600 + 60) * 1_000_000
    (line,) = [message for message in caplog.messages if "holds it" in message]
    assert line.startswith(f"token {service.idp.claims['jti']} of client 0oa1nightly of {service.idp.issuer} was")


def test_whoever_holds_a_token_revokes_it_until_its_end_also_if_a_shorter_one_was_said(service: Service) -> None:
    ids = (service.idp.issuer, "0oa1nightly", service.idp.claims["jti"])
    revoke_token(service.issuer, *ids, actor="tests", expires_at=(AT + 1) * 1_000_000)
    for _ in range(3):
        assert post_to_revocation(service, service.idp.token()) == 200
    (record,) = service.store.records()
    assert record.token.expires_at == (AT + 3600 + 60) * 1_000_000
    assert len(service.store.events(9, EventFilter(kind="token.revoked"))) == 2


@pytest.mark.parametrize("forgery", ["none", "a changed claim", "another audience", "ended", "a jti that is no text"])
def test_what_would_not_be_let_in_revokes_nothing(service: Service, forgery: str) -> None:
    assert post_to_revocation(service, FORGERIES[forgery](service.idp)) == 200
    assert service.store.records() == service.store.clients() == []
    assert service.who(service.idp.token())


def test_whoever_holds_a_token_of_an_issuer_that_is_away_is_told_to_come_back(service: Service) -> None:
    service.idp.broken = 503
    assert post_to_revocation(service, service.idp.token()) == 503
    service.idp.broken, service.seconds = None, 10
    service.store.down = True
    assert post_to_revocation(service, service.idp.token()) == 503
    service.store.down = False
    assert post_to_revocation(service, service.idp.token()) == 200
    assert service.refusal(service.idp.token()) == "revoked"


def test_the_longest_token_can_be_revoked(service: Service) -> None:
    text = service.idp.token(x="y" * 5560)
    assert 8000 < len(text) < 8192
    service.who(text)
    assert post_to_revocation(service, text) == 200
    assert service.refusal(text) == "revoked"


def test_a_revoked_token_is_not_forgotten_before_it_ends(service: Service) -> None:
    revoke_token(
        service.issuer, service.idp.issuer, "0oa1nightly", "a", actor="tests", expires_at=(AT + 30 * 86_400) * 1_000_000
    )
    service.store._clock = lambda: (AT + 20 * 86_400) * 1_000_000
    assert prune(service.store, 86_400, actor="tests").tokens == 0
    service.store._clock = lambda: (AT + 40 * 86_400) * 1_000_000
    assert prune(service.store, 86_400, actor="tests").tokens == 1
    assert service.store.find(local_token_id(service.idp.issuer, "a")) is None


def test_without_the_store_nobody_says_yes_or_no(service: Service) -> None:
    service.store.down = True
    with pytest.raises(TemporarilyUnavailable, match="the database cannot be used") as refused:
        service.who(service.idp.token())
    assert refused.value.token_id == service.idp.claims["jti"]


# In a request


def environ(text: str, **more: str) -> dict[str, Any]:
    return {"HTTP_AUTHORIZATION": f"Bearer {text}", "REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "GET"} | more


def test_a_request_of_a_stranger_takes_the_short_way_and_leaves_no_use(service: Service) -> None:
    requests = RequestGuard(service.guard, AuthScheme())
    service.catalog.check(READ)
    for _ in range(2):
        request = environ(service.idp.token())
        found = requests.wave_through(request, READ)
        assert found is not None
        assert found.identity.client_id == "0oa1nightly"
        assert request[OUTCOME][3] is LET_IN
    assert not service.usage.due
    assert service.store.asked == 1
    assert not service.usage._waiting


def use(service: Service, *texts: str, times: int = 1) -> None:
    """Note these uses, as of requests that were let in."""
    for _ in range(times):
        for text in texts:
            service.usage.note(service.guard.admit(Secret(text), "192.0.2.1"), READ, "192.0.2.1")


def test_uses_are_counted_for_a_client_that_is_registered_and_not_for_each_token(clock: StoppedClock) -> None:
    service = Service(store=Store(clock), clock=clock)
    client = register_client(service.issuer, service.idp.issuer, "0oa1nightly", actor="tests")
    texts = [service.idp.token(jti=str(number)) for number in range(20)]
    texts += [service.idp.token(jti=f"more {number}", scp=["users:manage"]) for number in range(20)]
    use(service, *texts, times=3)
    use(service, service.idp.token(cid="stranger", jti="x"))
    service.usage.write(everything=True)
    service.clock.move(70)
    use(service, *texts[15:25])
    service.usage.write(everything=True)
    known = service.store.find_foreign("", client.id).use
    assert known is not None
    assert (known.last_used_at, known.address) == ((AT + 70) * 1_000_000, "192.0.2.1")
    assert known.scopes == Scopes(["users:read"])
    assert service.store.use_by_day(client.id) == {AT // 86_400: 130}
    assert len(service.store._data.uses) == len(service.store._data.days) == 1


def test_what_one_token_may_do_is_not_taken_for_what_another_of_its_client_may(service: Service) -> None:
    register_client(service.issuer, service.idp.issuer, "0oa1nightly", actor="tests")
    requests, manage = RequestGuard(service.guard, AuthScheme()), Requirement(("users:manage",))
    for requirement in (manage, READ):
        service.catalog.check(requirement)
    reader, manager = service.idp.token(jti="r"), service.idp.token(jti="m", scp=["users:manage"])
    for _ in range(3):
        assert requests.wave_through(environ(manager), manage) is not None
        assert requests.wave_through(environ(reader), manage) is None
        assert requests.wave_through(environ(reader), READ) is not None
        service.usage.write(everything=True)  # from now on, ``look`` is not called for every use


def test_from_when_on_a_client_is_registered_its_uses_are_counted(service: Service) -> None:
    text = service.idp.token()
    use(service, text)
    client = register_client(service.issuer, service.idp.issuer, "0oa1nightly", actor="tests")
    use(service, text)
    service.usage.write(everything=True)
    assert service.store.use_by_day(client.id) == {AT // 86_400: 1}


def test_a_first_use_is_one_question_to_the_store(service: Service) -> None:
    service.who(service.idp.token())
    service.store.asked = 0
    service.who(service.idp.token(jti="2"))
    assert service.store.asked == 1


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "x" * 8185, "x" * 9000, ".".join(["eyJ9"] * 3)])
def test_the_short_way_lets_nobody_in_whom_the_long_one_would_not(service: Service, text: str) -> None:
    requests = RequestGuard(service.guard, AuthScheme())
    assert not isinstance(requests.wave_through(environ(text), None), Verified)
    assert requests.wave_through(environ(text), READ) is None


def test_an_event_loop_is_not_held_up_by_what_has_to_be_verified(service: Service) -> None:
    requests = RequestGuard(service.guard, AuthScheme())
    text = service.idp.token()
    assert not requests.settle(environ(text))
    assert service.idp.asked == []
    service.who(text)
    assert requests.settle(environ(text))


def test_no_text_is_in_a_traceback_or_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    requests = RequestGuard(service.guard, AuthScheme())
    for text in [with_claims_changed(service.idp), service.idp.token(exp=AT - 60), service.idp.token(aud="x")]:
        trace = shown(raised(partial(service.guard.authenticate, Secret(text, "credential"))))
        assert "look_up_foreign" in trace
        requests.decide(environ(text), READ)
        for part in text.split("."):
            assert part[:40] not in trace
            assert part[:40] not in caplog.text


def test_a_refusal_does_not_keep_the_error_behind_it(service: Service) -> None:
    header, payload, signature = service.idp.token().split(".")
    (source,) = service.guard.sources
    with pytest.raises(InvalidToken, match="malformed JWT") as refused:
        source.verify(Secret(f"{header}.{payload}=.{signature}"), AT, service.guard.catalog)
    assert refused.value.__context__ is None  # the frames of that error hold the text


# Configuration


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"issuer": "https://org.okta.com"}, "org server"),
        ({"issuer": "https://org.oktapreview.com/"}, "org server"),
        ({"issuer": "http://idp.example/a"}, "https"),
        ({"issuer": 7}, "7"),
        ({"issuer": "https://idp.example/" + "a" * 236}, "256"),
        ({"audience": ""}, "audience"),
        ({"audience": []}, "audience"),
        ({"algorithms": ["HS256"]}, "HS256"),
        ({"algorithms": ["none"]}, "none"),
        ({"algorithms": []}, "algorithms"),
        ({"typ": "jwt"}, "typ"),
        ({"typ": ["any"]}, "typ"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": 3600}, "leeway"),
        ({"leeway": "60"}, "leeway"),
        ({"max_age": 0}, "max_age"),
        ({"grace": -1}, "grace"),
        ({"jwks_url": "http://idp.example/keys"}, "keys"),
        ({"jwks_url": "https://idp.example/keys#x"}, "keys"),
        ({"scopes": ["a"]}, "scopes"),
        ({"scopes": {"a": "users:nothing"}}, "users:nothing"),
        ({"scopes": {"a": 7}}, "'a'"),
        ({"audiences": "x"}, "audiences"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], named: str) -> None:
    good = {"issuer": "https://idp.example/a", "audience": AUDIENCE}
    with pytest.raises(ConfigurationError, match="TOKENGUARD_ISSUERS") as refused:
        Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": [good | wrong]})
    assert named in str(refused.value)


def test_issuers_are_options() -> None:
    issuers = json.dumps([{"issuer": "https://org.okta.com/oauth2/default", "audience": AUDIENCE}])
    options = Options.read(
        {"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": issuers, "RESOURCE": "https://api.example.com"}
    )
    guard = options.request_guard(MemoryStore()).guard
    assert len(guard.sources) == 1
    assert options.scheme.resource is not None
    assert options.scheme.resource.metadata["authorization_servers"] == ["https://org.okta.com/oauth2/default"]


@pytest.mark.parametrize("given", ["{", "{}", "[1]", 7, [{"issuer": "https://idp.example/a"}], [{}]])
def test_issuers_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="TOKENGUARD_ISSUERS"):
        Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": given})


def test_without_a_catalogue_scopes_have_to_be_mapped() -> None:
    trusted = {"issuer": "https://idp.example/a", "audience": AUDIENCE}
    with pytest.raises(ConfigurationError, match="SCOPES"):
        Options.read({"SIGNING_KEY": KEY, "ISSUERS": [trusted]})
    assert Options.read({"SIGNING_KEY": KEY, "ISSUERS": [trusted | {"scopes": {"a": "b"}}]}).issuers


def test_an_issuer_that_is_there_twice_is_refused() -> None:
    trusted = TrustedIssuer("https://idp.example/a", AUDIENCE)
    with pytest.raises(ConfigurationError, match="duplicate issuer"):
        JWTSource([trusted, trusted])


# Over the wire


def test_keys_are_fetched_over_https(trusted_idp: Idp) -> None:
    guard = Guard(
        MemoryStore(),
        TokenFormat(SigningKeys(KEY)),
        catalog=ScopeCatalog(CATALOG),
        clock=StoppedClock(),
        sources=[JWTSource([TrustedIssuer(trusted_idp.issuer, AUDIENCE)])],
    )
    assert guard.authenticate(Secret(trusted_idp.token())).client_id == "0oa1nightly"


def test_a_certificate_of_anybody_else_is_not_trusted(served_idp: tuple[Idp, Path]) -> None:
    with pytest.raises(KeysUnavailable, match="SSLCertVerificationError"):
        fetch(served_idp[0].issuer + "/v1/keys")


@pytest.mark.parametrize("broken", [302, 500, 429, b"[]", b"{", b'{"a":1,"a":2}', b" " * 300_000])
def test_what_is_no_answer_is_none(trusted_idp: Idp, broken: int | bytes) -> None:
    trusted_idp.broken = broken
    trusted_idp.asked.clear()
    with pytest.raises(KeysUnavailable):
        fetch(trusted_idp.issuer + "/v1/keys")
    assert len(trusted_idp.asked) == 1  # a redirect is not followed


def test_an_issuer_that_does_not_come_to_an_end_is_hung_up_on(
    trusted_idp: Idp, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted_idp.hangs = threading.Event()
    try:
        for of_all, of_each_read in [(0.2, 3600.0), (3600.0, 0.2)]:
            monkeypatch.setattr("tokenguard.issuers.jwks.TIMEOUT", of_each_read)
            monkeypatch.setattr("tokenguard.issuers.jwks.DEADLINE", of_all)
            with pytest.raises(KeysUnavailable, match="TimeoutError"):
                fetch(trusted_idp.issuer + "/v1/keys")
    finally:
        trusted_idp.hangs.set()
        trusted_idp.hangs = None


def test_nobody_there() -> None:
    with pytest.raises(KeysUnavailable, match="ConnectionRefusedError"):
        fetch("http://127.0.0.1:9/keys")
