"""Rates per token and per client: what counts, what a caller is told, and what happens when nothing can count."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, create_environ
from werkzeug.wrappers import Response

from tokenguard import (
    AuthScheme,
    Conditions,
    ConfigurationError,
    Hooks,
    InsufficientScope,
    MemoryStore,
    NetworkNotAllowed,
    RateLimited,
    RequestGuard,
    Requirement,
    StoreUnavailable,
    TemporarilyUnavailable,
    TokenGuardMiddleware,
)
from tokenguard import ratelimits as ratelimits_module
from tokenguard.conditions import LimiterUnavailable, Rate
from tokenguard.config import Options
from tokenguard.ratelimits import RateLimiter
from tokenguard.scopes import ANY_TOKEN
from tokenguard.service import open_limiter

from .child import in_child
from .conftest import World, run_together
from .redis_server import RedisServer, attempts

TOKEN_RATE = ("token", "A" * 16, Rate(3, "hour"))
CLIENT_RATE = ("client", "B" * 16, Rate(5, "hour"))


@pytest.fixture
def world() -> World:
    return World(MemoryStore(), limiter=RateLimiter())


def limited(rate: str) -> Conditions:
    return Conditions.parse(rate=rate)


def left(limiter: RateLimiter, *rates: tuple[str, str, Rate]) -> int:
    allowance = limiter.hit(rates)
    assert allowance is not None
    return allowance.remaining


# Counting


def test_a_rate_is_counted_down_and_then_exceeded() -> None:
    limiter = RateLimiter()
    assert [left(limiter, TOKEN_RATE) for _ in range(5)] == [2, 1, 0, -1, -1]
    allowance = limiter.hit([TOKEN_RATE])
    assert allowance is not None
    assert allowance.exceeded
    assert 1 <= allowance.reset <= 3600
    brief = Rate(1, "second")
    assert limiter.hit([("token", "C" * 16, brief)]) == (brief, 0, 1, "token")


def test_each_token_and_each_client_is_counted_for_itself() -> None:
    limiter = RateLimiter()
    for _ in range(3):
        left(limiter, TOKEN_RATE)
    for other in (("token", "C" * 16, Rate(3, "hour")), ("client", "A" * 16, Rate(3, "hour"))):
        assert left(limiter, other) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_scarcest_of_both_is_told(order: int) -> None:
    limiter = RateLimiter()
    both = [TOKEN_RATE, CLIENT_RATE][::order]
    first = limiter.hit(both)
    assert first is not None
    assert (first.rate, first.remaining) == (TOKEN_RATE[2], 2)
    for _ in range(2):
        left(limiter, CLIENT_RATE)
    assert [left(limiter, *both) for _ in range(2)] == [1, 0]


def test_what_is_refused_for_one_counts_against_none() -> None:
    limiter = RateLimiter()
    assert [left(limiter, TOKEN_RATE, CLIENT_RATE) for _ in range(10)] == [2, 1, 0] + [-1] * 7
    assert left(limiter, CLIENT_RATE) == 1


def test_who_is_overtaken_by_another_process_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter()
    assert left(limiter, TOKEN_RATE) == 2
    # As the check saw it when one was left: others take it before this one is counted.
    monkeypatch.setattr(limiter._limiter, "test", lambda *_: True)
    assert [left(limiter, TOKEN_RATE) for _ in range(3)] == [1, 0, -1]


def test_a_new_period_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter()
    for _ in range(4):
        left(limiter, TOKEN_RATE)
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert left(limiter, TOKEN_RATE) == 2


@pytest.mark.parametrize("url", ["memory://", "MEMORY://", "memory:"])
def test_nothing_runs_in_the_background_before_there_is_something_to_count(url: str) -> None:
    """What is set up before a server forks must not keep it from stopping."""
    before = threading.enumerate()
    limiter = RateLimiter(url)
    assert threading.enumerate() == before
    run_together([lambda: left(limiter, CLIENT_RATE)] * 4)
    assert left(limiter, CLIENT_RATE) == 0


def test_threads_at_once_get_no_more_and_no_less_through() -> None:
    limiter, rounds, threads = RateLimiter(), 300, 8
    together, counting, let_in = threading.Barrier(threads, timeout=30), threading.Lock(), Counter[int]()

    def ask_twice() -> None:
        for turn in range(rounds):
            together.wait()
            for _ in range(2):
                if left(limiter, ("token", str(turn), Rate(5, "hour"))) >= 0:
                    with counting:
                        let_in[turn] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        run_together([ask_twice] * threads)
    finally:
        sys.setswitchinterval(interval)
    assert let_in == Counter(dict.fromkeys(range(rounds), 5))


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_a_forked_child_does_not_wait_for_its_parents_threads(where: str, request: pytest.FixtureRequest) -> None:
    url = "memory://" if where == "memory" else request.getfixturevalue("redis_server").url
    limiter = RateLimiter(url, fail_open=False)
    left(limiter, CLIENT_RATE)
    hit, asked, answered = limiter._hit, threading.Event(), threading.Event()

    def wait(rates: Any) -> None:
        asked.set()
        answered.wait(30)

    at = time.monotonic()
    limiter._breaker._monotonic = lambda: at
    limiter._hit = wait  # type: ignore[method-assign]
    waiting = threading.Thread(target=limiter.hit, args=([TOKEN_RATE],))
    waiting.start()
    assert asked.wait(30)
    limiter._hit = hit  # type: ignore[method-assign]
    limiter._breaker._monotonic = lambda: at + 60
    try:
        # In memory, it does not know either what its parent has counted.
        expected = [2, 1, 0, -1, {"memory": 4, "redis": 3}[where]]
        assert in_child(lambda: [left(limiter, rate) for rate in [TOKEN_RATE] * 4 + [CLIENT_RATE]]) == expected
    finally:
        answered.set()
        waiting.join(30)


# In a request


def ask(world: World, text: str, rate_headers: str = "none") -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"in"]

    guarded = TokenGuardMiddleware(app, world.guard, scheme=AuthScheme(rate_headers=rate_headers))
    return Client(guarded).get("/", headers={"Authorization": f"Bearer {text}"})


@pytest.mark.parametrize("whose", ["token", "client"])
def test_one_too_many_is_told_when_to_come_back(world: World, whose: str) -> None:
    client = world.client()
    issued = world.issue(client=client.id, conditions=limited("2/hour") if whose == "token" else None)
    if whose == "client":
        world.issuer.set_conditions(client.id, limited("2/hour"), actor="tests")
    assert [ask(world, issued.text.reveal()).status_code for _ in range(4)] == [200, 200, 429, 429]
    answer = ask(world, issued.text.reveal())
    assert 1 <= int(answer.headers["Retry-After"]) <= 3600
    assert (answer.json["code"], answer.json["status"]) == ("rate_limited", 429)
    assert answer.json["detail"].startswith(f"Too many requests: the {whose}'s limit is 2/hour. Try again in ")
    assert "WWW-Authenticate" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


def test_all_tokens_of_a_client_share_its_rate(world: World) -> None:
    client = world.issuer.register("reports", "users:read", actor="tests", conditions=limited("3/hour"))
    texts = [world.issue(client=client.id).text.reveal() for _ in range(2)]
    assert [ask(world, texts[turn % 2]).status_code for turn in range(5)] == [200, 200, 200, 429, 429]


def test_a_successor_has_the_same_rate(world: World) -> None:
    issued = world.issue(conditions=limited("1/hour"))
    successor = world.rotate(issued.token.id)
    assert [ask(world, successor.text.reveal()).status_code for _ in range(2)] == [200, 429]


def test_who_would_be_refused_anyway_is_not_counted(world: World) -> None:
    issued = world.issue(conditions=Conditions.parse(["127.0.0.1"], rate="1/hour"))
    for _ in range(3):
        with pytest.raises(NetworkNotAllowed):
            world.guard.authenticate(issued.text, "192.0.2.1")
    world.guard.authenticate(issued.text, "127.0.0.1")


def test_no_headers_unless_asked_for(world: World) -> None:
    text = world.issue(conditions=limited("1/hour")).text.reveal()
    for _ in range(2):
        assert not [name for name, _ in ask(world, text).headers if "rate" in name.lower()]


def test_the_drafts_headers(world: World) -> None:
    text = world.issue(conditions=limited("2/minute")).text.reveal()
    for left_over in ("1", "0", "0"):
        headers = ask(world, text, "draft").headers
        assert headers["RateLimit-Policy"] == '"tokenguard";q=2;w=60'
        name, remaining, reset = headers["RateLimit"].split(";")
        assert (name, remaining) == ('"tokenguard"', f"r={left_over}")
        assert 1 <= int(reset.removeprefix("t=")) <= 60


def test_oktas_headers(world: World) -> None:
    text = world.issue(conditions=limited("2/minute")).text.reveal()
    for left_over in ("1", "0", "0"):
        headers = ask(world, text, "okta").headers
        assert (headers["X-Rate-Limit-Limit"], headers["X-Rate-Limit-Remaining"]) == ("2", left_over)
        assert 0 <= int(headers["X-Rate-Limit-Reset"]) - time.time() <= 61


@pytest.mark.parametrize("form", ["draft", "okta"])
def test_who_has_no_rate_is_told_of_none(world: World, form: str) -> None:
    headers = ask(world, world.issue().text.reveal(), form).headers
    assert not [name for name, _ in headers if "rate" in name.lower()]


def test_a_request_is_counted_once_however_often_it_is_asked_of(world: World) -> None:
    issued = world.issue(conditions=limited("1/hour"))
    guard = RequestGuard(world.guard, AuthScheme())
    environ = create_environ() | {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}"}
    for _ in range(3):
        guard.identify(environ)
        guard.admit(environ, ANY_TOKEN)
    with pytest.raises(InsufficientScope):
        guard.admit(environ, Requirement.scopes("groups:read"))


@pytest.mark.parametrize("requirement", [ANY_TOKEN, Requirement.scopes(any_of=["users:read"])], ids=["any", "any of"])
def test_a_request_is_counted_once_by_whatever_way_it_goes(world: World, requirement: Requirement) -> None:
    issued = world.issue(conditions=limited("2/hour"))
    guard = RequestGuard(world.guard, AuthScheme())

    def let_in() -> object:
        environ = create_environ() | {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}"}
        return guard.wave_through(environ, requirement) or guard.admit(environ, requirement)

    assert let_in()
    assert let_in()
    with pytest.raises(RateLimited):
        let_in()


def test_guards_within_each_other_count_a_request_once(world: World) -> None:
    """Also where a part requires more than the whole; each may still be told of it, and decides on its part."""
    issued = world.issue(conditions=limited("4/hour"))
    heard: list[str] = []
    hooks = Hooks(authenticated=[lambda identity, environ: heard.append(identity.token_id)])
    parts = {
        "/users": TokenGuardMiddleware(Response(), world.guard, "users:read", hooks=hooks),
        "/groups": TokenGuardMiddleware(Response(), world.guard, "groups:read"),
        "/other-header": TokenGuardMiddleware(Response(), world.guard, scheme=AuthScheme(headers=["X-API-Key"])),
    }
    http = Client(TokenGuardMiddleware(DispatcherMiddleware(Response(), parts), world.guard))
    token = {"Authorization": f"Bearer {issued.text.reveal()}"}
    paths = ["/users", "/groups", "/other-header", "/users"]
    assert [http.get(path, headers=token).status_code for path in paths] == [200, 403, 200, 429]
    assert heard == [issued.token.id]


def test_the_refusal_names_whose_it_is_to_the_operator(world: World) -> None:
    issued = world.issue(conditions=limited("1/hour"))
    world.guard.authenticate(issued.text)
    with pytest.raises(RateLimited, match="over the token's limit of 1/hour") as refused:
        world.guard.authenticate(issued.text)
    assert (refused.value.token_id, refused.value.client_id) == (issued.token.id, issued.token.client_id)


def test_a_limiter_is_told_whose_each_rate_is() -> None:
    class Recording:
        def hit(self, rates: Sequence[tuple[str, str, Rate]]) -> None:
            self.rates = list(rates)

    limiter = Recording()
    world = World(MemoryStore(), limiter=limiter)
    issued = world.issue(conditions=limited("2/hour"))
    world.issuer.set_conditions(issued.token.client_id, limited("3/minute"), actor="tests")
    world.guard.authenticate(issued.text)
    token, client = ("token", issued.token.id), ("client", issued.token.client_id)
    assert limiter.rates == [(*token, Rate(2, "hour")), (*client, Rate(3, "minute"))]


def test_a_rate_that_nothing_counts_lets_nobody_in() -> None:
    world = World(MemoryStore())
    issued = world.issue(conditions=limited("1/hour"))
    with pytest.raises(TemporarilyUnavailable) as refused:
        world.guard.authenticate(issued.text)
    assert refused.value.reason.startswith("there is a rate limit, but no limiter: set RATE_LIMIT_URL")
    # Somebody's application is in trouble, and the log warns whose.
    assert (refused.value.token_id, refused.value.client_id) == (issued.token.id, issued.token.client_id)


@pytest.mark.parametrize(("fail_open", "status"), [(True, 200), (False, 503)])
def test_whatever_keeps_it_from_counting_is_no_error_of_the_services(
    fail_open: bool, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", start)
    world = World(MemoryStore(), limiter=RateLimiter(fail_open=fail_open))
    assert ask(world, world.issue(conditions=limited("1/hour")).text.reveal()).status_code == status
    assert re.search(r"rate limits.*: RuntimeError", caplog.text)


# Redis


def test_a_fleet_shares_its_counts_in_redis(redis_server: RedisServer) -> None:
    here, there = RateLimiter(redis_server.url), RateLimiter(redis_server.url)
    assert [left(limiter, TOKEN_RATE, CLIENT_RATE) for limiter in (here, there, here, there, here)] == [2, 1, 0, -1, -1]
    assert left(there, CLIENT_RATE) == 1


def test_redis_is_asked_no_more_than_it_has_to_be(redis_server: RedisServer) -> None:
    """A request waits for each answer, one after the other."""
    limiter, client = RateLimiter(redis_server.url), redis_server.connect()
    limiter.hit([TOKEN_RATE])
    client.config_resetstat()
    limiter.hit([TOKEN_RATE])
    stats = client.info("commandstats")
    assert {name: stats[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "get", "ttl")} == {
        "evalsha": 1,
        "get": 2,
        "ttl": 1,
    }


def test_redis_holds_no_token_and_forgets_by_itself(redis_server: RedisServer) -> None:
    world = World(MemoryStore(), limiter=RateLimiter(redis_server.url))
    issued = world.issue(conditions=limited("5/minute"))
    assert ask(world, issued.text.reveal(), "draft").headers["RateLimit"].startswith('"tokenguard";r=4;')
    with redis_server.connect() as connection:
        (key,) = connection.keys()
        assert key.startswith((b"LIMITS:tokenguard/token/", b"LIMITS:LIMITER/tokenguard"))
        assert issued.token.id.encode() in key
        assert issued.text.reveal()[-40:].encode() not in key
        assert 0 < connection.ttl(key) <= 60


# Redis away


def test_a_redis_that_hangs_holds_few_requests_up_and_not_for_long(redis_server: RedisServer) -> None:
    for fail_open, while_away in ((True, 200), (False, 503)):
        limiter = RateLimiter(redis_server.url, fail_open=fail_open)
        world = World(MemoryStore(), limiter=limiter)
        text = world.issue(conditions=limited("100/hour")).text.reveal()
        waits = count_calls(limiter, "_ask")
        assert ask(world, text).status_code == 200
        redis_server.signal(signal.SIGSTOP)
        try:
            assert [ask(world, text).status_code for _ in range(20)] == [while_away] * 20  # or the test never ends
        finally:
            redis_server.signal(signal.SIGCONT)
        assert len(waits) < 20
        deadline = time.monotonic() + 20
        while not counts(limiter):
            assert time.monotonic() < deadline


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1", "unix:///nowhere.sock"])
def test_a_request_waits_for_redis_but_for_a_moment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made_with(url)
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (0.5, 0.5)
    assert attempts(settings["retry"], monkeypatch) == 2
    assert made_with(f"{url}?socket_timeout=2")["socket_timeout"] == 2


def made_with(url: str) -> dict[str, Any]:
    """Return the settings with which its connections are made."""
    storage: Any = RateLimiter(url)._limiter.storage
    settings: dict[str, Any] = storage.storage.connection_pool.connection_kwargs
    return settings


def count_calls(thing: Any, name: str) -> list[object]:
    """Return a list that grows by one with each call of that method."""
    method, calls = getattr(thing, name), list[object]()
    setattr(thing, name, lambda *args: calls.append(args) or method(*args))
    return calls


def counts(limiter: RateLimiter) -> bool:
    try:
        return limiter.hit([TOKEN_RATE]) is not None
    except LimiterUnavailable:
        return False


AWAY = "redis://someone:hunter2secret@127.0.0.1:1/0"


def test_with_redis_away_requests_pass_and_the_log_says_so_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(MemoryStore(), limiter=RateLimiter(AWAY))
    text = world.issue(conditions=limited("1/hour")).text.reveal()
    started = time.monotonic()
    for at, lines in ((0, 1), (1, 1), (59, 1), (60, 2), (119, 2), (120, 3)):
        monkeypatch.setattr(ratelimits_module.time, "monotonic", lambda at=at: started + at)
        answer = ask(world, text, "draft")
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers
        said = [record for record in caplog.records if "rate limits cannot be counted" in record.getMessage()]
        assert len(said) == lines
    assert {record.levelno for record in said} == {logging.ERROR}
    assert "hunter2secret" not in caplog.text


def test_with_redis_away_requests_are_refused_if_so_set(caplog: pytest.LogCaptureFixture) -> None:
    limiter = RateLimiter(AWAY, fail_open=False)
    world = World(MemoryStore(), limiter=limiter)
    client = world.client()
    answer = ask(world, world.issue(client=client.id, conditions=limited("1/hour")).text.reveal())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    with pytest.raises(LimiterUnavailable) as refused:
        limiter.hit([TOKEN_RATE])
    assert "hunter2secret" not in str(refused.value) + caplog.text
    # A caller without a rate is not held up.
    assert ask(world, world.issue(client=client.id).text.reveal()).status_code == 200


def test_the_operator_is_told_whose_request_could_not_be_counted() -> None:
    world = World(MemoryStore(), limiter=RateLimiter(AWAY, fail_open=False))
    issued = world.issue(conditions=limited("1/hour"))
    with pytest.raises(TemporarilyUnavailable, match=r"^rate limits: ConnectionError$") as refused:
        world.guard.authenticate(issued.text)
    assert refused.value.token_id == issued.token.id


def test_sentinels_that_are_away_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # By itself, the client would try each of them ten times, with pauses, while the request waits.
    pauses: list[float] = []
    monkeypatch.setattr("redis.retry.sleep", pauses.append)
    limiter = RateLimiter("redis+sentinel://127.0.0.1:1,127.0.0.1:2/service", fail_open=False)
    with pytest.raises(LimiterUnavailable, match="MasterNotFound"):
        limiter.hit([TOKEN_RATE])
    assert pauses == []


@pytest.mark.parametrize(("fail_open", "status"), [(True, 200), (False, 503)])
def test_a_cluster_that_is_away_keeps_no_service_from_starting(
    fail_open: bool, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client, unlike the others, connects when it is made."""
    url = "redis+cluster://someone:hunter2secret@127.0.0.1:1,127.0.0.1:2"
    limiter = RateLimiter(url, fail_open=fail_open)
    with pytest.raises(StoreUnavailable, match=r"^RedisClusterException$"):
        limiter.check()
    world = World(MemoryStore(), limiter=limiter)
    assert ask(world, world.issue(conditions=limited("1/hour")).text.reveal()).status_code == status
    assert re.search(r"rate limits.*: RedisClusterException", caplog.text)
    assert "hunter2secret" not in caplog.text


def test_the_options_decide_about_requests_that_cannot_be_counted() -> None:
    closed = open_limiter(Options.read({"RATE_LIMIT_URL": AWAY, "RATE_LIMIT_FAIL_OPEN": "no"}))
    assert closed is not None
    with pytest.raises(LimiterUnavailable):
        closed.hit([TOKEN_RATE])
    opened = open_limiter(Options.read({"RATE_LIMIT_URL": AWAY}))
    assert opened is not None
    assert opened.hit([TOKEN_RATE]) is None


@pytest.mark.parametrize(
    "url",
    [
        "", "hunter2secret", "nonsense://u:hunter2secret@h", "redis://u:hunter2secret@h:port", "memcached",
        "redis://u:hunter2secret@[::1", "http://u:hunter2secret@h",
        "memcached://hunter2secret", "etcd://hunter2secret", "redis+cluster://u:hunter2secret@h",
        "redis+sentinel://u:hunter2secret@127.0.0.1:1", "redis://u:hunter2secret@h:99999999",
        "redis://u:hunter2secret@h?x=1", "rediss://u:hunter2secret@h?ssl_cert_reqs=bogus", "unix:///x?y=hunter2secret",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_never_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^TOKENGUARD_RATE_LIMIT_URL: .*redis://host:6379") as refused:
        open_limiter(Options.read({"RATE_LIMIT_URL": url}))
    assert "hunter2secret" not in str(refused.value)


@pytest.mark.parametrize("fail_open", ["false", "", 0, None])
def test_what_could_be_taken_for_fail_open_is_refused(fail_open: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^fail_open must be True or False, not "):
        RateLimiter(fail_open=fail_open)
