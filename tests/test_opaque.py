"""Opaque tokens of other issuers: which an endpoint's answer lets in, for how long, and which it never does."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, strategies
from werkzeug.test import Client as WsgiClient

from tokenguard import (
    AuthScheme,
    ConfigurationError,
    Guard,
    Identity,
    InvalidToken,
    Issuer,
    MemoryStore,
    RequestGuard,
    Requirement,
    ScopeCatalog,
    Scopes,
    Secret,
    SigningKeys,
    TemporarilyUnavailable,
    TokenCache,
    TokenFormat,
)
from tokenguard.config import Options
from tokenguard.foreign import register_client, revoke_token
from tokenguard.issuers.asking import MAX_KEPT
from tokenguard.issuers.https import Received, Unreachable
from tokenguard.issuers.opaque import TIMEOUT, IntrospectedIssuer, IntrospectionSource
from tokenguard.prune import prune
from tokenguard.revocation import revocation_app
from tokenguard.store import EventFilter

from .canaries import our_frames, raised, shown
from .child import in_child
from .conftest import KEY, StoppedClock, mistyped, run_together
from .services.common import CATALOG

AT = 1_900_000_000
ISSUER = "https://login.example.com"
URL = "https://login.example.com/introspect"
TEXT = "opaque-0123456789abcdefghijklmnopqrstuv"
SECRET = "s e:cret/&"
READ = Requirement(("users:read",))


class Endpoint:
    """Answers as it is told to, without a network."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {
            "active": True,
            "client_id": "nightly",
            "scope": "users:read other",
            "exp": AT + 3600,
            "iat": AT - 60,
            "jti": "id-1",
            "sub": "nightly",
        }
        self.status = 200
        self.body: bytes | None = None
        self.error: Exception | None = None
        self.asked: list[tuple[dict[str, str], dict[str, list[str]]]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, headers: Mapping[str, str], body: bytes) -> Received:
        self.asked.append((dict(headers), parse_qs(body.decode(), strict_parsing=True)))
        self.meanwhile()
        if self.error is not None:
            raise self.error
        told = {name: value for name, value in self.said.items() if value is not None}
        return Received(self.status, json.dumps(told).encode() if self.body is None else self.body)


@dataclass
class Service:
    """A guard that accepts its own tokens and those of one issuer."""

    options: dict[str, Any] = field(default_factory=dict)
    endpoint: Endpoint = field(default_factory=Endpoint)
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: StoppedClock = field(default_factory=StoppedClock)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        given = {"client_id": "directory", "client_secret": SECRET} | self.options
        self.source = IntrospectionSource(
            [IntrospectedIssuer(ISSUER, URL, **given)], post=self.endpoint, monotonic=lambda: self.seconds
        )
        self.tokens, self.catalog = TokenFormat(SigningKeys(KEY)), ScopeCatalog(CATALOG)
        self.guard = Guard(
            self.store,
            self.tokens,
            catalog=self.catalog,
            clock=self.clock,
            cache=TokenCache(self.store, monotonic=lambda: self.seconds),
            sources=[self.source],
        )
        self.issuer = Issuer(self.store, self.tokens, catalog=self.catalog, clock=self.clock)

    def who(self, text: str = TEXT) -> Identity:
        return self.guard.authenticate(Secret(text), "192.0.2.1")

    def refusal(self, text: str = TEXT) -> str:
        with pytest.raises(InvalidToken) as refused:
            self.who(text)
        assert refused.value.detail == InvalidToken.detail
        return refused.value.reason

    def goes_by(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.seconds += seconds

    @property
    def asked(self) -> int:
        return len(self.endpoint.asked)

    def holds_for(self, seconds: float, ask: Callable[[], object]) -> None:
        """Check that the first answer holds for so long, and that the endpoint is then asked again."""
        for _ in range(5):
            ask()
        self.goes_by(seconds - 0.1)
        ask()
        assert self.asked == 1
        self.goes_by(0.1)
        ask()
        assert self.asked == 2


@pytest.fixture
def service() -> Service:
    return Service()


def test_an_opaque_token_is_its_application(service: Service) -> None:
    identity = service.who()
    assert (identity.issuer, identity.client_id, identity.token_id) == (ISSUER, "nightly", "id-1")
    assert (identity.subject, identity.scopes) == ("nightly", Scopes(["users:read"]))
    assert identity.claims["exp"] == AT + 3600
    with pytest.raises(TypeError):
        identity.claims["exp"] = 0  # type: ignore[index]


def test_the_service_says_who_it_is_and_sends_the_text_in_the_body_alone(service: Service) -> None:
    service.who("a+b/c~d==")
    ((headers, form),) = service.endpoint.asked
    assert form == {"token": ["a+b/c~d=="], "token_type_hint": ["access_token"]}
    scheme, _, credentials = headers["Authorization"].partition(" ")
    # Each part is encoded as in a form, RFC 6749 section 2.3.1: a colon in the secret separates nothing.
    assert (scheme, b64decode(credentials)) == ("Basic", b"directory:s%20e%3Acret%2F%26")
    other = Service({"client_id": None, "client_secret": None, "bearer_token": "mF_9.B5f-4.1JqM"})
    other.who()
    assert other.endpoint.asked[0][0]["Authorization"] == "Bearer mF_9.B5f-4.1JqM"


def test_scopes_are_mapped_as_the_operator_says() -> None:
    service = Service({"scopes": {"other": "groups:read"}})
    assert service.who().scopes == Scopes(["groups:read"])


# How long an answer holds


def test_a_yes_holds_for_as_long_as_is_said_and_then_it_is_asked_again(service: Service) -> None:
    service.holds_for(30, service.who)
    service.endpoint.said = {"active": False}
    service.goes_by(29.9)
    service.who()
    service.goes_by(0.1)
    assert service.refusal() == "its issuer says that it is not active"


def test_it_never_holds_beyond_the_end(service: Service) -> None:
    service.endpoint.said["exp"] = AT + 7
    service.who()
    service.goes_by(6.9)
    service.who()
    service.goes_by(0.1)
    assert service.refusal() == "expired"


@pytest.mark.parametrize("max_age", [0, 30])
def test_who_ends_while_it_is_being_asked_about_is_not_let_in(max_age: int) -> None:
    service = Service({"max_age": max_age})
    service.endpoint.said["exp"] = AT + 7
    service.endpoint.meanwhile = lambda: service.goes_by(7)
    request = {"HTTP_AUTHORIZATION": f"Bearer {TEXT}", "REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "GET"}
    assert RequestGuard(service.guard, AuthScheme()).wave_through(request, None) is None
    assert service.refusal() == "expired"


def test_what_holds_counts_from_before_it_was_asked(service: Service) -> None:
    service.endpoint.meanwhile = lambda: service.goes_by(3)
    service.who()
    service.endpoint.meanwhile = lambda: None
    service.goes_by(27)
    service.who()
    assert service.asked == 2


def test_a_token_without_an_end_is_asked_about_again_and_again(service: Service) -> None:
    service.endpoint.said["exp"] = None
    for _ in range(3):
        service.who()
        service.who()
        service.goes_by(30)
    assert service.asked == 3


def test_without_an_age_each_request_asks(service: Service) -> None:
    service = Service({"max_age": 0})
    for _ in range(3):
        service.who()
    assert service.asked == 3
    request = {"HTTP_AUTHORIZATION": f"Bearer {TEXT}", "REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "GET"}
    requests = RequestGuard(service.guard, AuthScheme())
    service.catalog.check(READ)
    assert requests.wave_through(request, None) is not None
    assert requests.wave_through(request, READ) is not None
    assert service.asked == 4  # once for each request
    service.endpoint.said = {"active": False}
    assert service.refusal()


def test_a_no_holds_for_ten_seconds(service: Service) -> None:
    service.endpoint.said = {"active": False}
    service.holds_for(10, service.refusal)
    short = Service({"max_age": 2})
    short.endpoint.said = {"active": False}
    short.refusal()
    short.goes_by(2)
    short.refusal()
    assert short.asked == 2


def test_a_clock_that_jumps_either_way_makes_no_answer_hold_longer_where_it_is_kept(service: Service) -> None:
    client = register_client(service.issuer, ISSUER, "nightly", actor="tests")
    service.issuer.disable(client.id, actor="tests")
    service.refusal()
    service.clock.move(31)
    service.refusal()
    assert service.asked == 2
    service.seconds += 31
    service.refusal()
    assert service.asked == 3


def test_a_clock_that_steps_back_makes_no_yes_hold_longer(service: Service) -> None:
    service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue("billing", "users:read", actor="tests").text.reveal()
    service.who(), service.who(own)
    remembered = service.guard.cache.entries.copy()
    service.endpoint.said = {"active": False}
    service.clock.move(-3600)
    for _ in range(29):
        service.seconds += 1
        assert service.who().client_id == "nightly"
    service.seconds += 1
    assert service.refusal() == "its issuer says that it is not active"
    assert service.asked == 2
    # The service's own tokens stay cached as ever: the feed reports their changes.
    assert [each for each in service.guard.cache.entries.values() if each in remembered.values()]
    # And the reverse, as soon as the clock goes on.
    service.endpoint.said = Endpoint().said
    service.goes_by(3600 + 10)
    for _ in range(3):
        assert service.who()
    assert service.asked == 3


def test_who_is_stopped_here_asks_the_endpoint_no_oftener_than_others(service: Service) -> None:
    service.who()
    client = register_client(service.issuer, ISSUER, "nightly", actor="tests")
    service.issuer.disable(client.id, actor="tests")
    assert service.refusal() == service.refusal() == "client disabled"
    service.issuer.enable(client.id, actor="tests")
    assert service.who()
    revoke_token(service.issuer, ISSUER, "nightly", "id-1", actor="tests")
    assert service.refusal() == service.refusal() == "revoked"
    assert service.asked == 1


def test_a_token_without_a_jti_is_revoked_by_the_id_that_is_made_of_its_text(service: Service) -> None:
    service.endpoint.said["jti"] = None
    token_id, other = service.who().token_id, service.who(TEXT + "x").token_id
    assert token_id != other
    assert TEXT not in token_id
    service.goes_by(30)
    service.endpoint.said["exp"] += 1
    assert service.who().token_id == token_id
    revoke_token(service.issuer, ISSUER, "nightly", token_id, actor="tests")
    assert service.refusal() == "revoked"
    assert service.who(TEXT + "x")


def test_whoever_holds_a_token_revokes_it_for_good_however_its_issuer_moves_its_end(service: Service) -> None:
    client = WsgiClient(revocation_app(service.issuer, service.guard))
    for _ in range(2):
        assert client.post("/", data={"token": TEXT}).status_code == 200
    assert len(service.store.records()) == len(service.store.events(9, EventFilter(kind="token.revoked"))) == 1
    service.goes_by(30 * 86_400)
    service.store._clock = service.clock
    prune(service.store, 86_400, actor="tests")
    service.endpoint.said |= {"exp": AT + 31 * 86_400}
    assert service.refusal() == "revoked"


# What lets nobody in

LIES: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other.example.com"},
    "nearly the issuer": {"iss": ISSUER + "/"},
    "an issuer that is a list": {"iss": [ISSUER]},
    "an end that is a text": {"exp": str(AT + 60)},
    "an end that is true": {"exp": True},
    "an end that is endless": {"exp": 1e300},
    "an end before all times": {"exp": -1},
    "an end of very many digits": {"exp": 10**4000},
    "a beginning of very many digits": {"nbf": 10**400},
    "an end that is a list": {"exp": [AT + 60]},
    "ended": {"exp": AT},
    "ended within any leeway": {"exp": AT - 1},
    "ended by a fraction": {"exp": AT - 0.5},
    "not valid yet": {"nbf": AT + 61},
    "a beginning that is a text": {"nbf": "0"},
    "issued in the future": {"iat": AT + 61},
    "no client": {"client_id": None},
    "a client that is no text": {"client_id": 7},
    "an empty client": {"client_id": ""},
    "a client of several lines": {"client_id": "a\nb"},
    "two clients": {"azp": "other"},
    "a jti that is no text": {"jti": 7},
    "a subject that is no text": {"sub": {"a": 1}},
    "scopes that are no texts": {"scope": ["users:read", 7]},
    "scopes that contradict one another": {"scp": ["users:manage"]},
    "scopes that are an object": {"scope": {"users:read": True}},
    "scopes that are true": {"scope": True},
    "bound to a key": {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
    "a refresh token": {"token_type": "refresh_token"},
    "a refresh token by its use": {"token_use": "refresh_token"},
    "a refresh token by its typ": {"typ": "Refresh"},
    "an ID token by its typ": {"typ": "ID"},
    "a logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    "bound by its type": {"token_type": "DPoP"},
    "a type that is a list": {"token_type": ["Bearer"]},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_wrong_about_the_token_lets_nobody_in(service: Service, lie: str) -> None:
    service.endpoint.said |= LIES[lie]
    service.refusal()
    assert len(service.guard.cache) == 0
    service.goes_by(30)
    service.endpoint.said = Endpoint().said | {"exp": AT + 3600}
    assert service.who()


@pytest.mark.parametrize(
    "audience", [None, "api://other", [], ["api://other"], ["api://directory", 7], {"api://directory": 1}]
)
def test_an_audience_that_is_asked_for_has_to_be_named(audience: Any) -> None:
    service = Service({"audience": "api://directory"})
    service.endpoint.said["aud"] = audience
    assert service.refusal() == "for another audience"
    service.goes_by(30)
    service.endpoint.said["aud"] = ["api://other", "api://directory"]
    assert service.who()


@pytest.mark.parametrize(
    "said",
    [
        {"exp": AT + 60.5},
        {"token_type": "bearer", "token_use": "access_token", "typ": "Bearer", "iss": ISSUER},
        {"scope": ["users:read"]},
        {"iat": AT + 30},
        {"aud": "api://anybody"},
        {"username": None, "sub": None, "jti": None, "iat": None, "exp": None},
    ],
)
def test_what_endpoints_say_besides_is_taken(service: Service, said: dict[str, Any]) -> None:
    service.endpoint.said |= said
    assert service.who().scopes == Scopes(["users:read"])


NO_ANSWERS: dict[str, Any] = {
    "active as a text": {"said": {"active": "true", "client_id": "nightly"}},
    "active as a number": {"said": {"active": 1, "client_id": "nightly"}},
    "active as a list": {"said": {"active": [True], "client_id": "nightly"}},
    "nothing of active": {"said": {"client_id": "nightly"}},
    "no JSON": {"body": b"<html>"},
    "no object": {"body": b'["active"]'},
    "nothing": {"body": b""},
    "active twice": {"body": b'{"active": false, "active": true, "client_id": "nightly"}'},
    "a number that is none": {"body": b'{"active": true, "client_id": "nightly", "exp": Infinity}'},
    "very deep": {"body": b'{"a":' * 5000 + b"1" + b"}" * 5000},
    "deep enough": {"body": b'{"active": true, "client_id": "nightly", "x": ' + b"[" * 200 + b"]" * 200 + b"}"},
    "very many digits": {"body": b'{"active": true, "client_id": "nightly", "exp": ' + b"9" * 5000 + b"}"},
    "half a character": {"said": {"active": True, "client_id": "nightly", "sub": "a\ud800"}},
    "not UTF-8": {"body": b'{"active": true, "client_id": "\xff"}'},
    "a redirect": {"status": 302},
    "created": {"status": 201},
    "no content": {"status": 204},
    "a bad request": {"status": 400},
    "credentials that are not accepted": {"status": 401},
    "not allowed": {"status": 403},
    "not found": {"status": 404},
    "too many": {"status": 429},
    "an error": {"status": 500},
    "unavailable": {"status": 503},
    "nobody there": {"error": Unreachable("ConnectionRefusedError")},
    "whatever else may happen": {"error": ZeroDivisionError("x")},
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_what_is_no_answer_is_neither_yes_nor_no(service: Service, name: str, caplog: pytest.LogCaptureFixture) -> None:
    for what, value in NO_ANSWERS[name].items():
        setattr(service.endpoint, what, value)
    with pytest.raises(TemporarilyUnavailable):
        service.who()
    assert caplog.messages[0].startswith(f"the introspection endpoint of {ISSUER} cannot be used: ")
    assert not caplog.messages[0].endswith((": ", "None", "NoneType"))  # it says why
    assert len(service.guard.cache) == 0
    service.endpoint.__init__()  # type: ignore[misc]
    service.goes_by(1)
    assert service.who()


def test_one_answer_that_is_none_keeps_nobody_else_from_theirs(service: Service) -> None:
    for wrong in (b"<html>", b"{}"):
        service.endpoint.body = wrong
        with pytest.raises(TemporarilyUnavailable):
            service.who()
    service.endpoint.body = None
    for status in (400, 401, 500, 502, 503, 504):
        service.endpoint.status = status
        with pytest.raises(TemporarilyUnavailable):
            service.who()
    service.endpoint.status = 200
    assert service.who(TEXT + "x")


def test_who_would_wait_in_vain_is_told_at_once_and_what_is_known_goes_on(service: Service) -> None:
    service.who()
    service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue("billing", "users:read", actor="tests").text.reveal()
    service.endpoint.error = Unreachable("TimeoutError")
    for suffix in "abcdef":
        with pytest.raises(TemporarilyUnavailable):
            service.who(TEXT + suffix)
    assert service.asked == 2  # the first of them asks, and then nobody for a second
    assert service.who().client_id == "nightly"
    assert service.who(own).issuer == "tokenguard"
    service.goes_by(1)
    service.endpoint.error = None
    assert service.who(TEXT + "a")


def test_an_endpoint_that_is_back_with_an_answer_that_is_none_is_back(service: Service) -> None:
    service.endpoint.error = Unreachable("ConnectionRefusedError")
    with pytest.raises(TemporarilyUnavailable):
        service.who()
    service.goes_by(1)
    service.endpoint.error, service.endpoint.status = None, 502
    with pytest.raises(TemporarilyUnavailable):
        service.who(TEXT + "x")
    service.endpoint.status = 200
    assert service.who()


_JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.sampled_from([10**400, -(10**400), 1e308, 0.1, AT + 60, "users:read", "nightly", ISSUER, "Bearer"])
    | strategies.text(max_size=5),
    lambda within: strategies.lists(within, max_size=3) | strategies.dictionaries(strategies.text(max_size=3), within),
    max_leaves=5,
)
_MEMBERS = strategies.sampled_from(
    [*Endpoint().said, "aud", "iss", "nbf", "cid", "azp", "scp", "cnf", "typ", "token_type", "token_use", "x"]
)


@given(strategies.dictionaries(_MEMBERS, _JSON, max_size=4), strategies.sampled_from([None, "api://directory"]))
def test_whatever_an_endpoint_says_is_a_yes_a_no_or_no_answer(said: dict[str, Any], audience: str | None) -> None:
    endpoint, catalog = Endpoint(), ScopeCatalog(CATALOG)
    endpoint.said |= said
    issuer = IntrospectedIssuer(ISSUER, URL, bearer_token="x", audience=audience)
    try:
        token = IntrospectionSource([issuer], post=endpoint).verify(Secret(TEXT), AT * 1_000_000, catalog)
    except (InvalidToken, TemporarilyUnavailable):
        return
    assert endpoint.said["active"] is True
    assert token.scopes.names <= catalog.descriptions.keys()
    assert AT * 1_000_000 < token.expires_at <= (AT + 30) * 1_000_000
    assert hash(token) == hash(token)


def test_an_endpoint_that_needs_a_rest_has_one(service: Service) -> None:
    service.endpoint.status = 429
    for suffix in "abc":
        with pytest.raises(TemporarilyUnavailable):
            service.who(TEXT + suffix)
    assert service.asked == 1


# A flood


def test_what_is_of_another_shape_is_never_sent_there() -> None:
    service = Service({"prefix": ["opaque-", "o2-"], "max_length": 60})
    own = service.tokens.mint().text.reveal()
    for text in (
        own[:-1],
        own + "x",
        mistyped(own),
        "tg_",
        "x",
        "Opaque-1",
        "opaque-" + "x" * 54,
        "opaque-1 2",
        "opaque-1,Bearer",
        "opaque-=1",
        "opaque-é",
        "opaque-1\n",
    ):
        service.refusal(text)
    assert service.asked == 0
    assert service.who("opaque-" + "x" * 53)
    assert service.who("o2-1")


def test_own_tokens_and_pieces_of_them_are_shown_to_nobody(service: Service) -> None:
    own = service.tokens.mint().text.reveal()
    for text in (own, own[:-1], own + "x", own[:20], own.replace("_", "_x")):
        service.refusal(text)
    assert service.asked == 0


def test_the_short_way_sends_nothing_that_the_long_one_would_not(service: Service) -> None:
    requests = RequestGuard(service.guard, AuthScheme())
    for text in ("a b", "a,b", "a, Bearer b", "x" * 1025, "", "=", "tg_a"):
        assert requests.wave_through({"HTTP_AUTHORIZATION": f"Bearer {text}", "REQUEST_METHOD": "GET"}, None) is None
    assert service.asked == 0


def test_a_flood_of_texts_fills_no_memory(service: Service) -> None:
    service.endpoint.said = {"active": False}
    asking = service.source._endpoints[0]._asking
    for number in range(MAX_KEPT + 500):
        service.refusal(f"{TEXT}{number}")
    assert MAX_KEPT * 0.9 < len(asking._kept) <= MAX_KEPT
    assert asking._asked == {}
    assert len(service.guard.cache) == 0
    assert all(isinstance(key, bytes) and len(key) == 32 for key in asking._kept)
    asked = service.asked
    service.refusal(f"{TEXT}{MAX_KEPT + 499}")
    assert service.asked == asked
    service.refusal(f"{TEXT}0")  # the oldest were evicted
    assert service.asked == asked + 1


def test_what_was_asked_about_again_is_none_of_the_oldest(service: Service) -> None:
    service.endpoint.said = {"active": False}
    many = [f"{TEXT}{number}" for number in range(MAX_KEPT)]
    for text in [TEXT, *many[:50]]:
        service.refusal(text)
    service.goes_by(10)
    for text in [TEXT, *many[50:]]:  # the last one evicts the oldest
        service.refusal(text)
    asked = service.asked
    service.refusal(TEXT)
    assert service.asked == asked


def test_an_issuer_that_names_each_of_its_answers_fills_none_either(service: Service) -> None:
    cache = service.guard.cache
    for number in range(100):
        service.endpoint.said |= {"jti": f"id-{number}", "exp": None}
        assert service.who().token_id == f"id-{number}"
        service.goes_by(31)
    assert len(cache) == len(cache._keys) == 1
    cache.evict(next(iter(cache._keys)), "")
    assert len(cache) == len(cache._keys) == 0


@pytest.mark.parametrize(("other", "was_good"), [(TEXT + "x", False), (TEXT, False), (TEXT + "x", True)])
def test_only_so_many_ask_or_wait_at_a_time_and_the_others_are_told_at_once(
    other: str, was_good: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service({"concurrency": 1})
    if was_good:
        service.who()
        service.goes_by(31)
    service.issuer.register("billing", "users:read", actor="tests")
    own = service.issuer.issue("billing", "users:read", actor="tests").text.reveal()

    def another() -> None:
        service.endpoint.meanwhile = lambda: None
        with pytest.raises(TemporarilyUnavailable, match="too many requests are waiting"):
            service.who(other)
        assert service.who(own).client_name == "billing"

    service.endpoint.meanwhile = lambda: run_together([another])
    assert service.who()
    assert service.asked == 1 + was_good
    assert "no more than 1 request may wait for it" in caplog.text
    assert service.who(TEXT + "x")


def ask_at_the_same_time(service: Service) -> list[str]:
    """Return whom two threads find: the second waits for the first one's answer or, if turned away, finds nobody."""
    arrived, found = threading.Event(), []
    asking = service.source._endpoints[0]._asking
    plain = asking._wait

    def waiting(asked: Any) -> Any:
        arrived.set()
        return plain(asked)

    def ask() -> None:
        try:
            found.append(service.who().client_id)
        except TemporarilyUnavailable:
            arrived.set()

    asking._wait = waiting  # type: ignore[method-assign]
    late = threading.Thread(target=ask, daemon=True)

    def meanwhile() -> None:
        late.start()
        assert arrived.wait(10)

    service.endpoint.meanwhile = meanwhile
    found.append(service.who().client_id)
    late.join(10)
    return found


def test_threads_with_the_same_token_ask_once(service: Service) -> None:
    assert ask_at_the_same_time(service) == ["nightly", "nightly"]
    assert service.asked == 1


@pytest.mark.parametrize("max_age", [0, 2])
def test_nobody_takes_an_answer_that_is_older_than_answers_may_be(max_age: int) -> None:
    service = Service({"max_age": max_age})

    def meanwhile() -> None:
        service.endpoint.meanwhile = lambda: None
        service.goes_by(max_age)
        run_together([service.who])

    service.endpoint.meanwhile = meanwhile
    service.who()
    assert service.asked == 2


def test_what_was_interrupted_before_it_asked_keeps_nobody_else_from_asking(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(service.source._endpoints[0]._asking, "_find", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.who()
    assert service.who().client_id == "nightly"


def test_who_waits_about_a_token_that_was_good_is_turned_away_by_no_limit() -> None:
    service = Service({"concurrency": 1})
    assert service.who()
    service.goes_by(31)
    assert ask_at_the_same_time(service) == ["nightly", "nightly"]
    assert service.asked == 2
    service.endpoint.meanwhile = lambda: None
    service.goes_by(31)
    service.endpoint.said = {"active": False}
    assert service.refusal() == "its issuer says that it is not active"
    service.goes_by(31)
    service.endpoint.said = Endpoint().said
    assert ask_at_the_same_time(service) == ["nightly"]


def test_one_slow_answer_keeps_nobody_else_from_asking(service: Service) -> None:
    found = []

    def meanwhile() -> None:
        service.endpoint.meanwhile = lambda: None
        service.seconds += TIMEOUT - 1
        found.append(service.who("another").client_id)

    service.endpoint.meanwhile = meanwhile
    service.who()
    assert found == ["nightly"]


def test_who_waits_for_anothers_question_does_so_for_a_bounded_time(service: Service) -> None:
    from concurrent.futures import Future

    asking = service.source._endpoints[0]._asking
    asking._patience = 0.01
    assert asking._wait(Future()) is None


def test_a_forked_child_starts_empty(service: Service) -> None:
    service.who()
    asking = service.source._endpoints[0]._asking
    with asking._lock:
        assert in_child(lambda: (asking._lock.locked(), len(asking._kept), len(asking._asked))) == (False, 0, 0)


# In a request


def test_an_event_loop_is_not_held_up(service: Service) -> None:
    requests = RequestGuard(service.guard, AuthScheme())
    request = {"HTTP_AUTHORIZATION": f"Bearer {TEXT}", "REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "GET"}
    assert not requests.settle(dict(request))
    assert service.asked == 0
    service.who()
    assert requests.settle(dict(request))


@pytest.mark.parametrize(
    "broken", [{"said": {"active": False}}, {"body": b"{"}, {"error": Unreachable("away")}, {"status": 401}]
)
def test_no_text_and_no_credential_is_in_a_traceback_or_the_log(
    service: Service, broken: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    for what, value in broken.items():
        setattr(service.endpoint, what, value)
    requests = RequestGuard(service.guard, AuthScheme())
    requests.decide({"HTTP_AUTHORIZATION": f"Bearer {TEXT}x", "REQUEST_METHOD": "GET"}, READ)
    service.goes_by(2)
    sent = service.endpoint.asked[0][0]["Authorization"]
    service.endpoint.asked.clear()
    trace = shown(raised(partial(service.guard.authenticate, Secret(TEXT, "credential")))) + caplog.text
    assert "look_up_foreign" in trace
    for secret in (TEXT, SECRET, sent, sent.partition(" ")[2]):
        assert secret not in trace


def test_an_answer_that_repeats_the_text_makes_no_id_of_it(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Ids are logged and recorded, and what is cached of an answer does not contain the text."""
    caplog.set_level(0)
    service.endpoint.said |= {"jti": TEXT, "token": TEXT, "more": {"of": [f"Bearer {TEXT}"]}}
    identity = service.who()
    assert TEXT not in repr(identity)
    assert identity.client_id == "nightly"
    assert ("jti" in identity.claims, identity.claims["token"], identity.claims["more"]) == (False, None, None)
    revoke_token(service.issuer, ISSUER, "nightly", identity.token_id, actor="tests")
    service.goes_by(60)
    assert service.refusal() == "revoked"
    requests = RequestGuard(service.guard, AuthScheme())
    requests.decide({"HTTP_AUTHORIZATION": f"Bearer {TEXT}", "REQUEST_METHOD": "GET"}, READ)
    for name, reason in (("client_id", "names no client"), ("iss", "of another issuer"), ("cnf", "bound to a key")):
        before = dict(service.endpoint.said)
        service.endpoint.said[name] = TEXT
        service.goes_by(60)
        assert service.refusal().startswith(reason)
        service.endpoint.said = before
    assert TEXT not in caplog.text


@pytest.mark.parametrize("name", ["abc-0123456789-XYZ", "id:abc-0123456789-XYZ", "abc-0123", "abc"])
def test_an_id_that_is_most_of_the_text_is_no_name_for_it(name: str) -> None:
    service = Service({"prefix": ["opaque_", "opaque_live_"]})
    service.endpoint.said["jti"] = name
    identity = service.who("opaque_live_abc-0123456789-XYZ")
    assert "jti" not in identity.claims
    assert name not in identity.token_id


def test_an_id_beside_a_secret_is_a_name_for_the_text(service: Service) -> None:
    tokens = TokenFormat(SigningKeys(KEY), prefix="other")
    minted = tokens.mint()
    service.endpoint.said["jti"] = minted.id
    assert service.who(minted.text.reveal()).token_id == minted.id


# Configuration


def test_no_secret_is_in_what_an_issuer_shows_or_in_an_error_about_it() -> None:
    good = {"issuer": ISSUER, "introspection_url": URL, "client_id": "directory", "client_secret": SECRET}
    for wrong in ({"timeout": "x"}, {"issuer": "x"}, {"bearer_token": "abc"}, {"prefixes": "x"}, {"client_id": 7}):
        for read in (
            lambda given: IntrospectedIssuer(**given),
            lambda given: Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": [given]}),
        ):
            with pytest.raises((ConfigurationError, TypeError)) as refused:
                read(good | wrong)
            shown = [frame.locals for frame in our_frames(refused.value)]
            assert SECRET not in str(refused.value) + repr(shown)
    issuer = IntrospectedIssuer(**good)
    assert repr(issuer) == f"<IntrospectedIssuer {ISSUER}>"
    options = Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": json.dumps([good])})
    assert SECRET not in repr(options) + repr(vars(issuer)) + repr(IntrospectionSource([issuer]))


@pytest.mark.parametrize(
    "url",
    [
        "https://directory:hunter2@login.example.com/introspect",
        "https://directory:hunter2/@login.example.com/introspect",
        "https://login.example.com/introspect?key=hunter2 ",
        "http://login.example.com/introspect?key=hunter2",
    ],
)
def test_a_url_that_has_a_credential_in_it_is_not_told_again(url: str) -> None:
    for wrong in ({"introspection_url": url}, {"issuer": url}):
        with pytest.raises(ConfigurationError, match="https") as refused:
            IntrospectedIssuer(**{"issuer": ISSUER, "introspection_url": URL, "bearer_token": "x"} | wrong)  # type: ignore[arg-type]
        assert "login.example.com" in str(refused.value)
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"issuer": "login"}, "an issuer"),
        ({"introspection_url": "http://login.example.com/introspect"}, "introspection_url"),
        ({"introspection_url": "https://user:password@login.example.com/"}, "introspection_url"),
        ({"introspection_url": "file:///etc/passwd"}, "introspection_url"),
        ({"introspection_url": 7}, "introspection_url"),
        ({"client_secret": None}, "client_secret"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": "secret\n"}, "client_secret"),
        ({"client_id": "\ud800"}, "client_id"),
        ({"client_id": None}, "client_id"),
        ({"bearer_token": "x"}, "not both"),
        ({"client_id": None, "client_secret": None, "bearer_token": "a b"}, "bearer_token"),
        ({"client_id": None, "client_secret": None, "bearer_token": ""}, "bearer_token"),
        ({"audience": ""}, "audience"),
        ({"scopes": {"a": "users:nothing"}}, "users:nothing"),
        ({"prefix": [""]}, "prefix"),
        ({"prefix": 7}, "prefix"),
        ({"prefix": "tg_"}, "the service's own"),
        ({"prefix": ["x", "tg_live_"]}, "the service's own"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 9000}, "max_length"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": 3601}, "max_age"),
        ({"max_age": "30"}, "max_age"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 31}, "timeout"),
        ({"concurrency": 0}, "concurrency"),
        ({"jwks_url": URL}, "jwks_url"),
    ],
)
def test_a_wrong_option_is_named(wrong: dict[str, Any], named: str) -> None:
    good = {"issuer": ISSUER, "introspection_url": URL, "client_id": "directory", "client_secret": SECRET}
    with pytest.raises(ConfigurationError, match="TOKENGUARD_ISSUERS") as refused:
        Options.read({"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": [good | wrong]})
    assert named in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_token_is_shown_to_one_issuer_alone() -> None:
    def issuer(name: str, prefix: str | list[str]) -> IntrospectedIssuer:
        url = f"https://{name}.example"
        return IntrospectedIssuer(url, f"{url}/introspect", bearer_token="x", prefix=prefix)

    for one, other in [("", ""), ("", "b"), ("a", "a"), ("a", "ab"), (["x", "ab"], "a")]:
        with pytest.raises(ConfigurationError, match="must not be sent to both"):
            IntrospectionSource([issuer("a", one), issuer("b", other)])
    with pytest.raises(ConfigurationError, match="duplicate issuer"):
        IntrospectionSource([issuer("a", "a"), issuer("a", "b")])
    source = IntrospectionSource([issuer("a", "a"), issuer("b", "b")])
    assert [source.takes(text) for text in ("a1", "b1", "c1")] == [True, True, False]


def test_both_kinds_of_issuers_go_beside_each_other_and_no_jwt_is_shown_to_an_endpoint() -> None:
    issuers = [
        {"issuer": ISSUER, "introspection_url": URL, "bearer_token": "x"},
        {"issuer": "https://org.okta.com/oauth2/default", "audience": "api://directory"},
    ]
    options = Options.read(
        {"SIGNING_KEY": KEY, "SCOPES": CATALOG, "ISSUERS": issuers, "RESOURCE": "https://api.example"}
    )
    guard = options.request_guard(MemoryStore()).guard
    assert [type(source).__name__ for source in guard.sources] == ["JWTSource", "IntrospectionSource"]
    assert type(guard.recognise(Secret("a.b.c"))).__name__ == "JWTSource"
    assert options.scheme.resource is not None
    assert options.scheme.resource.metadata["authorization_servers"] == [issuer["issuer"] for issuer in issuers]
