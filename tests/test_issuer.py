from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tokenguard import (
    Conditions,
    ConfigurationError,
    InvalidValue,
    IssuanceError,
    Issued,
    Issuer,
    MemoryStore,
    NetworkNotAllowed,
    Policy,
    ScopeCatalog,
    Scopes,
    StoreUnavailable,
    UnknownClient,
    UnknownToken,
)
from tokenguard.clock import LONGEST, SECOND, duration_text, parse_duration
from tokenguard.store import Transaction

from .canaries import raised, shown
from .conftest import World, works


def kinds(world: World) -> list[str]:
    return [event.kind for event in world.store.events(100)]


def test_registering_and_finding_by_id_or_name(world: World) -> None:
    client = world.issuer.register("billing", "users:read", actor="me")
    assert world.store.client(client.id) == world.store.client("billing") == client
    assert (client.enabled, client.scopes, client.created_at) == (True, Scopes(["users:read"]), world.clock())


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "\x1b[31mred", "a\u202eb", "x" * 101, None])
def test_a_name_that_would_break_a_line_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidValue, match="name"):
        world.issuer.register(name, "users:read", actor="me")
    assert kinds(world) == []


@pytest.mark.parametrize("client_id", ["", " x", "a\nb", "a\0b", "\ud800", "x" * 256, 5])
def test_an_id_that_no_store_or_line_could_hold_is_refused(world: World, client_id: str) -> None:
    with pytest.raises(InvalidValue, match=r"the id of a client|a client's id"):
        world.issuer.register("billing", "users:read", actor="me", client_id=client_id)
    assert kinds(world) == []
    assert world.issuer.register("billing", "users:read", actor="me", client_id="x" * 255).id == "x" * 255


def test_a_name_is_taken_only_once_nor_may_it_be_an_id(world: World) -> None:
    client = world.client()
    for taken in ("billing", client.id):
        with pytest.raises(IssuanceError, match="already a client"):
            world.issuer.register(taken, "users:read", actor="me")
    assert kinds(world) == ["client.registered"]


@pytest.mark.parametrize("scopes", ["users:write", "users:read users:write", "okta.*"])
def test_scopes_that_the_catalogue_does_not_know_are_refused_by_name(world: World, scopes: str) -> None:
    unknown = scopes.split()[-1]
    client = world.client()
    for attempt in (
        lambda: world.issuer.register("other", scopes, actor="me"),
        lambda: world.issuer.set_scopes(client.id, scopes, actor="me"),
        lambda: world.issuer.issue(client.id, scopes, actor="me"),
    ):
        with pytest.raises(IssuanceError, match=f"no scope '{unknown.replace('*', '.')}'; it has users:read"):
            attempt()
    assert kinds(world) == ["client.registered"]


def test_issuing_beyond_the_client_or_nothing_is_refused_by_name(world: World) -> None:
    client = world.client(scopes="users:read")
    with pytest.raises(IssuanceError, match="'billing' may not have 'users:manage'; it may have 'users:read'"):
        world.issue("users:read users:manage", client=client.id)
    with pytest.raises(IssuanceError, match=r"may not have 'users:\*'"):
        world.issue("users:*", client=client.id)
    for nothing in ("", " ", []):
        with pytest.raises(IssuanceError, match="must have at least one scope"):
            world.issuer.issue(client.id, nothing, actor="me")
    assert kinds(world) == ["client.registered"]


def test_what_the_clients_scopes_imply_may_be_issued(world: World) -> None:
    client = world.client(scopes="users:manage")
    assert world.issue("users:read", client=client.id).token.scopes == Scopes(["users:read"])


def test_a_token_is_what_was_asked_for(world: World) -> None:
    client = world.client()
    token, text = world.issuer.issue("billing", ["users:read"], name="nightly", expires_in=90, actor="me")
    assert (token.client_id, token.name, token.scopes) == (client.id, "nightly", Scopes(["users:read"]))
    assert token.expires_at == world.clock() + 90 * SECOND
    assert token.id in text.reveal()
    assert [record.token for record in world.store.records(client.id)] == [token]


@pytest.mark.parametrize("seconds", [0, -1, 10**12, 1.5, "90", True])
def test_a_lifetime_that_is_none_is_refused(world: World, seconds: Any) -> None:
    with pytest.raises(InvalidValue, match="duration"):
        world.issue(expires_in=seconds)
    assert kinds(world) == ["client.registered"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("2m", 120), ("24h", 86_400), ("90d", 7_776_000), (" 1w ", 604_800), ("36600d", LONGEST)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "d", "9x", "-1d", "1.5h", "1d1h", "1 d", "٣d", "0s", "99999d", "9" * 40 + "d"]
)
def test_malformed_durations(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_duration(text)


@pytest.mark.parametrize("text", ["90d", "1h", "36h", "90s", "2m"])
def test_a_duration_is_shown_in_the_largest_unit_that_it_is_a_multiple_of(text: str) -> None:
    assert duration_text(parse_duration(text)) == text


def test_unknown_and_disabled_clients(world: World) -> None:
    for attempt in (
        lambda: world.issuer.disable("nobody", actor="me"),
        lambda: world.issuer.enable("nobody", actor="me"),
        lambda: world.issuer.set_scopes("nobody", "users:read", actor="me"),
        lambda: world.issuer.issue("nobody", "users:read", actor="me"),
    ):
        with pytest.raises(UnknownClient, match="no client has the id or name 'nobody'"):
            attempt()
    world.client()
    world.issuer.disable("billing", actor="me")
    with pytest.raises(IssuanceError, match="'billing' is disabled"):
        world.issuer.issue("billing", "users:read", actor="me")


def test_revoking_many_is_all_or_nothing(world: World) -> None:
    ids = [world.issue().token.id for _ in range(3)]
    with pytest.raises(UnknownToken, match="'nowhere'"):
        world.issuer.revoke(*ids, "nowhere", actor="me")
    assert all(token.revoked_at is None for token in (record.token for record in world.store.records()))
    assert len(world.issuer.revoke(*ids, ids[0], actor="me")) == 3
    assert all(token.revoked_at == world.clock() for token in (record.token for record in world.store.records()))


def test_what_changes_nothing_is_no_event(world: World) -> None:
    client = world.client()
    token = world.issue(client=client.id).token
    first = world.issuer.revoke(token.id, actor="me")
    world.issuer.disable(client.id, actor="me")
    before = kinds(world)
    world.clock.move(100)
    assert world.issuer.revoke(token.id, actor="me") == first
    world.issuer.disable(client.id, actor="me")
    world.issuer.set_scopes(client.id, client.scopes, actor="me")
    assert kinds(world) == before


def test_a_revocation_may_say_why(world: World) -> None:
    token, text = world.issue()
    for reason, error in [
        ("two\nlines", "a reason must be printable"),
        ("x" * 256, "at most 255"),
        (text.reveal(), "token"),
    ]:
        with pytest.raises(InvalidValue, match=error):
            world.issuer.revoke(token.id, actor="me", reason=reason)
    assert works(world, Issued(token, text))
    world.issuer.revoke(token.id, actor="me", reason="it was in a pastebin")
    (event,) = world.store.events(1)
    assert event.data == {"revoked_at": [None, world.clock()], "reason": [None, "it was in a pastebin"]}


def test_every_change_is_one_event_with_who_what_and_when(world: World) -> None:
    client = world.issuer.register("billing", "users:manage", actor="ann")
    token = world.issuer.issue(client.id, "users:read", name="ci", expires_in=60, actor="bob").token
    world.issuer.set_scopes(client.id, "users:read", actor="cy")
    world.issuer.disable(client.id, actor="di")
    world.issuer.enable(client.id, actor="ed")
    world.issuer.revoke(token.id, actor="flo")
    events = world.store.events(100)
    assert [(e.number, e.kind, e.actor, e.client_id, e.token_id) for e in events] == [
        (1, "client.registered", "ann", client.id, None),
        (2, "token.issued", "bob", client.id, token.id),
        (3, "client.scopes_changed", "cy", client.id, None),
        (4, "client.disabled", "di", client.id, None),
        (5, "client.enabled", "ed", client.id, None),
        (6, "token.revoked", "flo", client.id, token.id),
    ]
    assert {event.at for event in events} == {world.clock()}
    assert events[2].data == {"scopes": [["users:manage"], ["users:read"]]}
    assert events[3].data == {"enabled": [True, False]}
    assert events[5].data == {"revoked_at": [None, world.clock()]}
    assert events[1].data["expires_at"] == [None, token.expires_at]
    assert not any(token.digest in str(event) for event in events)
    assert len({event.id for event in events}) == 6


@pytest.mark.parametrize("actor", ["", "x" * 256, "a\nb", " a", None])
def test_an_actor_that_is_none_is_refused_and_nothing_is_done(world: World, actor: str) -> None:
    with pytest.raises(InvalidValue, match="actor"):
        world.issuer.register("billing", "users:read", actor=actor)
    assert world.store.clients() == []


def test_without_a_key_everything_works_but_issuing() -> None:
    issuer = Issuer(MemoryStore(), None, catalog=ScopeCatalog())
    issuer.register("billing", "anything", actor="me")
    with pytest.raises(ConfigurationError, match="signing key"):
        issuer.issue("billing", "anything", actor="me")


def test_the_new_text_is_not_in_a_traceback_when_the_store_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    minted = []
    mint = world.tokens.mint
    monkeypatch.setattr(world.tokens, "mint", lambda: minted.append(mint()) or minted[-1])  # type: ignore[func-returns-value]

    @contextmanager
    def down():  # type: ignore[no-untyped-def]
        raise StoreUnavailable("down")
        yield

    client = world.client()
    monkeypatch.setattr(world.store, "transaction", down)
    trace = shown(raised(partial(world.issue, client=client.id)))
    assert minted[0].id in trace
    assert minted[0].text.reveal()[-75:] not in trace


def test_a_tokens_text_is_not_kept_under_another_name(world: World) -> None:
    issued = world.issue()
    text = issued.text.reveal()
    for attempt in (
        lambda: world.issuer.register(text, "users:read", actor="me"),
        lambda: world.issuer.issue("billing", "users:read", name=text, actor="me"),
        lambda: world.issuer.disable("billing", actor=f"by {text}"),
    ):
        with pytest.raises(InvalidValue, match="must not be the text of a token") as refused:
            attempt()
        assert text[-75:] not in str(refused.value)
    assert kinds(world) == ["client.registered", "token.issued"]


def test_the_actor_is_checked_even_where_nothing_changes(world: World) -> None:
    world.client()
    with pytest.raises(InvalidValue, match="actor"):
        world.issuer.enable("billing", actor="")


def test_a_condition_that_is_async_lets_nothing_be_done(world: World) -> None:
    async def forbid(tx: Transaction) -> None:
        raise IssuanceError("not now")

    token_id = world.issue().token.id
    for attempt in (
        lambda: world.issuer.issue("billing", "users:read", actor="me", provided=forbid),
        lambda: world.issuer.rotate(token_id, actor="me", provided=forbid),
        lambda: world.issuer.revoke(token_id, actor="me", provided=forbid),
        lambda: world.issuer.set_token_conditions(token_id, Conditions(), actor="me", provided=forbid),
    ):
        with pytest.raises(ConfigurationError, match="provided must be a plain function"):
            attempt()
    assert kinds(world) == ["client.registered", "token.issued"]


def test_what_is_given_in_place_of_an_id_is_named(world: World) -> None:
    issued: Any = world.issue()
    client: Any = world.store.clients()[0]
    for attempt, kind in (
        (lambda: world.issuer.issue(client, "users:read", actor="me"), "Client"),
        (lambda: world.issuer.disable(client, actor="me"), "Client"),
        (lambda: world.issuer.rotate(issued.text, actor="me"), "Secret"),
        (lambda: world.issuer.revoke([issued.token.id], actor="me"), "list"),  # type: ignore[arg-type]
        (lambda: world.issuer.revoke(issued.token.id, issued.token, actor="me"), "Token"),
        (lambda: world.issuer.set_token_conditions(issued, Conditions(), actor="me"), "Issued"),
    ):
        with pytest.raises(InvalidValue, match=f"must be a string, not {kind}$"):
            attempt()
    assert kinds(world) == ["client.registered", "token.issued"]


def test_a_policy_that_is_async_is_refused() -> None:
    class Forbids(Policy):
        async def check(self, *given: Any, **more: Any) -> None:  # type: ignore[override]
            raise AssertionError("never begins")

    with pytest.raises(ConfigurationError, match="an async one forbids nothing"):
        Issuer(MemoryStore(), None, policy=Forbids())


def test_a_clock_that_counts_seconds_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^a clock must return whole microseconds since the epoch"):
        Issuer(MemoryStore(), None, clock=lambda: 1_900_000_000)


def test_many_scopes_cost_little() -> None:
    """Every scope is held and implies another: what follows from them was worked out when the catalogue was made."""
    names = [f"s{number}" for number in range(400)]
    catalog = ScopeCatalog({name: {"implies": [names[n - 1]] if n else []} for n, name in enumerate(names)})
    assert catalog.effective(Scopes([names[-1]]), Scopes(names)) == Scopes(names)
    assert catalog.effective(Scopes(names), Scopes([names[10]])) == Scopes(names[:11])


def test_no_token_outlives_the_end_that_is_set_to_it(world: World) -> None:
    client, now = world.client().id, world.clock()
    for length, end in ((None, 50), (100, 50), (20, 20)):
        token = world.issue(client=client, expires_in=length, not_after=now + 50 * SECOND).token
        assert token.expires_at == now + end * SECOND
    for lasting in ({}, {"expires_in": 100}):
        old = world.issue(client=client, **lasting).token
        new = world.issuer.rotate(old.id, actor="me", overlap=1, not_after=now + 50 * SECOND).token
        assert new.expires_at == now + 50 * SECOND
    before = kinds(world)
    for wrong in (now, now - 1, now + 101 * 366 * 86_400 * SECOND):
        with pytest.raises(IssuanceError, match="would end at"):
            world.issue(client=client, not_after=wrong)
    assert kinds(world) == before


def test_a_tokens_conditions_are_changed_at_once_and_on_record(world: World) -> None:
    issued = world.issue()
    world.guard.authenticate(issued.text, "192.0.2.1")
    narrow = Conditions.parse(["10.0.0.0/8"], rate="5/minute")
    assert world.issuer.set_token_conditions(issued.token.id, narrow, actor="me").conditions == narrow
    with pytest.raises(NetworkNotAllowed):
        world.guard.authenticate(issued.text, "192.0.2.1")
    world.issuer.set_token_conditions(issued.token.id, narrow, actor="me")
    *_, event = world.store.events(100)
    assert (event.kind, event.actor) == ("token.conditions_changed", "me")
    assert event.data == {"conditions": [{}, {"allow": ["10.0.0.0/8"], "rate": "5/minute"}]}
    assert kinds(world).count("token.conditions_changed") == 1


def test_what_has_ended_keeps_its_conditions(world: World) -> None:
    issued = world.issue()
    with pytest.raises(UnknownToken):
        world.issuer.set_token_conditions("A" * 16, Conditions(), actor="me")
    world.issuer.revoke(issued.token.id, actor="me")
    with pytest.raises(IssuanceError, match="is revoked"):
        world.issuer.set_token_conditions(issued.token.id, Conditions.parse(["10.0.0.0/8"]), actor="me")
