"""The guard: who is let in, and what a refusal gives away."""

from __future__ import annotations

import string
import time
from dataclasses import replace
from typing import Any

import pytest

from tokenguard import (
    ConfigurationError,
    Guard,
    InsufficientScope,
    InvalidToken,
    Issuer,
    MemoryStore,
    MissingToken,
    Requirement,
    Scopes,
    Secret,
    SigningKeys,
    TemporarilyUnavailable,
    TokenCache,
    TokenFormat,
    UsageLog,
)
from tokenguard.signing import Tagger
from tokenguard.store import Change, EventKind
from tokenguard.tokens import digest

from .canaries import our_frames
from .conftest import KEY, OTHER_KEY, CountingStore, World, mistyped


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def world(store: CountingStore) -> World:
    return World(store)


def refusal(world: World, text: str | Secret | None) -> str:
    with pytest.raises(InvalidToken) as refused:
        world.guard.authenticate(Secret(text) if isinstance(text, str) else text)
    assert refused.value.detail == InvalidToken.detail
    return refused.value.reason


def test_what_is_given_to_a_guard_is_looked_at_once_and_not_at_every_request() -> None:
    store, tokens = MemoryStore(), TokenFormat(SigningKeys(KEY))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"tokens": SigningKeys(KEY)}, r"^a guard requires TokenFormat\(SigningKeys\(…\)\), not SigningKeys$"),
        ({"tokens": KEY}, r"^a guard requires .*, not str$"),
        ({"limiter": "100/minute"}, "^a limiter must have a method hit"),
        # Where both stores have had as many events, what is revoked in the guard's would never be known.
        ({"cache": TokenCache(MemoryStore())}, "^a guard's cache must be a TokenCache of the guard's own store$"),
        # By these, no token would expire.
        ({"clock": time.time}, "^a clock must return whole microseconds since the epoch, as an int, not "),
        ({"clock": lambda: int(time.time() * 1000)}, "^a clock must return whole microseconds"),
        ({"cache": {}}, "^a guard's cache must be a TokenCache"),
        # In the other store nobody would find the uses, and tokens in use would end as idle.
        ({"usage": UsageLog(MemoryStore())}, "^a guard's usage log must be a UsageLog of the guard's own store$"),
        ({"catalog": ["users:read"]}, "^a catalogue must map each scope to its description"),
        ({"catalog": {"users:manage": {"implies": "users:read"}}}, "which is not in the catalogue$"),
    ]
    for given, message in wrong:
        with pytest.raises(ConfigurationError, match=message) as refused:
            Guard(store, **{"tokens": tokens, **given})
        assert KEY not in str(refused.value)


def test_a_mapping_of_scopes_is_a_catalogue() -> None:
    store, tokens = MemoryStore(), TokenFormat(SigningKeys(KEY))
    catalog = {"users:read": "Read users", "users:manage": {"implies": ["users:read"]}}
    issuer = Issuer(store, tokens, catalog=catalog)
    issuer.register("billing", "users:manage", actor="me")
    issued = issuer.issue("billing", "users:read", actor="me")
    assert Guard(store, tokens, catalog=catalog).authenticate(issued.text).scopes == Scopes(["users:read"])


def test_a_valid_token_is_its_client(world: World) -> None:
    client = world.client()
    issued = world.issue("users:manage", client=client.id, name="nightly")
    identity = world.guard.authenticate(issued.text)
    assert (identity.client_id, identity.client_name) == (client.id, "billing")
    assert identity.token_id == issued.token.id
    assert identity.scopes == Scopes(["users:manage", "users:read"])
    assert identity.issuer == "tokenguard"


def test_no_credential(world: World) -> None:
    with pytest.raises(MissingToken):
        world.guard.authenticate(None)


def test_every_change_of_one_character_is_refused_without_asking_the_store(world: World, store: CountingStore) -> None:
    text = world.issue().text.reveal()
    others = [*(string.ascii_letters + string.digits + "_"), "-", " ", "=", "\x00", "é", "А", "\n"]
    tried = 0
    for position, character in enumerate(text):
        for other in others:
            if other != character:
                refusal(world, text[:position] + other + text[position + 1 :])
                tried += 1
    assert tried > 6000
    assert store.asked == 0


def test_every_truncation_and_extension_is_refused_without_asking_the_store(world: World, store: CountingStore) -> None:
    text = world.issue().text.reveal()
    variants = [text[:end] for end in range(len(text))] + [text[start:] for start in range(1, len(text))]
    for extra in ["=", "==", "a", "0", "_", " ", "\n", "\x00", "é", text, "." + text, "a" * 100_000]:
        variants += [text + extra, extra + text]
    for variant in [*variants, text.upper(), text.lower(), text.swapcase(), text[:50] + " " + text[50:]]:
        refusal(world, variant)
    assert store.asked == 0


def test_a_forged_token_never_reaches_the_store(world: World, store: CountingStore) -> None:
    forged = TokenFormat(SigningKeys(OTHER_KEY)).mint()
    assert "signature" in refusal(world, forged.text)
    assert store.asked == 0


def test_the_signing_key_alone_makes_no_token(world: World) -> None:
    real = world.issue()
    unknown = world.tokens.mint()
    assert refusal(world, unknown.text) == "unknown"
    # Nor with the id of an existing token: the secret is random, and its digest is on record.
    signed = f"tg_{real.token.id}_{'0' * 32}"
    same_id = signed + Tagger(Secret(KEY)).tag(signed.encode()).decode()
    assert refusal(world, same_id) == "unknown"


def test_a_row_written_into_the_database_lets_nobody_in(world: World, store: CountingStore) -> None:
    """Writing rows gets nobody in without a signed text: the tag is missing."""
    real = world.issue()
    text = "tg_" + "A" * 16 + "_" + "B" * 75
    planted = replace(real.token, id="A" * 16, digest=digest(text.encode()))
    with store.transaction() as tx:
        tx.put_token(planted, Change(EventKind.TOKEN_ISSUED, 0, "intruder"))
    assert "signature" in refusal(world, text)


def test_expiry_is_honoured_to_the_second(world: World) -> None:
    issued = world.issue(expires_in=60)
    world.clock.move(59)
    world.guard.authenticate(issued.text)
    world.clock.move(0.999_999)
    world.guard.authenticate(issued.text)
    world.clock.move(0.000_001)
    assert refusal(world, issued.text) == "expired"
    world.clock.move(10**9)
    assert refusal(world, issued.text) == "expired"


def test_a_token_without_expiry_lives_on(world: World) -> None:
    issued = world.issue()
    world.clock.move(50 * 365 * 86_400)
    world.guard.authenticate(issued.text)


def test_a_revoked_token_is_refused_for_good(world: World) -> None:
    issued = world.issue()
    world.issuer.revoke(issued.token.id, actor="tests")
    assert refusal(world, issued.text) == "revoked"
    world.clock.move(-1000)
    assert refusal(world, issued.text) == "revoked"


def test_a_disabled_clients_tokens_are_refused_until_it_is_enabled(world: World) -> None:
    issued, other = world.issue(), world.issue(client=world.client("other").id)
    world.issuer.disable("billing", actor="tests")
    assert refusal(world, issued.text) == "client disabled"
    world.guard.authenticate(other.text)
    world.issuer.enable("billing", actor="tests")
    world.guard.authenticate(issued.text)


@pytest.mark.parametrize("end", ["revoked", "client disabled"])
def test_the_refusal_names_whose_it_is_to_the_operator(world: World, end: str) -> None:
    issued = world.issue()
    if end == "revoked":
        world.issuer.revoke(issued.token.id, actor="tests")
    else:
        world.issuer.disable("billing", actor="tests")
    with pytest.raises(InvalidToken, match=end) as refused:
        world.guard.authenticate(issued.text)
    assert (refused.value.token_id, refused.value.client_id) == (issued.token.id, issued.token.client_id)


def test_the_id_of_a_token_that_is_on_record_no_more_is_named_to_the_operator(world: World) -> None:
    unknown = world.tokens.mint()
    with pytest.raises(InvalidToken, match="unknown") as refused:
        world.guard.authenticate(unknown.text)
    assert (refused.value.token_id, refused.value.client_id) == (unknown.id, None)


def test_effective_scopes_follow_the_client(world: World) -> None:
    issued = world.issue("users:manage groups:read")
    assert world.scopes_of(issued) == Scopes.parse("users:manage users:read groups:read")
    world.issuer.set_scopes("billing", "users:read", actor="tests")
    assert world.scopes_of(issued) == Scopes.parse("users:read")
    world.issuer.set_scopes("billing", "", actor="tests")
    assert world.scopes_of(issued) == Scopes()
    world.issuer.set_scopes("billing", "*", actor="tests")
    assert world.scopes_of(issued) == Scopes.parse("users:manage users:read groups:read")


def test_authorize_returns_or_raises_with_the_scopes_named(world: World) -> None:
    identity = world.guard.authenticate(world.issue("users:read").text)
    world.guard.authorize(identity, Requirement(("users:read",)))
    world.guard.authorize(identity, Requirement())
    with pytest.raises(InsufficientScope) as refused:
        world.guard.authorize(identity, Requirement.scopes("users:manage", any_of=("groups:read", "x")))
    assert refused.value.scopes == ("users:manage", "groups:read", "x")
    assert "users:manage and any of groups:read x" in refused.value.detail
    assert (refused.value.token_id, refused.value.client_id) == (identity.token_id, identity.client_id)


def test_a_token_without_effective_scopes_may_do_nothing(world: World) -> None:
    issued = world.issue()
    world.issuer.set_scopes("billing", "", actor="tests")
    identity = world.guard.authenticate(issued.text)
    for name in world.catalog:
        with pytest.raises(InsufficientScope):
            world.guard.authorize(identity, Requirement((name,)))


def test_a_store_that_is_down_is_neither_yes_nor_no(
    world: World, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    issued = world.issue()
    store.down = True
    for _ in range(3):
        with pytest.raises(TemporarilyUnavailable) as refused:
            world.guard.authenticate(issued.text)
        assert refused.value.token_id == issued.token.id
    # A request that needs no store is still answered.
    refusal(world, "tg_garbage")
    # The log has the one time that the store was asked, not the requests that are turned away because of it.
    assert caplog.messages == ["the token store failed: the database cannot be used: connection refused"]


def test_what_has_ended_is_not_recalled_for_an_event_loop(world: World) -> None:
    issued = world.issue(expires_in=60)
    key = world.tokens.key(issued.text.reveal())
    world.guard.authenticate(issued.text)
    world.clock.move(59.999_999)
    assert world.guard.peek(key) is not None
    world.clock.move(0.000_001)
    assert world.guard.peek(key) is None


def test_no_text_of_a_token_is_in_a_traceback_with_its_locals(world: World, store: CountingStore) -> None:
    issued = world.issue()
    text = issued.text.reveal()
    forged = mistyped(text)
    store.down = True
    for canary in (text, forged):
        try:
            world.guard.authenticate(Secret(canary))
        except Exception as error:
            inside = our_frames(error)
            shown = "".join(str(frame.locals) for frame in inside)
        assert inside
        assert canary[-60:] not in shown
        assert KEY not in shown
