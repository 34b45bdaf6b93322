"""What no server lets through, and what only configuration can get wrong."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import Client, EnvironBuilder, create_environ

from tokenguard import (
    AuthScheme,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    InvalidValue,
    MemoryStore,
    Requirement,
    TokenGuardMiddleware,
)
from tokenguard.http import MAX_CREDENTIAL_LENGTH
from tokenguard.wsgi import RequestGuard

from .conftest import World


def environ(**values: str) -> dict[str, Any]:
    return create_environ() | values


@pytest.mark.parametrize(
    "value",
    [
        "Bearer a\x00b",
        "Bearer a\rb",
        "Bearer a\nX: y",
        "Bearer \xa0abc",
        "Bearer a\x0bb",
        "Bearer ſecret",
        "Bearer " + "x" * MAX_CREDENTIAL_LENGTH,
        "Bearer " + "x" * 70_000,
        "Bearer x,Bearer x",
        "Bearer x;y",
        "SSWS\x00x",
    ],
)
def test_what_some_servers_let_through_is_malformed(value: str) -> None:
    with pytest.raises(InvalidRequest):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION=value))
    with pytest.raises(InvalidRequest):
        AuthScheme(headers=["X-Key"]).credential(environ(HTTP_X_KEY=value))


@pytest.mark.parametrize("value", ["ſSWS abc", "ſſWſ abc", "\xa0Bearer abc", "Bearer\xa0abc", "ＢＥＡＲＥＲ abc"])
def test_look_alikes_of_a_scheme_are_another_scheme(value: str) -> None:
    assert AuthScheme().credential(environ(HTTP_AUTHORIZATION=value)) is None


def test_a_credential_does_not_show_itself() -> None:
    credential = AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer hush"))
    assert credential is not None
    assert credential.reveal() == "hush"
    assert "hush" not in repr(credential)


def test_a_header_named_twice_is_one_header() -> None:
    scheme = AuthScheme(headers=["X-API-Key", "x-api-key"])
    credential = scheme.credential(environ(HTTP_X_API_KEY="abc"))
    assert credential is not None
    assert credential.reveal() == "abc"


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "X_API_Key", "X API", "", "X:Y", "Content-Type", "Ünicode", "X\r\nY: z", None]
)
def test_header_names_that_cannot_carry_tokens(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a header for tokens"):
        AuthScheme(headers=[name])


def test_one_header_name_is_not_taken_for_a_list() -> None:
    with pytest.raises(ConfigurationError, match=r"write \['X-API-Key'\]"):
        AuthScheme(headers="X-API-Key")


@pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "a\r\nb", "ü", "x" * 101, None])
def test_realms_that_would_break_the_challenge(realm: str) -> None:
    with pytest.raises(ConfigurationError, match="realm"):
        AuthScheme(realm)


def test_challenges_byte_for_byte() -> None:
    scheme = AuthScheme("my api")
    assert scheme.challenge(InvalidToken("revoked")) == 'Bearer realm="my api", error="invalid_token"'
    lacking = InsufficientScope(("a", "b"), "a b")
    assert scheme.challenge(lacking) == 'Bearer realm="my api", error="insufficient_scope", scope="a b"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [("Cache-Control", "private"), ("Vary", "Authorization, X-Key")]),
        ([("Vary", "*")], [("Vary", "*"), ("Cache-Control", "private")]),
        (
            [("Vary", "Cookie"), ("Vary", "x-key")],
            [("Vary", "Cookie, x-key, Authorization"), ("Cache-Control", "private")],
        ),
        ([("cache-control", "public")], [("cache-control", "public"), ("Vary", "Authorization, X-Key")]),
    ],
)
def test_marking_adds_and_takes_nothing_away(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    headers = Headers(before)
    scheme = AuthScheme(headers=["X-Key"])
    headers.update(scheme.marks(headers.get("Cache-Control"), ",".join(headers.getlist("Vary"))))
    assert sorted(headers) == sorted(after)


# The middleware


def echo(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(environ["tokenguard.identity"]).encode()]


def test_the_middleware_refuses_to_ask_for_nonsense(world: World) -> None:
    for scopes in (["users:*"], ["a b"], [["users:read"]]):
        with pytest.raises(ValueError, match=r"scope|wildcard"):
            TokenGuardMiddleware(echo, world.guard, *scopes)  # type: ignore[arg-type]


def test_without_scopes_the_middleware_asks_for_any_token(world: World) -> None:
    client = Client(TokenGuardMiddleware(echo, world.guard))
    issued = world.issue()
    assert client.get("/").status_code == 401
    answer = client.get("/", headers={"Authorization": f"Bearer {issued.text.reveal()}"})
    assert issued.token.id in answer.text


def test_what_one_guard_found_out_is_not_believed_by_another() -> None:
    """Two guards with other stores around one application: each asks for itself."""
    partners, staff = World(MemoryStore()), World(MemoryStore())
    application = TokenGuardMiddleware(TokenGuardMiddleware(echo, staff.guard), partners.guard)
    text = partners.issue().text.reveal()
    answer = Client(application).get("/", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 401
    assert answer.headers["Vary"] == "Authorization"


def test_a_request_is_verified_once_however_often_it_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    remembered = world.guard.remembered
    monkeypatch.setattr(world.guard, "remembered", lambda key: asked.append(1) or remembered(key))  # type: ignore[func-returns-value]
    requests = RequestGuard(world.guard, AuthScheme())
    given = EnvironBuilder(headers={"Authorization": f"Bearer {world.issue().text.reveal()}"}).get_environ()
    assert requests.admit(given, Requirement(("users:read",))) is requests.identify(given)
    requests.admit(given, Requirement())
    with pytest.raises(InsufficientScope):
        requests.admit(given, Requirement(("groups:read",)))
    assert asked == [1]


def test_a_client_cannot_name_its_own_identity(world: World) -> None:
    client = Client(TokenGuardMiddleware(echo, world.guard))
    for header in ("tokenguard.identity", "tokenguard-identity", "Tokenguard.Outcome"):
        assert client.get("/", headers={header: "admin"}).status_code == 401


def test_the_application_sees_the_body_and_the_middleware_does_not(world: World) -> None:
    def read(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read(4)]

    client = Client(TokenGuardMiddleware(read, world.guard))
    headers = {"Authorization": f"Bearer {world.issue().text.reveal()}"}
    assert client.post("/", headers=headers, input_stream=io.BytesIO(b"data")).data == b"data"


def test_a_copy_of_the_environ_with_another_credential_is_another_request(world: World) -> None:
    """As a batch endpoint makes requests of its own; what becomes of one does not touch the other."""
    strong = world.issue("users:manage")
    weak = world.issue("groups:read", client=strong.token.client_id)
    requests = RequestGuard(world.guard, AuthScheme(headers=["X-API-Key"]))
    outer = environ(HTTP_AUTHORIZATION=f"Bearer {strong.text.reveal()}")
    assert requests.admit(outer, Requirement(("users:manage",))).token_id == strong.token.id
    inner = outer | {"HTTP_AUTHORIZATION": f"Bearer {weak.text.reveal()}"}
    with pytest.raises(InsufficientScope):
        requests.admit(inner, Requirement(("users:manage",)))
    assert requests.identify(inner | {"HTTP_AUTHORIZATION": "Basic x"}) is None
    with pytest.raises(InvalidRequest):
        requests.admit(outer | {"HTTP_X_API_KEY": weak.text.reveal()}, Requirement())
    assert requests.finish(outer, None, "") == [("Cache-Control", "private"), ("Vary", "Authorization, X-API-Key")]


@pytest.mark.parametrize(
    "value",
    [
        "Basic x,Bearer y",
        "Basic x, bearer y",
        "Digest a=b,SSWSy",
        "Bearer x,Basic y",
        "Bearer,Basic y",
        "Basic x,Bearer",
    ],
)
def test_a_second_credential_behind_another_scheme_is_one_too_many(value: str) -> None:
    with pytest.raises(InvalidRequest):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION=value))


@pytest.mark.parametrize("query", ["access_token=x", "a&access_token", "%61ccess%5Ftoke%6e=x", "a=b&access%5ftoken=&c"])
def test_a_token_in_the_query_is_noticed_however_it_is_spelt(query: str) -> None:
    with pytest.raises(InvalidRequest):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer x", QUERY_STRING=query))
    assert AuthScheme().credential(environ(QUERY_STRING=query)) is None


@pytest.mark.parametrize(
    "query",
    ["", "my_access_token=x", "access_tokens=x", "access_token\n=x", "a=access_token", "%" * 9, "a=%61&b=100%25"],
)
def test_other_queries_are_the_applications_own(query: str) -> None:
    assert AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer x", QUERY_STRING=query)) is not None


def test_an_empty_any_of_does_not_open_the_middleware(world: World) -> None:
    computed: list[str] = []
    with pytest.raises(InvalidValue, match="at least one scope"):
        TokenGuardMiddleware(echo, world.guard, any_of=computed)


def test_the_middleware_asks_for_what_the_catalogue_has(world: World) -> None:
    with pytest.raises(ConfigurationError, match="'users:raed'; it has users:read"):
        TokenGuardMiddleware(echo, world.guard, "users:raed")


def test_a_refused_request_is_not_kept_alive(world: World) -> None:
    """A flood of refusals must not hold bodies and credentials in memory until the collector comes by."""

    class Body(io.BytesIO):
        pass

    body = Body(b"x")
    alive = weakref.ref(body)
    given = environ(HTTP_AUTHORIZATION="Bearer x") | {"wsgi.input": body}
    gc.disable()
    try:
        b"".join(TokenGuardMiddleware(echo, world.guard)(given, lambda *args: lambda data: None))  # type: ignore[arg-type]
        del given, body
        assert alive() is None
    finally:
        gc.enable()


def test_what_needs_no_store_is_settled_without_it(world: World) -> None:
    """So an event loop can tell whether it has to wait."""
    issued = world.issue()
    requests = RequestGuard(world.guard, AuthScheme())
    forged = issued.text.reveal()[:-1] + ("0" if issued.text.reveal()[-1] != "0" else "1")
    for value in ("", "Bearer a b", "Bearer x", f"Bearer {forged}"):
        given = environ(HTTP_AUTHORIZATION=value)
        assert requests.settle(given)
        assert given["tokenguard.identity"] is None
    given = environ(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}")
    assert not requests.settle(given)
    assert requests.identify(given) is not None
    assert requests.settle(given)
