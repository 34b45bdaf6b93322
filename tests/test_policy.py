"""The rules for issuing: each, its edge, and what breaks it; and what cannot be a rule."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from tokenguard import ConfigurationError, InvalidValue, MemoryStore, Policy, PolicyViolation
from tokenguard.config import Options, from_environ
from tokenguard.events import Change, EventKind
from tokenguard.policy import MIN_IDLE_TIMEOUT

from .conftest import World

DAY = 86_400


def world_with(**rules: Any) -> World:
    world = World(MemoryStore(), policy=Policy(**rules))
    world.client()
    return world


def refused(world: World, rule: str, **kwargs: Any) -> str:
    before = [record.token for record in world.store.records()]
    with pytest.raises(PolicyViolation) as violation:
        world.issue(**kwargs)
    assert violation.value.rule == rule
    assert str(violation.value).startswith(f"{rule}: ")
    assert [record.token for record in world.store.records()] == before
    return str(violation.value)


def test_without_rules_anything_goes() -> None:
    world = world_with()
    for _ in range(3):
        token = world.issue().token
        assert (token.name, token.expires_at, token.idle_timeout) == ("", None, None)


def test_an_expiry_may_be_asked_for() -> None:
    world = world_with(require_expiry=True)
    assert refused(world, "require_expiry") == "require_expiry: a token must have an expiry here"
    world.issue(expires_in=1)


def test_the_longest_lifetime_to_the_second() -> None:
    world = world_with(max_lifetime=90 * DAY)
    world.issue(expires_in=90 * DAY)
    message = refused(world, "max_lifetime", expires_in=90 * DAY + 1)
    assert message == "max_lifetime: a token may live for at most 90d here, but this one would live for 7776001s"
    # A token without an end lives longer than any limit.
    refused(world, "require_expiry")


def test_a_name_may_be_asked_for() -> None:
    world = world_with(require_name=True)
    assert refused(world, "require_name") == "require_name: a token must have a name here"
    world.issue(name="nightly")


def test_the_most_active_tokens_of_a_client() -> None:
    world = world_with(max_active_tokens=2)
    first = world.issue(expires_in=10)
    world.issue()
    message = refused(world, "max_active_tokens")
    assert message == "max_active_tokens: the limit of active tokens for each client is 2 here, and this one has 2"
    world.client("reports")
    world.issue(client="reports")  # another client's tokens are counted separately
    world.issuer.revoke(first.token.id, actor="tests")
    world.issue(expires_in=10)
    refused(world, "max_active_tokens")
    world.clock.move(10)  # expired tokens no longer count
    world.issue()
    refused(world, "max_active_tokens")


def test_a_rotation_takes_the_place_of_its_token() -> None:
    world = world_with(max_active_tokens=1)
    issued = world.issue()
    for _ in range(3):
        issued = world.rotate(issued.token.id, overlap=0)
    refused(world, "max_active_tokens")


def test_what_was_rotated_away_leaves_room_for_another_while_it_still_works() -> None:
    world = world_with(max_active_tokens=2)
    old = world.issue()
    world.rotate(old.token.id, overlap=DAY)
    world.issue()
    world.scopes_of(old)
    refused(world, "max_active_tokens")


def test_a_client_at_its_limit_rotates_each_of_its_tokens_once_until_the_overlap_is_over() -> None:
    world = world_with(max_active_tokens=2)
    first, second = world.issue(), world.issue()
    successors = [world.rotate(issued.token.id, overlap=DAY) for issued in (first, second)]
    for successor in successors:
        with pytest.raises(PolicyViolation, match=r"^max_active_tokens: .* this one has 2$"):
            world.rotate(successor.token.id, overlap=DAY)
    for issued in (first, second, *successors):
        world.scopes_of(issued)
    world.clock.move(DAY)
    for successor in successors:
        world.rotate(successor.token.id, overlap=DAY)


def test_a_client_below_its_limit_does_not_get_beyond_it_by_rotating_again_and_again() -> None:
    world = world_with(max_active_tokens=3)
    issued = world.issue()
    for _ in range(3):
        issued = world.rotate(issued.token.id, overlap=DAY)
    with pytest.raises(PolicyViolation, match=r"^max_active_tokens: "):
        world.rotate(issued.token.id, overlap=DAY)


def test_damaged_rows_that_succeed_each_other_are_counted_once() -> None:
    world = world_with(max_active_tokens=1)
    old = world.issue()
    new = world.rotate(old.token.id, overlap=DAY)
    with world.store.transaction() as tx:
        damaged = replace(new.token, successor_id=old.token.id, overlap_ends_at=world.clock() + DAY * 1_000_000)
        tx.put_token(damaged, Change(EventKind.TOKEN_ROTATED, world.clock(), "tests"))
        records = tx.alive_or_rotated(new.token.client_id, world.clock())
    with pytest.raises(PolicyViolation, match=r"^max_active_tokens: .* this one has 2$"):
        Policy(max_active_tokens=1).check(new.token, records, world.clock(), replaces=new.token.id)


def test_rules_that_became_stricter_hold_for_a_rotation() -> None:
    world = world_with()
    issued = world.issue()
    stricter = World(world.store, world.clock, policy=Policy(require_expiry=True))
    with pytest.raises(PolicyViolation, match=r"^require_expiry: "):
        stricter.rotate(issued.token.id)
    assert [record.token for record in world.store.records()] == [issued.token]
    world.scopes_of(issued)


def test_the_default_idle_timeout() -> None:
    world = world_with(idle_timeout=30 * DAY)
    assert world.issue().token.idle_timeout == 30 * DAY * 1_000_000
    assert world.issue(idle_timeout=DAY).token.idle_timeout == DAY * 1_000_000


def test_a_refusal_is_recorded_and_nothing_else_is() -> None:
    world = world_with(require_name=True)
    refused(world, "require_name")
    event = world.store.events(10)[-1]
    client = world.store.client("billing")
    assert client is not None
    assert (event.number, event.kind, event.actor, event.at) == (2, "policy.refused", "tests", world.clock())
    assert (event.client_id, event.token_id, dict(event.data)) == (client.id, None, {"rule": [None, "require_name"]})


@pytest.mark.parametrize("seconds", [1, 60, 0, -1, True, 90.0, "90d", 10**12])
def test_an_idle_timeout_that_uses_are_too_rarely_written_for(world: World, seconds: Any) -> None:
    with pytest.raises(InvalidValue, match=r"idle timeout|duration"):
        world.issue(idle_timeout=seconds)
    with pytest.raises(ConfigurationError, match=r"idle timeout|duration"):
        Policy(idle_timeout=seconds)
    assert world.store.records() == []
    assert len(world.store.events(10)) == 1


def test_the_shortest_idle_timeout(world: World) -> None:
    assert MIN_IDLE_TIMEOUT == 61
    assert world.issue(idle_timeout=61).token.idle_timeout == 61_000_000
    assert Policy(idle_timeout=61).idle_timeout == 61


@pytest.mark.parametrize(
    "rules",
    [
        {"max_lifetime": 0}, {"max_lifetime": -5}, {"max_lifetime": 10**12}, {"max_lifetime": "90d"},
        {"max_lifetime": True}, {"max_lifetime": 1.5}, {"max_active_tokens": 0}, {"max_active_tokens": -1},
        {"max_active_tokens": "3"}, {"max_active_tokens": True}, {"max_active_tokens": 1.5},
    ],
)  # fmt: skip
def test_a_rule_that_no_token_could_keep_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"duration|active tokens"):
        Policy(**rules)


# The same as options


def options(**words: Any) -> Options:
    return Options.read(words)


def test_every_rule_is_an_option() -> None:
    given = {"MAX_LIFETIME": "90d", "REQUIRE_EXPIRY": "yes", "MAX_ACTIVE_TOKENS": "3", "REQUIRE_NAME": "1"}
    environ = {f"TOKENGUARD_{word}": text for word, text in (given | {"IDLE_TIMEOUT": "30d"}).items()}
    from_texts = options(**from_environ(environ)).policy
    assert from_texts == Policy(90 * DAY, True, 3, 30 * DAY, True)
    values = {rule.name.upper(): getattr(from_texts, rule.name) for rule in fields(Policy)}
    assert options(**values).policy == from_texts
    assert options().policy == options(**from_environ({"TOKENGUARD_MAX_LIFETIME": ""})).policy == Policy()


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("MAX_LIFETIME", "soon"), ("MAX_LIFETIME", "0d"), ("MAX_LIFETIME", "90"), ("MAX_LIFETIME", "-1d"),
        ("MAX_LIFETIME", "999999999w"), ("MAX_LIFETIME", 0), ("MAX_LIFETIME", -1), ("MAX_LIFETIME", 1.5),
        ("MAX_LIFETIME", True), ("MAX_LIFETIME", []), ("MAX_LIFETIME", "٩d"),
        ("IDLE_TIMEOUT", "60s"), ("IDLE_TIMEOUT", "1m"), ("IDLE_TIMEOUT", 60), ("IDLE_TIMEOUT", "x"),
        ("MAX_ACTIVE_TOKENS", "0"), ("MAX_ACTIVE_TOKENS", 0), ("MAX_ACTIVE_TOKENS", "-1"),
        ("MAX_ACTIVE_TOKENS", "three"), ("MAX_ACTIVE_TOKENS", 2.0), ("MAX_ACTIVE_TOKENS", "9" * 5000),
        ("MAX_ACTIVE_TOKENS", "٣"), ("MAX_ACTIVE_TOKENS", False),
        ("REQUIRE_EXPIRY", "maybe"), ("REQUIRE_EXPIRY", 2), ("REQUIRE_EXPIRY", "truee"), ("REQUIRE_EXPIRY", []),
        ("REQUIRE_NAME", "on purpose"), ("REQUIRE_NAME", "2"),
        ("PROXIES", "-1"), ("PROXIES", "21"), ("PROXIES", "one"), ("PROXIES", "9" * 5000), ("PROXIES", True),
        ("RATE_HEADERS", "both"), ("RATE_HEADERS", ""), ("RATE_HEADERS", 1),
        ("RATE_LIMIT_FAIL_OPEN", "open"), ("STALENESS", "soon"), ("STALENESS", -1), ("STALE_GRACE", "nan"),
        ("STALE_GRACE", True), ("STALENESS", []), ("CACHE_SIZE", -1), ("CACHE_SIZE", "many"), ("RATE_LIMIT_URL", 5),
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_the_option_named(word: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^TOKENGUARD_{word}\\b"):
        options(**{word: value})
    if isinstance(value, str) and value:
        with pytest.raises(ConfigurationError, match=f"^TOKENGUARD_{word}\\b"):
            options(**from_environ({f"TOKENGUARD_{word}": value}))
