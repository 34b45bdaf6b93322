"""What no server lets through, and what only configuration can get wrong."""

from __future__ import annotations

import gc
import io
import json
import logging
import time
import weakref
from typing import Any

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import Client, EnvironBuilder, create_environ

from tokenguard import (
    AuthError,
    AuthScheme,
    Conditions,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
    InvalidToken,
    InvalidValue,
    MemoryStore,
    MissingToken,
    NetworkNotAllowed,
    RateLimited,
    Requirement,
    Secret,
    SigningKeys,
    TemporarilyUnavailable,
    TokenFormat,
    TokenGuardMiddleware,
)
from tokenguard.conditions import Allowance, Rate
from tokenguard.http import MAX_KNOWN_MARKS, is_preflight
from tokenguard.okta import ApiError, NotFound, WrongMethod
from tokenguard.request import RequestGuard
from tokenguard.secret import MAX_CREDENTIAL_LENGTH

from .conftest import World, mistyped


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
    with pytest.raises(MissingToken, match="another scheme than Bearer"):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION=value))


def test_a_header_or_a_query_that_is_not_there_is_empty() -> None:
    """As PEP 3333 allows it."""
    credential = AuthScheme().credential({"HTTP_AUTHORIZATION": "Bearer x"})
    assert credential.reveal() == "x"
    with pytest.raises(MissingToken, match="This resource needs an API token"):
        AuthScheme(headers=["X-Key"]).credential({})


def test_a_credential_does_not_show_itself() -> None:
    credential = AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer hush"))
    assert credential.reveal() == "hush"
    assert "hush" not in repr(credential)


def test_a_header_named_twice_is_one_header() -> None:
    scheme = AuthScheme(headers=["X-API-Key", "x-api-key"])
    credential = scheme.credential(environ(HTTP_X_API_KEY="abc"))
    assert credential.reveal() == "abc"


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "X_API_Key", "X API", "", "X:Y", "Content-Type", "Ünicode", "X\r\nY: z", None]
)
def test_header_names_that_cannot_carry_tokens(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used as a header for tokens"):
        AuthScheme(headers=[name])


def test_one_header_name_is_not_taken_for_a_list() -> None:
    with pytest.raises(ConfigurationError, match=r"write \['X-API-Key'\]"):
        AuthScheme(headers="X-API-Key")


def test_around_a_bare_token_only_blanks_are_no_part_of_it() -> None:
    found = AuthScheme(headers=["X-API-Key"]).credential({"HTTP_X_API_KEY": " \tXabcX\t "})
    assert found is not None
    assert found.reveal() == "XabcX"


@pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "a\r\nb", "ü", "x" * 101, None])
def test_realms_that_would_break_the_challenge(realm: str) -> None:
    with pytest.raises(ConfigurationError, match="realm"):
        AuthScheme(realm)


def test_challenges_byte_for_byte() -> None:
    scheme = AuthScheme("my api")
    assert scheme.challenge(InvalidToken("revoked")) == 'Bearer realm="my api", error="invalid_token"'
    lacking = InsufficientScope(("a", "b"), "a b")
    assert scheme.challenge(lacking) == 'Bearer realm="my api", error="insufficient_scope", scope="a b"'


CHALLENGE = 'Bearer realm="api"'
ALLOWANCE = Allowance(Rate(10, "minute"), -1, 42)


@pytest.mark.parametrize(
    ("error", "headers", "body"),
    [
        (
            MissingToken(),
            [("WWW-Authenticate", CHALLENGE)],
            (
                '"title": "Unauthorized", "status": 401, '
                '"detail": "This resource needs an API token, sent as Authorization: Bearer TOKEN.", '
                '"code": "missing_token"'
            ),
        ),
        (
            InvalidToken("revoked"),
            [("WWW-Authenticate", f'{CHALLENGE}, error="invalid_token"')],
            '"title": "Unauthorized", "status": 401, "detail": "The API token is not valid.", "code": "invalid_token"',
        ),
        (
            InvalidRequest(),
            [("WWW-Authenticate", f'{CHALLENGE}, error="invalid_request"')],
            (
                '"title": "Bad Request", "status": 400, "detail": "The credential of this request is malformed '
                "(empty, or with a character that no token has, such as a quote, a space or a $), or there is more "
                'than one.", "code": "invalid_request"'
            ),
        ),
        (
            InsufficientScope(("a", "b"), "a b"),
            [("WWW-Authenticate", f'{CHALLENGE}, error="insufficient_scope", scope="a b"')],
            (
                '"title": "Forbidden", "status": 403, "detail": "The API token lacks a scope that this resource '
                'requires: a b.", "code": "insufficient_scope", "scope": "a b"'
            ),
        ),
        (
            NetworkNotAllowed("192.0.2.1"),
            [("WWW-Authenticate", CHALLENGE)],
            (
                '"title": "Forbidden", "status": 403, "detail": "The API token may not be used from this network.", '
                '"code": "network_not_allowed"'
            ),
        ),
        (
            RateLimited(ALLOWANCE),
            [
                ("Retry-After", "42"),
                ("RateLimit-Policy", '"tokenguard";q=10;w=60'),
                ("RateLimit", '"tokenguard";r=0;t=42'),
            ],
            (
                '"title": "Too Many Requests", "status": 429, "detail": "Too many requests: the limit is 10/minute. '
                'Try again in 42 seconds.", "code": "rate_limited"'
            ),
        ),
        (
            TemporarilyUnavailable("store"),
            [("Retry-After", "5")],
            (
                '"title": "Service Unavailable", "status": 503, "detail": "API tokens cannot be verified at the '
                'moment. Try again shortly.", "code": "temporarily_unavailable"'
            ),
        ),
    ],
)
def test_refusals_byte_for_byte(error: AuthError, headers: list[tuple[str, str]], body: str) -> None:
    scheme = AuthScheme(headers=["X-Key"], rate_headers="draft")
    content = f'{{"type": "about:blank", {body}}}'.encode()
    common = [("Cache-Control", "no-store"), ("Vary", "Authorization, X-Key")]
    for _ in range(2):  # the second answer is made from the cached first one, which nobody can spoil
        status, sent, sent_body = scheme.refusal(error)
        assert (status, sent_body) == (error.status, content)
        kind = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(content)))]
        assert sent == [*kind, *common, *headers]
        assert scheme.refusal_headers(error) == [*common, *headers]
        sent.clear()


@pytest.mark.parametrize(
    ("error", "more"), [(NotFound("x"), []), (WrongMethod(["PUT", "GET"]), [("Allow", "GET, PUT")])]
)
def test_what_cannot_be_done_for_another_reason_is_not_cached_either(
    error: ApiError, more: list[tuple[str, str]]
) -> None:
    status, headers, body = AuthScheme().report(error)
    kind = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
    assert (status, headers) == (error.status, [*kind, ("Cache-Control", "no-store"), *more])


def test_a_last_second_to_wait_is_one() -> None:
    assert RateLimited(ALLOWANCE._replace(reset=1)).detail.endswith("Try again in 1 second.")


def test_one_refusal_is_not_taken_for_another_of_its_kind() -> None:
    scheme = AuthScheme()
    for names in (("a",), ("b", "c")):
        refusal = scheme.refusal(InsufficientScope(names, " ".join(names)))
        assert json.loads(refusal.body)["scope"] == " ".join(names)
        assert f'scope="{" ".join(names)}"' in dict(refusal.headers)["WWW-Authenticate"]


def test_what_is_left_of_a_rate_in_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_900_000_000.9)
    left = Allowance(Rate(10, "hour"), 3, 42)
    assert AuthScheme().rate_fields(left) == []
    assert AuthScheme(rate_headers="draft").rate_fields(left) == [
        ("RateLimit-Policy", '"tokenguard";q=10;w=3600'),
        ("RateLimit", '"tokenguard";r=3;t=42'),
    ]
    assert AuthScheme(rate_headers="okta").rate_fields(left) == [
        ("X-Rate-Limit-Limit", "10"),
        ("X-Rate-Limit-Remaining", "3"),
        ("X-Rate-Limit-Reset", "1900000042"),
    ]
    for form in ("draft", "okta"):
        assert AuthScheme(rate_headers=form).rate_fields(left) != AuthScheme(rate_headers=form).rate_fields(ALLOWANCE)


def test_a_preflight_is_told_by_three_signs() -> None:
    signs = {"REQUEST_METHOD": "OPTIONS", "HTTP_ORIGIN": "https://a", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
    assert is_preflight(signs)
    assert not is_preflight(signs | {"REQUEST_METHOD": "POST"})
    for missing in signs:
        assert not is_preflight({name: value for name, value in signs.items() if name != missing})


def test_a_credential_may_be_as_long_as_that_and_no_longer() -> None:
    longest = "x" * (MAX_CREDENTIAL_LENGTH - len("Bearer "))
    credential = AuthScheme().credential(environ(HTTP_AUTHORIZATION=f"Bearer {longest}"))
    assert credential.reveal() == longest
    assert repr(credential) == "<credential, not shown>"
    with pytest.raises(InvalidRequest, match=r"^malformed credential$"):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION=f"Bearer {longest}x"))
    with pytest.raises(InvalidRequest, match=r"^more than one credential$"):
        AuthScheme(headers=["X-Key"]).credential(environ(HTTP_AUTHORIZATION="Bearer x", HTTP_X_KEY="x"))


@pytest.mark.parametrize("space", [" ", "\t", " \t "])
def test_white_space_around_a_header_is_no_part_of_it(space: str) -> None:
    scheme = AuthScheme(headers=["X-Key"])
    for given in ({"HTTP_AUTHORIZATION": f"{space}Bearer x{space}"}, {"HTTP_X_KEY": f"{space}x{space}"}):
        credential = scheme.credential(environ(**given))
        assert credential.reveal() == "x"
    with pytest.raises(InvalidRequest):
        scheme.credential(environ(HTTP_X_KEY="x\n"))


@pytest.mark.parametrize(
    ("proxies", "hops", "address"),
    [
        (0, "1.1.1.1", "9.9.9.9"),
        (1, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        (2, "0.0.0.0, 1.1.1.1 ,2.2.2.2", "1.1.1.1"),
        (2, "2.2.2.2", None),
        (2, "1.1.1.1,", None),
        (1, '"x, 2.2.2.2', "2.2.2.2"),
        (1, "", None),
        (20, ",".join(["3.3.3.3"] * 20), "3.3.3.3"),
    ],
)
def test_an_address_is_counted_from_the_right(proxies: int, hops: str, address: str | None) -> None:
    given = environ(REMOTE_ADDR="9.9.9.9", HTTP_X_FORWARDED_FOR=hops)
    assert AuthScheme(proxies=proxies).address(given) == address
    assert AuthScheme().address(given) == "9.9.9.9"  # without configured proxies it believes nobody
    assert AuthScheme(proxies=max(1, proxies)).address(environ(REMOTE_ADDR="9.9.9.9")) is None


@pytest.mark.parametrize("options", [{"proxies": -1}, {"proxies": 21}, {"proxies": True}, {"proxies": "1"}])
def test_a_number_of_proxies_is_a_small_whole_number(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^the number of proxies must be between 0 and 20, not "):
        AuthScheme(**options)


def test_rate_headers_are_one_of_three() -> None:
    with pytest.raises(ConfigurationError, match=r"^the rate headers must be one of none, draft, okta, not 'ietf'$"):
        AuthScheme(rate_headers="ietf")


def test_what_is_remembered_of_answers_is_bounded_and_right() -> None:
    scheme = AuthScheme()
    for _ in range(2):
        for number in range(2 * MAX_KNOWN_MARKS):
            vary = f"X-{number}"
            assert scheme.marks("public", vary) == [("Vary", f"{vary}, Authorization")]
            assert scheme.marks(None, vary) == [("Cache-Control", "private"), ("Vary", f"{vary}, Authorization")]
    assert len(scheme._known_marks) == MAX_KNOWN_MARKS


def test_all_that_a_credential_may_be_presented_in() -> None:
    given = environ(HTTP_AUTHORIZATION="a", QUERY_STRING="b", HTTP_X_KEY="c")
    assert AuthScheme().presented(given).cell_contents == ("a", "b")
    assert AuthScheme(headers=["X-Key", "X-Other"]).presented(given).cell_contents == ("a", "b", "c", None)


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
    """Two guards with different stores around one application: each asks its own."""
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


def test_an_application_may_hand_over_its_headers_in_a_tuple(world: World) -> None:
    """It should not, but servers accept that."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", (("X-Own", "1"),))
        return [b"in"]

    headers = {"Authorization": f"Bearer {world.issue().text.reveal()}"}
    answer = Client(TokenGuardMiddleware(application, world.guard)).get("/", headers=headers)
    assert (answer.status_code, answer.headers["X-Own"], answer.headers["Cache-Control"]) == (200, "1", "private")


def test_a_copy_of_the_environ_with_another_credential_is_another_request(world: World) -> None:
    """As a batch endpoint makes requests of its own; the outcome of one does not affect the other."""
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


@pytest.mark.parametrize("headers", [[], ["X-API-Key"]])
def test_a_request_is_known_again_by_all_that_was_sent_also_after_the_short_way(
    world: World, headers: list[str]
) -> None:
    strong = world.issue("users:manage")
    weak = world.issue("groups:read", client=strong.token.client_id)
    requests, manage = RequestGuard(world.guard, AuthScheme(headers=headers)), Requirement(("users:manage",))
    seen = environ(HTTP_AUTHORIZATION=f"Bearer {strong.text.reveal()}")
    requests.admit(seen.copy(), manage)  # the token's first request for this requirement takes the full path
    assert requests.wave_through(seen, None) is not None
    others = [{"HTTP_AUTHORIZATION": f"Bearer {weak.text.reveal()}"}, {"QUERY_STRING": "access_token=x"}]
    others += [{"HTTP_X_API_KEY": weak.text.reveal()}] if headers else []
    for requirement in (None, manage):
        for other in others:
            assert requests.wave_through(seen | other, requirement) is None
            with pytest.raises((InvalidRequest, InsufficientScope)):
                requests.admit(seen | other, manage)
        assert requests.wave_through(seen, requirement) is not None


@pytest.mark.parametrize("asked", [None, Requirement()], ids=["known", "let in"])
def test_an_address_that_is_corrected_meanwhile_decides_anew(world: World, asked: Requirement | None) -> None:
    """A middleware below the one that asks first corrects it, as for a proxy that only it knows."""
    issued = world.issue(conditions=Conditions.parse(["10.0.0.0/8"]))
    requests, read = RequestGuard(world.guard, AuthScheme()), Requirement(("users:read",))
    seen = environ(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}", REMOTE_ADDR="10.0.0.1")
    assert requests.wave_through(seen.copy(), asked) or requests.admit(seen.copy(), asked or Requirement())
    assert requests.wave_through(seen, asked) is not None
    seen["REMOTE_ADDR"] = "192.0.2.1"
    for requirement in (None, read):
        assert requests.wave_through(seen, requirement) is None
    assert requests.authenticate(seen.copy()) is None
    with pytest.raises(NetworkNotAllowed):
        requests.admit(seen, read)
    # That refusal was an answer. As long as there is none, a corrected address may also get a request let in.
    known = environ(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}", REMOTE_ADDR="192.0.2.1")
    assert requests.authenticate(known) is None
    assert requests.admit(known | {"REMOTE_ADDR": "10.0.0.1"}, read).token_id == issued.token.id


def test_what_an_answer_says_to_caches_itself_is_kept(world: World) -> None:
    requests, other = (RequestGuard(world.guard, AuthScheme()) for _ in range(2))
    token = {"HTTP_AUTHORIZATION": f"Bearer {world.issue().text.reveal()}"}
    nobody, stranger, caller = environ(), environ(HTTP_AUTHORIZATION="Bearer x"), environ(**token)
    for asked in (nobody, stranger, caller):
        requests.authenticate(asked)
    vary = ("Vary", "Accept, Authorization")
    for asked in (stranger, caller):
        for each in (requests, other):
            assert each.finish(asked, "max-age=9", "Accept") == [vary]
            assert each.finish(asked, None, "Accept") == [("Cache-Control", "private"), vary]
    assert requests.finish(nobody, "max-age=9", "Accept") == requests.finish(nobody, None, "Accept") == [vary]


def test_of_what_another_guard_has_found_out_only_caches_are_told(world: World) -> None:
    requests, other = (RequestGuard(world.guard, AuthScheme()) for _ in range(2))
    seen = environ(HTTP_AUTHORIZATION=f"Bearer {world.issue('groups:read').text.reveal()}")
    requests.admit(seen, Requirement())
    assert requests.plain_marks(seen) == requests.finish(seen, None, "")
    refused = seen.copy()
    with pytest.raises(InsufficientScope):
        requests.admit(refused, Requirement(("users:manage",)))
    assert requests.refused_with(refused) == sorted(requests.finish(refused, None, ""))
    for environ_of_both in (seen, refused):
        assert other.finish(environ_of_both, None, "") == [("Cache-Control", "private"), ("Vary", "Authorization")]
        assert other.plain_marks(environ_of_both) is other.refused_with(environ_of_both) is None


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


@pytest.mark.parametrize(
    "query", ["access_token=x", "a&access_token", "%61ccess%5Ftoke%6e=x", "a=b&access%5ftoken=&c", "%41ccess_token"]
)
def test_a_token_in_the_query_is_noticed_however_it_is_spelt(query: str) -> None:
    with pytest.raises(InvalidRequest):
        AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer x", QUERY_STRING=query))
    with pytest.raises(MissingToken):
        AuthScheme().credential(environ(QUERY_STRING=query))


@pytest.mark.parametrize(
    "query",
    ["", "my_access_token=x", "access_tokens=x", "access_token\n=x", "a=access_token", "%" * 9, "a=%61&b=100%25"],
)
def test_other_queries_are_the_applications_own(query: str) -> None:
    assert AuthScheme().credential(environ(HTTP_AUTHORIZATION="Bearer x", QUERY_STRING=query))


def test_an_empty_any_of_does_not_open_the_middleware(world: World) -> None:
    computed: list[str] = []
    with pytest.raises(InvalidValue, match="at least one scope"):
        TokenGuardMiddleware(echo, world.guard, any_of=computed)


def test_the_middleware_asks_for_what_the_catalogue_has(world: World) -> None:
    with pytest.raises(ConfigurationError, match="'users:raed' is not in the catalogue, which has users:read"):
        TokenGuardMiddleware(echo, world.guard, "users:raed")


def test_the_log_warns_of_what_was_signed_here(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tokenguard")
    issued = world.issue()
    world.issuer.revoke(issued.token.id, actor="tests")
    foreign = TokenFormat(SigningKeys("of another service: 0123456789abcdef")).mint()
    http = Client(TokenGuardMiddleware(echo, world.guard))
    for text in (issued.text, world.tokens.mint().text, foreign.text, Secret("tg_x")):
        assert http.get("/", headers={"Authorization": f"Bearer {text.reveal()}"}).status_code == 401
    http.get("/")
    for value in ("Basic x", foreign.text.reveal()):
        http.get("/", headers={"Authorization": value})
    assert foreign.text.reveal() not in caplog.text
    reasons = [(line.levelname, line.getMessage().partition(" (")[0]) for line in caplog.records]
    assert reasons == [
        ("WARNING", "refused 401 invalid_token: revoked"),
        ("WARNING", "refused 401 invalid_token: unknown"),
        ("INFO", "refused 401 invalid_token: signature does not match: forged, or signed by a dropped key"),
        ("INFO", "refused 401 invalid_token: not a token of this service"),
        ("INFO", "refused 401 missing_token: missing_token"),
        ("INFO", "refused 401 missing_token: Authorization has another scheme than Bearer, or none"),
        ("INFO", "refused 401 missing_token: Authorization has another scheme than Bearer, or none"),
    ]


def test_a_refused_request_is_not_kept_alive(world: World) -> None:
    """A flood of refusals must not hold bodies and credentials in memory until the garbage collector runs."""

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
    forged = mistyped(issued.text.reveal())
    for value in ("", "Bearer a b", "Bearer x", f"Bearer {forged}"):
        given = environ(HTTP_AUTHORIZATION=value)
        assert requests.settle(given)
        assert given["tokenguard.identity"] is None
    given = environ(HTTP_AUTHORIZATION=f"Bearer {issued.text.reveal()}")
    assert not requests.settle(given)
    assert requests.identify(given) is not None
    assert requests.settle(given)
