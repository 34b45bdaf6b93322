"""Changes published over Redis: known at once while Redis is there, and nothing worse than late when it is not."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from tokenguard import (
    Conditions,
    ConfigurationError,
    Event,
    Hooks,
    InvalidToken,
    Issued,
    MemoryStore,
)
from tokenguard import push as push_module
from tokenguard.cli import command_tree
from tokenguard.config import Options
from tokenguard.push import MAX_BYTES, Publisher, Subscriber
from tokenguard.service import Service, open_store, publish
from tokenguard.store import Change, EventKind

from .child import Child
from .conftest import KEY, World, works
from .redis_server import RedisServer, attempts
from .services.common import CATALOG

NOWHERE = "redis://127.0.0.1:1/0"
CHANNEL = "tokenguard:evict:0"
ROOT = Path(__file__).parent.parent


class Forgotten:
    """Stands for a cache: notes what it is told to evict."""

    subscriber: Subscriber

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str]] = []

    def evict(self, token_id: str | None, client_id: str) -> None:
        self.told.append((token_id, client_id))


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(0.002)


def listeners(server: RedisServer, channel: str = CHANNEL) -> int:
    with server.connect() as connection:
        ((_, count),) = connection.pubsub_numsub(channel)
        return int(count)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tokenguard-push"]


@pytest.fixture
def server(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A real Redis; after the test, no thread listens to it any more."""
    monkeypatch.setattr(push_module, "PAUSES", (0.05, 0.1))
    monkeypatch.setattr(push_module, "LOOK_UP", 0.05)
    yield redis_server
    gc.collect()
    until(lambda: not threads())


@pytest.fixture
def cache(server: RedisServer) -> Iterator[Forgotten]:
    """A cache whose subscriber is already listening."""
    cache = Forgotten()
    cache.subscriber = Subscriber(server.url, cache)
    cache.subscriber.start()
    until(lambda: listeners(server) == 1)
    yield cache
    cache.subscriber._cache = weakref.ref(Forgotten())  # ends the thread, though pytest still holds the real cache


@pytest.fixture
def world(server: RedisServer) -> World:
    """A service whose changes are published."""
    world = World(MemoryStore())
    publish(Options.read({"PUSH_URL": server.url}), world.store)
    return world


def send(server: RedisServer, data: str | bytes) -> None:
    with server.connect() as connection:
        connection.publish(CHANNEL, data)


def test_the_rights_on_the_page_are_enough_and_open_nothing_else(server: RedisServer) -> None:
    acl = re.findall(r"^ACL SETUSER tokenguard .*PASSWORD.*$", (ROOT / "docs/production.md").read_text(), re.MULTILINE)
    with server.connect() as connection:
        connection.execute_command(*acl[0].split())
    url = server.url.replace("://", "://tokenguard:PASSWORD@")
    cache = Forgotten()
    Subscriber(url, cache).start()
    until(lambda: listeners(server) == 1)
    Publisher(url, MemoryStore()).tell([event()])
    until(lambda: cache.told)
    with redis.Redis.from_url(f"unix://tokenguard:PASSWORD@{server.socket}") as limited:
        for command in (["GET", "x"], ["SET", "x", "1"], ["PUBLISH", "another", "x"], ["CONFIG", "GET", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                limited.execute_command(*command)


# What is told


def test_what_may_change_an_answer_is_told_and_nothing_else(world: World, cache: Forgotten) -> None:
    client = world.client()
    issued, other, idle = (world.issue(client=client.id) for _ in range(3))
    world.rotate(issued.token.id)
    world.issuer.revoke(other.token.id, idle.token.id, actor="tests")
    world.issuer.disable(client.id, actor="tests")
    world.issuer.enable(client.id, actor="tests")
    world.issuer.set_scopes(client.id, "users:read", actor="tests")
    world.issuer.set_conditions(client.id, Conditions.parse(rate="1/day"), actor="tests")
    tokens = [(token.id, client.id) for token in (issued.token, other.token, idle.token)]
    until(lambda: len(cache.told) >= 7)
    assert cache.told == tokens + [(None, client.id)] * 4


def test_however_often_it_is_asked_for_a_change_is_told_once(
    world: World, server: RedisServer, cache: Forgotten
) -> None:
    publish(Options.read({"PUSH_URL": server.url}), world.store)
    issued = world.issue()
    world.issuer.revoke(issued.token.id, actor="tests")
    send(server, '[[null, "last"]]')
    until(lambda: (None, "last") in cache.told)
    assert cache.told == [(issued.token.id, issued.token.client_id), (None, "last")]


def test_what_is_undone_is_not_told(world: World, server: RedisServer, cache: Forgotten) -> None:
    issued = world.issue()
    with contextlib.suppress(ZeroDivisionError), world.store.transaction() as tx:
        tx.put_token(issued.token, Change(EventKind.TOKEN_REVOKED, 0, "tests"))
        raise ZeroDivisionError
    send(server, '[[null, "last"]]')
    until(lambda: cache.told)
    assert cache.told == [(None, "last")]


def test_many_at_once_are_told_in_several_messages(server: RedisServer, cache: Forgotten) -> None:
    publisher = Publisher(server.url, MemoryStore())
    events = [event(token_id=f"{number:016}") for number in range(2_500)]
    publisher.tell(events)
    until(lambda: len(cache.told) >= 2_500)
    assert cache.told == [(each.token_id, each.client_id) for each in events]


def test_no_secret_is_told(world: World, server: RedisServer) -> None:
    issued = world.issue()
    with server.connect() as connection, connection.pubsub() as everything:
        everything.psubscribe("*")
        assert everything.get_message(timeout=5)
        world.issuer.revoke(issued.token.id, actor="tests")
        message = everything.get_message(timeout=5)
    assert message["channel"] == CHANNEL.encode()
    assert json.loads(message["data"]) == [[issued.token.id, issued.token.client_id]]


def test_services_with_another_database_number_are_told_nothing(server: RedisServer, cache: Forgotten) -> None:
    other = Forgotten()
    subscriber = Subscriber(f"{server.url}?db=3", other)
    subscriber.start()
    until(lambda: listeners(server, "tokenguard:evict:3") == 1)
    Publisher(f"{server.url}?db=3", MemoryStore()).tell([event(client_id="third")])
    Publisher(server.url, MemoryStore()).tell([event(client_id="first")])
    until(lambda: other.told and cache.told)
    assert [client for _, client in cache.told + other.told] == ["first", "third"]


# What is not believed

HOSTILE = [
    b"", b"{", b"null", b"7", b'"evict"', b"{}", b"[]", b"[7]", b"[[]]", b'[["only"]]', b'[["a", "b", "c"]]',
    b'[["token", null]]', b'[[7, "client"]]', b'[[null, ["client"]]]', b'[[{}, "client"]]', b'[[true, "client"]]',
    b'{"0": [null, "client"]}', b"\xff\xfe\x00", b"[" * 60_000, b'[[null, "\xff"]]', b"9" * 10_000,
    b"[" + b'[null, "client"],' * (MAX_BYTES // 16) + b'[null, "client"]]',
]  # fmt: skip


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_message_of_ours_is_ignored(
    server: RedisServer, cache: Forgotten, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    send(server, message)
    send(server, '[[null, "last"]]')
    until(lambda: cache.told)
    assert cache.told == [(None, "last")]
    assert not caplog.records


def test_what_is_good_among_what_is_not_is_taken(server: RedisServer, cache: Forgotten) -> None:
    send(server, '[[null, "one"], 7, [1, 2], ["\\ud800", "two"]]')
    until(lambda: len(cache.told) == 2)
    assert cache.told == [(None, "one"), ("\ud800", "two")]


def test_a_message_as_large_as_redis_takes_does_not_end_it(server: RedisServer, cache: Forgotten) -> None:
    send(server, b"[" + b" " * 40_000_000 + b"]")  # more than Redis buffers for a listener, so it hangs up
    until(lambda: send(server, '[[null, "last"]]') or cache.told)
    assert set(cache.told) == {(None, "last")}


# Redis away


def test_a_revocation_is_none_the_worse_for_a_redis_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(MemoryStore())
    publish(Options.read({"PUSH_URL": "redis://someone:hunter2secret@127.0.0.1:1/0"}), world.store)
    started = time.monotonic()
    for at, lines in ((0, 1), (1, 1), (59, 1), (65, 2), (66, 2), (130, 3)):
        monkeypatch.setattr(push_module.time, "monotonic", lambda at=at: started + at)
        issued = world.issue(client=(world.store.client("billing") or world.client()).id)
        assert world.issuer.revoke(issued.token.id, actor="tests")
        said = [line for line in caplog.messages if "could not be published over Redis" in line]
        assert len(said) == lines
        assert all("ConnectionError" in line for line in said)
    assert "hunter2secret" not in caplog.text


def test_after_a_failure_redis_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    publisher = Publisher(NOWHERE, MemoryStore())
    monkeypatch.setattr(publisher._redis, "publish", lambda *_: asked.append(1) or 1 / 0)
    started = time.monotonic()
    for at, times in ((0, 1), (1, 1), (4.9, 1), (5, 2), (6, 2), (10, 3)):
        monkeypatch.setattr(push_module.time, "monotonic", lambda at=at: started + at)
        publisher.tell([event()])
        assert len(asked) == times


def test_a_redis_that_hangs_holds_nobody_up(server: RedisServer, cache: Forgotten) -> None:
    publisher = Publisher(server.url, MemoryStore())
    publisher.tell([event(client_id="before")])
    until(lambda: cache.told)
    server.signal(signal.SIGSTOP)
    try:
        publisher.tell([event(client_id="meanwhile")])  # must not wait, or the test would never end
        publisher.tell([event(client_id="left alone")])
    finally:
        server.signal(signal.SIGCONT)
    send(server, '[[null, "after"]]')
    until(lambda: (None, "after") in cache.told)
    assert (None, "left alone") not in [(None, client) for _, client in cache.told]


def test_a_listener_finds_redis_again(server: RedisServer, cache: Forgotten, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        server.kill()
        until(lambda: "changes are not published over Redis" in caplog.text)
        server.start()
        until(lambda: listeners(server) == 1)
        send(server, '[[null, "again"]]')
        until(lambda: cache.told)
        cache.told.clear()
    (said,) = (line for line in caplog.messages if "changes are not published over Redis" in line)  # once a minute
    assert "ConnectionError" in said
    assert len(threads()) == 1


def test_a_listener_notices_a_redis_that_is_silent_for_too_long(
    server: RedisServer, cache: Forgotten, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(push_module, "SILENCE", 0.1)
    time_of_ping = time.monotonic()
    until(lambda: time.monotonic() - time_of_ping > 0.5)
    assert not caplog.records  # Redis has been asked, and has answered
    server.signal(signal.SIGSTOP)
    try:
        until(lambda: "changes are not published over Redis for now" in caplog.text)
    finally:
        server.signal(signal.SIGCONT)
    until(lambda: send(server, '[[null, "again"]]') or cache.told)


def test_a_redis_that_answers_no_ping_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, at = Forgotten(), 0.0
    subscriber = Subscriber(NOWHERE, cache)
    pings: list[float] = []

    def little_comes(self: redis.client.PubSub, timeout: float) -> dict[str, Any] | None:
        nonlocal at
        at += timeout
        assert len(pings) < 3, "it is asked again and again"
        # Somebody's message, and the answer to the first ping.
        return {"type": "pong", "data": b""} if at in (5, 17) else None

    monkeypatch.setattr(push_module.time, "monotonic", lambda: at)
    monkeypatch.setattr(redis.client.PubSub, "subscribe", lambda self, channel: None)
    monkeypatch.setattr(redis.client.PubSub, "get_message", little_comes)
    monkeypatch.setattr(redis.client.PubSub, "ping", lambda self: pings.append(at))
    with pytest.raises(redis.TimeoutError):
        subscriber._follow(os.getpid())
    assert pings == [16, 28]
    assert at == 38
    subscriber._follow(os.getpid() + 1)  # as in a forked child of gevent's, which has its parent's threads
    assert at == 38


def test_a_listener_pauses_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Forgotten()
    subscriber = Subscriber(NOWHERE, cache)
    done: list[object] = []

    def fails(pid: int) -> None:
        done.append("attempt")
        if done.count("attempt") == 3:
            subscriber._cache = weakref.ref(Forgotten())  # this cache is gone at once
        raise redis.ConnectionError

    monkeypatch.setattr(subscriber, "_follow", fails)
    monkeypatch.setattr(push_module.time, "sleep", done.append)
    subscriber._listen(os.getpid())
    assert done[::2] == ["attempt"] * 3
    assert all(isinstance(pause, float) and 1 <= pause <= 3 for pause in done[1::2])


@pytest.mark.parametrize("url", [NOWHERE, "rediss://127.0.0.1:1", "unix:///nowhere.sock"])
def test_who_revokes_waits_for_each_step_but_once_and_not_for_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Publisher(url, MemoryStore())._redis.connection_pool.connection_kwargs
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (0.5, 0.5)
    assert attempts(settings["retry"], monkeypatch) == 1


def test_a_publisher_finds_redis_again(server: RedisServer, cache: Forgotten, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "PAUSE", 0.0)
    publisher = Publisher(server.url, MemoryStore())
    publisher.tell([event()])
    until(lambda: cache.told)
    server.kill()
    publisher.tell([event()])
    server.start()
    until(lambda: listeners(server) == 1)
    cache.told.clear()
    publisher.tell([event(client_id="again")])
    until(lambda: cache.told)


# Where it is listened to


def test_nobody_listens_before_there_is_something_to_remember(server: RedisServer) -> None:
    cache = Forgotten()
    subscriber = Subscriber(server.url, cache)
    assert listeners(server) == 0
    for _ in range(3):
        subscriber.start()
    until(lambda: listeners(server) == 1)
    assert len(threads()) == 1


def test_a_process_that_has_no_thread_to_spare_tries_again_later(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Forgotten()
    subscriber = Subscriber(server.url, cache)

    def fails(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", fails)
        subscriber.start()  # or the request that comes by here would fail
    assert "changes are not published over Redis for now" in caplog.text
    assert "RuntimeError" in caplog.text
    subscriber.start()
    until(lambda: listeners(server) == 1)


def test_a_cache_that_is_gone_takes_its_listener_with_it(server: RedisServer, cache: Forgotten) -> None:
    assert len(threads()) == 1
    child = Forgotten()
    Subscriber(server.url, child).start()
    until(lambda: listeners(server) == 2)
    del child
    gc.collect()
    until(lambda: listeners(server) == 1)


def test_a_forked_child_listens_for_itself(server: RedisServer, cache: Forgotten) -> None:
    def listen() -> object:
        cache.subscriber.start()
        until(lambda: cache.told)
        return cache.told

    child = Child(listen)
    until(lambda: listeners(server) == 2)
    send(server, '[[null, "both"]]')
    assert child.result() == [(None, "both")]
    until(lambda: cache.told)
    send(server, '[[null, "ours"]]')  # the child's end did not close this process's connection
    until(lambda: len(cache.told) == 2)
    assert listeners(server) == 1


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(0)", "os.kill(os.getpid(), 2)"])
def test_a_process_that_listens_ends_without_noise(server: RedisServer, ending: str) -> None:
    code = f"""
import os, signal, sys
from tokenguard.push import Subscriber
class Cache:
    evict = print
cache = Cache()
subscriber = Subscriber({server.url!r}, cache)
subscriber.start()
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
while subscriber._redis.pubsub_numsub({CHANNEL!r})[0][1] == 0:
    pass
{ending}
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


# From end to end: without push, each of these would take an hour

COMMANDS = {
    "tokenguard": ["tokenguard"],
    "flask": ["flask", "--app", "tests.services.flask_service", "tokenguard"],
    "manage.py": ["django", "tokenguard"],
}


def options(server: RedisServer, database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "PUSH_URL": server.url,
        "SIGNING_KEY": KEY,
        "STALENESS": "3600",
        "SCOPES": json.dumps(CATALOG),
    }


def worker(server: RedisServer, database_url: str) -> Service:
    """Return the service as another of its processes would have it."""
    given = Options.read(options(server, database_url))
    return Service.build(given, open_store(database_url), hooks=Hooks())


def lets_in(service: Service, issued: Issued) -> bool:
    try:
        service.requests.guard.authenticate(issued.text)
    except InvalidToken:
        return False
    return True


@pytest.mark.parametrize("command", COMMANDS)
def test_who_is_revoked_on_a_command_line_is_out_at_once(server: RedisServer, sqlite_url: str, command: str) -> None:
    service = worker(server, sqlite_url)
    service.store.upgrade()
    service.issuer.register("billing", "users:read", actor="tests")
    issued = service.issuer.issue("billing", "users:read", actor="tests")
    assert lets_in(service, issued)
    until(lambda: listeners(server) == 1)
    environ = {f"TOKENGUARD_{word}": value for word, value in options(server, sqlite_url).items()}
    environ |= {**os.environ, **environ, "DJANGO_SETTINGS_MODULE": "tests.services.django_settings"}
    revoke = [sys.executable, "-m", *COMMANDS[command], "revoke", issued.token.id]
    done = subprocess.run(revoke, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    until(lambda: not lets_in(service, issued))


def test_who_is_revoked_by_one_worker_is_out_of_the_other_at_once(server: RedisServer, sqlite_url: str) -> None:
    here, there = worker(server, sqlite_url), worker(server, sqlite_url)
    here.store.upgrade()
    client = here.issuer.register("billing", "users:read", actor="tests")
    one, two, three = (here.issuer.issue("billing", "users:read", actor="tests") for _ in range(3))
    assert all(lets_in(service, issued) for service in (here, there) for issued in (one, two, three))
    until(lambda: listeners(server) == 2)
    there.issuer.revoke(one.token.id, actor="tests")
    until(lambda: not lets_in(here, one))
    assert lets_in(here, two)
    there.issuer.disable(client.id, actor="tests")
    until(lambda: not lets_in(here, two) and not lets_in(here, three))
    there.issuer.enable(client.id, actor="tests")
    until(lambda: lets_in(here, two))


def test_who_can_write_to_redis_lets_nobody_in_and_keeps_nobody_out(server: RedisServer, sqlite_url: str) -> None:
    service = worker(server, sqlite_url)
    service.store.upgrade()
    service.issuer.register("billing", "users:read", actor="tests")
    good, revoked = (service.issuer.issue("billing", "users:read", actor="tests") for _ in range(2))
    service.issuer.revoke(revoked.token.id, actor="tests")
    assert lets_in(service, good)
    until(lambda: listeners(server) == 1)
    for issued in (good, revoked):
        pairs = [[issued.token.id, issued.token.client_id], [None, issued.token.client_id]]
        for message in (json.dumps(pairs), json.dumps(pairs[:1] * 1_000), issued.text.reveal(), *HOSTILE):
            send(server, message)
            assert lets_in(service, good)
            assert not lets_in(service, revoked)
    assert len(threads()) == 1


# Options


@pytest.mark.parametrize(
    "url",
    [
        "", "hunter2secret", "http://u:hunter2secret@h", "redis://u:hunter2secret@h:port", "memory://",
        "redis://u:hunter2secret@h:99999999", "redis://u:hunter2secret@[::1", "redis://u:hunter2secret@h?socket_timeout=x",
        "redis://u:hunter2secret@h?colour=red",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_never_quoted(url: str) -> None:
    options = Options.read({"PUSH_URL": url})
    with pytest.raises(ConfigurationError, match=r"^TOKENGUARD_PUSH_URL: .*redis://host:6379/0") as refused:
        publish(options, MemoryStore())
    assert "hunter2secret" not in f"{refused.value} {options!r}"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "tokenguard.push")
    monkeypatch.delattr("tokenguard.push")
    with pytest.raises(ConfigurationError, match=r"TOKENGUARD_PUSH_URL requires redis: pip install .*\[redis\]"):
        publish(Options.read({"PUSH_URL": "redis://127.0.0.1:1"}), MemoryStore())
    publish(Options.read({}), MemoryStore())


def test_what_cannot_be_told_keeps_nobody_from_revoking() -> None:
    """On an operator's machine that lacks what the service has."""
    world = World(MemoryStore())
    issued = world.issue()
    tree = command_tree(lambda: (Options.read({"PUSH_URL": "http://u:hunter2secret@h"}), world.store))
    done = CliRunner().invoke(tree, ["revoke", issued.token.id])
    assert (done.exit_code, works(world, issued)) == (0, False)
    assert "Note: services learn of this within TOKENGUARD_STALENESS, not at once: TOKENGUARD_PUSH_URL" in done.stderr
    assert "hunter2secret" not in done.stderr


def event(kind: str = "token.revoked", token_id: str = "t" * 16, client_id: str = "c" * 16) -> Event:
    return Event(1, "i" * 16, kind, 0, "tests", client_id, token_id, {})
