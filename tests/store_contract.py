"""The contract of every store. A store's test file inherits this class and defines how to create the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tokenguard import (
    Client,
    Conditions,
    InvalidValue,
    Scopes,
    Store,
    StoreUnavailable,
    Token,
    UnknownClient,
    UnknownToken,
    Use,
)
from tokenguard.clock import DAY, SECOND, now
from tokenguard.store import (
    FEED_LIMIT,
    USE_INTERVAL,
    Change,
    Event,
    EventFilter,
    EventKind,
    NewUse,
    Place,
    Record,
    State,
    walk,
)
from tokenguard.tokens import Read

from .conftest import World, run_together

CLIENT = Client("client-1", "billing", Scopes(["users:*", "a.b"]), enabled=True, created_at=1_900_000_000_123_456)
TOKEN = Token(
    id="A" * 16,
    client_id=CLIENT.id,
    name="nightly – ü",
    scopes=Scopes(["users:read"]),
    digest="0" * 64,
    key_fingerprint="f" * 16,
    created_at=1_900_000_000_123_457,
    expires_at=4_000_000_000_000_001,
    conditions=Conditions.parse(["10.0.0.0/8", "2001:db8::/32"], ["10.1.0.0/16"], "100/minute"),
    idle_timeout=2_592_000_000_000,
)


def change(kind: EventKind = EventKind.TOKEN_ISSUED, **data: object) -> Change:
    return Change(kind, 1_900_000_000_000_001, "tests", data)


def new_use(at: int, address: str = "192.0.2.1", *scopes: str, **days: int) -> NewUse:
    return NewUse(TOKEN.id, at, address, frozenset(scopes), {int(day[1:]): count for day, count in days.items()})


def use_of(store: Store, token_id: str = TOKEN.id) -> Use | None:
    """Return what the store has on record of the token's last use; the token must be there."""
    record = store.find(token_id)
    assert record is not None
    return record.use


def write_until_done(store: Store, uses: Sequence[NewUse]) -> None:
    """Write the uses as the usage log does: retry what could not be written yet."""
    for _ in range(10_000):
        try:
            if not store.record_uses(uses):
                return
        except StoreUnavailable:
            continue  # it waits for another writer's very first use, but not for long
    raise AssertionError("it cannot be written at all")


def put_tokens(store: Store, count: int) -> list[Token]:
    """Put the client and that many tokens of it."""
    tokens = [replace(TOKEN, id=f"{number:016}") for number in range(count)]
    with store.transaction() as tx:
        tx.put_client(CLIENT, change())
        for token in tokens:
            tx.put_token(token, change())
    return tokens


class Listener:
    """Keeps the events that are announced to it on commit, and what else a test puts into ``heard``."""

    def __init__(self) -> None:
        self.heard: list[Event | None] = []

    def hear(self, events: Sequence[Event]) -> None:
        self.heard += events


class StoreContract:
    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, store: Store) -> Store:
        with store.transaction() as tx:
            tx.put_client(CLIENT, change(EventKind.CLIENT_REGISTERED))
            tx.put_token(TOKEN, change())
        return store

    @pytest.fixture
    def hurried(self) -> None:
        """Requested before the store: keeps a store that waits for other writers from waiting long."""

    def test_an_empty_store_is_ready_and_knows_nobody(self, store: Store) -> None:
        store.check()
        assert store.find("A" * 16) is None
        assert store.client("billing") is None
        assert (store.clients(), store.records(), store.events(10)) == ([], [], [])
        assert store.feed(0) == (0, ())

    def test_what_was_put_is_found_unchanged(self, filled: Store) -> None:
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2, None)
        assert filled.standing(Read.of(TOKEN)) == Record(TOKEN, CLIENT, 2).standing
        assert filled.client(CLIENT.id) == filled.client(CLIENT.name) == CLIENT
        assert filled.clients() == [CLIENT]
        assert filled.records() == filled.records(CLIENT.id) == [(TOKEN, CLIENT, 2, None)]
        assert filled.records("another") == []

    def test_what_is_known_of_another_issuers_token_is_found_at_once(self, filled: Store) -> None:
        stranger = "c" * 16
        assert filled.find_foreign("t" * 16, stranger) == (2, False, None, None)
        assert filled.find_foreign("t" * 16, CLIENT.id) == (2, False, CLIENT, None)
        assert filled.find_foreign(TOKEN.id, CLIENT.id) == (2, True, CLIENT, None)
        assert filled.find_foreign(TOKEN.id, stranger) == (2, True, None, None)
        assert filled.find_foreign("\x00", "\x00") == (2, False, None, None)
        # The client is found by its id alone, since a name may be any string.
        assert filled.find_foreign("", CLIENT.name) == (2, False, None, None)

    def test_uses_of_another_issuers_client_are_kept_under_its_id(self, filled: Store) -> None:
        foreign = replace(CLIENT, id="c" * 16, name="of another issuer")
        with filled.transaction() as tx:
            tx.put_client(foreign, change(EventKind.CLIENT_REGISTERED))
        use = new_use(500, "192.0.2.1", "users:read", d7=3)._replace(token_id=foreign.id)
        unknown = use._replace(token_id="x" * 16)
        assert filled.record_uses([use, unknown, new_use(700, d7=1)]) == set()
        assert filled.record_uses([use._replace(last_used_at=600, requests={7: 1, 8: 2})]) == set()
        known = Use(foreign.id, 600, "192.0.2.1", Scopes(["users:read"]))
        assert filled.find_foreign("t" * 16, foreign.id) == (3, False, foreign, known)
        assert filled.use_by_day(foreign.id) == {7: 4, 8: 2}
        assert filled.use_by_day(unknown.token_id) == {}
        assert filled.use_by_day(TOKEN.id) == {7: 1}

    @pytest.mark.parametrize(
        "near", ["", "a" * 16, "A" * 15, "A" * 17, "A" * 16 + " ", "%", "' OR 1=1 --", "\u0410" * 16]
    )
    def test_only_the_very_id_is_found(self, filled: Store, near: str) -> None:
        assert filled.find(near) is filled.standing(Read(near, TOKEN.digest)) is None

    @pytest.mark.parametrize("ref", ["\ud800", "a\x00b", "\n", "a\nb", "x" * 100_000])
    def test_what_no_database_could_be_asked_for_is_unknown(self, filled: Store, ref: str) -> None:
        assert filled.find(ref) is filled.client(ref) is None
        issuer = World(filled).issuer
        with pytest.raises(UnknownToken):
            issuer.revoke(ref, actor="tests")
        with pytest.raises(UnknownClient):
            issuer.disable(ref, actor="tests")

    @pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 63 + "1", "0" * 64 + " ", "0" * 63 + "%"])
    def test_a_token_stands_only_for_its_very_text(self, filled: Store, digest: str) -> None:
        assert filled.standing(Read(TOKEN.id, digest)) is None

    def test_a_client_is_found_by_its_id_before_its_name(self, filled: Store) -> None:
        with filled.transaction() as tx:
            tx.put_client(replace(CLIENT, id="billing", name="other"), change())
            found = tx.client("billing")
        assert found is not None
        assert found.name == "other"
        assert filled.client("billing") == found

    def test_putting_again_replaces(self, filled: Store) -> None:
        revoked, disabled = replace(TOKEN, revoked_at=5), replace(CLIENT, enabled=False, scopes=Scopes())
        with filled.transaction() as tx:
            tx.put_token(revoked, change(EventKind.TOKEN_REVOKED))
            tx.put_client(disabled, change(EventKind.CLIENT_DISABLED))
        assert filled.find(TOKEN.id) == (revoked, disabled, 4, None)
        assert filled.standing(Read.of(TOKEN)) == Record(revoked, disabled, 4).standing
        assert len(filled.records()) == len(filled.clients()) == 1

    @pytest.mark.parametrize(
        "damage",
        [
            {"expires_at": 4e15 + 0.5},
            {"expires_at": "90d"},
            {"conditions": None},
            {"conditions": "100/minute"},
            {"conditions": {"rate": "100/minute"}},
            {"scopes": ["users:read"]},
            {"name": None},
        ],
        ids=str,
    )
    def test_what_could_not_be_read_back_is_not_written(self, filled: Store, damage: dict[str, Any]) -> None:
        """One such event in the feed, and no process could let anybody in any more."""
        before = filled.records(), filled.feed(0)
        (name,) = damage
        with pytest.raises(InvalidValue, match=f"{name} in tokenguard_token cannot be "), filled.transaction() as tx:
            tx.put_token(replace(TOKEN, **damage), change())
        with pytest.raises(InvalidValue, match="at in tokenguard_event cannot be 1"), filled.transaction() as tx:
            tx.put_client(CLIENT, replace(change(), at=1.0))  # type: ignore[arg-type]
        assert (filled.records(), filled.feed(0)) == before

    def test_a_text_that_is_replaced_stands_for_nothing(self, filled: Store) -> None:
        other = replace(TOKEN, digest="1" * 64)
        with filled.transaction() as tx:
            tx.put_token(other, change())
        assert filled.standing(Read.of(TOKEN)) is None
        assert filled.standing(Read.of(other)) == Record(other, CLIENT, 3).standing

    def test_a_transaction_sees_what_it_did(self, store: Store) -> None:
        with store.transaction() as tx:
            assert tx.client("billing") is None
            tx.put_client(CLIENT, change())
            assert tx.client("billing") == CLIENT
            assert tx.record(TOKEN.id) is None
            tx.put_token(TOKEN, change())
            assert tx.record(TOKEN.id) == (TOKEN, CLIENT, 2, None)

    def test_a_transaction_that_fails_leaves_nothing_behind(self, filled: Store) -> None:
        def fail() -> None:
            with filled.transaction() as tx:
                tx.put_token(replace(TOKEN, revoked_at=5, digest="1" * 64), change())
                tx.put_client(replace(CLIENT, id="client-2", name="other"), change())
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2, None)
        assert filled.standing(Read.of(TOKEN)) == Record(TOKEN, CLIENT, 2).standing
        assert filled.clients() == [CLIENT]
        with filled.transaction() as tx:
            event = tx.put_token(TOKEN, change())
        assert event.number == 3

    @pytest.mark.usefixtures("hurried")
    def test_a_transaction_inside_of_another_is_refused_or_a_part_of_it(self, filled: Store) -> None:
        other, refused = replace(CLIENT, id="client-2", name="other"), False
        with filled.transaction():
            try:
                with filled.transaction() as inner:
                    inner.put_client(other, change())
            except StoreUnavailable:
                refused = True
        assert filled.client(other.id) == (None if refused else other)
        with filled.transaction() as tx:
            tx.put_client(other, change())
        assert filled.client(other.id) == other

    @pytest.mark.usefixtures("hurried")
    def test_a_use_inside_of_a_transaction_is_written_or_tried_again(self, filled: Store) -> None:
        with filled.transaction() as tx:
            try:
                left = filled.record_uses([new_use(500, d7=1)])
            except StoreUnavailable:
                left = {TOKEN.id}
            tx.put_client(CLIENT, change())
        assert filled.use_by_day(TOKEN.id) == ({} if left else {7: 1})
        assert filled.record_uses([new_use(600, d8=1)]) == set()

    def test_what_waits_for_the_commit_is_called_then_or_never(self, filled: Store) -> None:
        seen: list[Event | None] = []

        def look() -> None:
            seen.append(filled.feed(3).events[-1])

        def fail() -> None:
            with filled.transaction() as tx:
                tx.on_commit(look)
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        with filled.transaction() as tx:
            event = tx.put_token(TOKEN, change())
            tx.on_commit(look)
            tx.on_commit(look)
            assert seen == []
        assert seen == [event, event]

    def test_what_is_committed_is_announced_before_anything_that_waits_for_it(self, filled: Store) -> None:
        listener = Listener()
        filled.committed.listen(listener.hear)

        def fail() -> None:
            with filled.transaction() as tx:
                tx.put_token(TOKEN, change())
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert listener.heard == []
        with filled.transaction() as tx:
            tx.on_commit(lambda: listener.heard.append(None))
            events = [tx.put_token(TOKEN, change()), tx.put_client(CLIENT, change())]
            assert listener.heard == []
        assert listener.heard == [*events, None]

    def test_who_hears_of_a_commit_finds_what_was_committed(self, filled: Store) -> None:
        class Looker:
            def look(self, events: Sequence[Event]) -> None:
                assert filled.feed(3).events == tuple(events)
                self.found = filled.find(TOKEN.id)

        looker, revoked = Looker(), replace(TOKEN, revoked_at=5)
        filled.committed.listen(looker.look)
        with filled.transaction() as tx:
            tx.put_token(revoked, change())
        assert looker.found == (revoked, CLIENT, 3, None)

    def test_whoever_is_gone_hears_no_more(self, filled: Store) -> None:
        listener, gone = Listener(), Listener()
        heard = gone.heard
        filled.committed.listen(gone.hear)
        filled.committed.listen(listener.hear)
        del gone
        with filled.transaction() as tx:
            event = tx.put_token(TOKEN, change())
        assert (listener.heard, heard) == ([event], [])

    def test_nothing_is_read_in_a_transaction_of_the_callers_by_itself(self, filled: Store) -> None:
        assert filled.in_transaction is False

    def test_events_are_numbered_without_gaps_each_with_an_id_of_its_own(self, filled: Store) -> None:
        with filled.transaction() as tx:
            third = tx.put_token(TOKEN, change(scopes=[["a"], ["ü", None]]))
        events = filled.events(10)
        assert [event.number for event in events] == [1, 2, 3]
        assert events[2] == third
        assert third.data == {"scopes": [["a"], ["ü", None]]}
        assert (third.kind, third.at, third.actor) == ("token.issued", 1_900_000_000_000_001, "tests")
        assert (third.client_id, third.token_id, events[0].token_id) == (CLIENT.id, TOKEN.id, None)
        assert len({event.id for event in events}) == 3
        assert filled.events(2) == events[1:]

    def test_the_feed_gives_the_counter_and_the_events_from_n_on_n_included(self, filled: Store) -> None:
        events = tuple(filled.events(10))
        assert filled.feed(0) == filled.feed(1) == (2, events)
        assert filled.feed(2) == (2, events[1:])
        assert filled.feed(3) == (2, ())

    def test_the_feed_is_bounded(self, filled: Store) -> None:
        with filled.transaction() as tx:
            for _ in range(FEED_LIMIT):
                tx.note(change(EventKind.POLICY_REFUSED))
        feed = filled.feed(1)
        assert feed.revision == FEED_LIMIT + 2
        assert [event.number for event in feed.events] == list(range(1, FEED_LIMIT + 1))

    def test_tokens_are_listed_oldest_first_and_clients_by_name(self, filled: Store) -> None:
        other = replace(CLIENT, id="client-0", name="accounts")
        older = replace(TOKEN, id="B" * 16, client_id=other.id, created_at=1)
        with filled.transaction() as tx:
            tx.put_client(other, change())
            tx.put_token(older, change())
        assert filled.clients() == [other, CLIENT]
        assert [record.token for record in filled.records()] == [older, TOKEN]
        assert [record.token for record in filled.records(other.id)] == [older]

    def test_threads_that_write_at_once_keep_the_count_whole(self, filled: Store) -> None:
        def write() -> None:
            for _ in range(10):
                with filled.transaction() as tx:
                    tx.put_token(TOKEN, change())

        run_together([write] * 8)
        assert [event.number for event in filled.feed(0).events] == list(range(1, 83))
        assert filled.feed(83) == (82, ())

    def test_upgrading_again_changes_nothing(self, filled: Store) -> None:
        before, after = filled.upgrade()
        assert before == after
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2, None)

    # Pages

    def test_a_page_has_what_a_record_calls_alive_and_nothing_else(
        self, filled: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, idle = TOKEN.created_at + 1000 * SECOND, 100 * SECOND
        monkeypatch.setattr(filled, "_clock", lambda: now)
        lives = [
            {},
            {"revoked_at": now - 1},
            {"expires_at": now},
            {"expires_at": now + 1},
            {"overlap_ends_at": now, "successor_id": "x"},
            {"overlap_ends_at": now + 1, "successor_id": "x"},
            {"idle_ended_at": now - 1},
            {"idle_timeout": now - TOKEN.created_at - USE_INTERVAL},
            {"idle_timeout": now - TOKEN.created_at - USE_INTERVAL + 1},
            {"idle_timeout": idle},
            {"idle_timeout": idle},
            {"expires_at": None, "idle_timeout": None},
        ]
        tokens = [replace(TOKEN, id=f"{number:016}", **life) for number, life in enumerate(lives)]
        with filled.transaction() as tx:
            for token in tokens:
                tx.put_token(token, change())
        for number, late in ((9, 0), (10, 1)):
            at = now - idle - USE_INTERVAL + late
            filled.record_uses([new_use(at)._replace(token_id=tokens[number].id)])
        alive = [record for record in filled.records() if record.state(now) == State.ACTIVE]
        assert [int(record.token.id) for record in alive[:-1]] == [0, 3, 5, 8, 10, 11]
        assert filled.page(100, now) == filled.page(100, now, client_id=CLIENT.id) == alive
        counted = [record for record in filled.records() if record in alive or record.token.successor_id]
        with filled.transaction() as tx:
            assert tx.alive_or_rotated(CLIENT.id, now) == counted != alive
            assert tx.alive_or_rotated("nobody", now) == []
            tx.put_client(replace(CLIENT, enabled=False), change())
        assert [record.token for record in filled.page(100, now)] == [record.token for record in alive]

    def test_pages_follow_one_another(self, filled: Store) -> None:
        other = replace(CLIENT, id="client-0", name="accounts")
        tokens = [replace(TOKEN, id=f"{number:016}", created_at=number // 3) for number in range(8)]
        with filled.transaction() as tx:
            tx.put_client(other, change())
            for number, token in reversed([*enumerate(tokens)]):  # so that the order of insertion is not theirs
                tx.put_token(replace(token, client_id=other.id) if number == 4 else token, change())
        seen, after = [], None
        for _ in range(3):
            page = filled.page(3, 5, client_id=CLIENT.id, after=after)
            seen.append([record.token.id for record in page])
            after = page[-1].place
        assert filled.page(3, 5, client_id=CLIENT.id, after=after) == []
        ids = [token.id for token in tokens]
        assert [record.token.id for record in filled.records()] == [*ids, TOKEN.id]
        assert seen == [ids[:3], [ids[3], ids[5], ids[6]], [ids[7], TOKEN.id]]
        assert [record.token.id for record in filled.page(2, 5, after=Place(1, ids[3]))] == ids[4:6]
        assert filled.page(2, 5, client_id="nobody") == []

    def test_the_token_that_was_rotated_into_another_is_found(self, filled: Store) -> None:
        rotated = replace(TOKEN, id="B" * 16, successor_id=TOKEN.id, overlap_ends_at=5)
        assert filled.predecessor(TOKEN) is None
        with filled.transaction() as tx:
            tx.put_token(rotated, change())
        assert (filled.predecessor(TOKEN), filled.predecessor(rotated)) == (rotated.id, None)

    def test_all_are_walked_through_however_many(self, filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tokens that have ended are included, and it does not matter that some are deleted on the way."""
        other = replace(CLIENT, id="client-0", name="accounts")
        tokens = [replace(TOKEN, id=f"{number:016}", created_at=number // 3, revoked_at=number) for number in range(8)]
        with filled.transaction() as tx:
            tx.put_client(other, change())
            for number, token in enumerate(tokens):
                tx.put_token(replace(token, client_id=other.id) if number % 2 else token, change())
        records, of_one = filled.records(), filled.records(CLIENT.id)
        monkeypatch.setattr("tokenguard.store.PAGE", 2)
        assert [*walk(filled, CLIENT.id)] == of_one
        assert [*walk(filled, "nobody")] == []
        seen = []
        for record in walk(filled):
            seen.append(record.token)
            with filled.transaction() as tx:
                tx.delete_tokens([record.token.id])
        assert seen == [record.token for record in records]
        assert [*walk(filled)] == []

    def test_it_has_a_clock_that_is_told_without_writing(self, filled: Store) -> None:
        before = filled.feed(0)
        with filled.transaction() as tx:
            assert abs(tx.now() - now()) < 5 * SECOND
        assert abs(filled.now() - now()) < 5 * SECOND
        assert filled.feed(0) == before

    def test_its_clock_goes_on_in_a_transaction(self, filled: Store) -> None:
        """A writer that has waited for another must not write the time from before it waited."""
        with filled.transaction() as tx:
            at = tx.now()
            assert any(tx.now() > at for _ in range(10_000))

    def test_a_clock_that_is_given_takes_its_place(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "_clock", lambda: 5)
        assert store.now() == 5

    # Use

    def test_a_use_is_found_with_the_token_and_changes_nothing_else(self, filled: Store) -> None:
        assert filled.record_uses([new_use(500, "2001:db8::1", "users:read", d7=3)]) == set()
        use = Use(TOKEN.id, 500, "2001:db8::1", Scopes(["users:read"]))
        assert filled.find(TOKEN.id) == filled.records()[0] == (TOKEN, CLIENT, 2, use)
        assert filled.standing(Read.of(TOKEN)) == Record(TOKEN, CLIENT, 2, use).standing
        with filled.transaction() as tx:
            assert tx.record(TOKEN.id) == tx.alive_or_rotated(CLIENT.id, 0)[0] == (TOKEN, CLIENT, 2, use)
        assert filled.use_by_day(TOKEN.id) == {7: 3}
        assert len(filled.events(10)) == 2

    def test_uses_add_up(self, filled: Store) -> None:
        filled.record_uses([new_use(500, "192.0.2.1", "users:read", d7=3)])
        filled.record_uses([new_use(600, "192.0.2.2", "a.b", d7=2, d8=1)])
        filled.record_uses([new_use(700, "192.0.2.3", d6=9)])
        assert use_of(filled) == Use(TOKEN.id, 700, "192.0.2.3", Scopes(["a.b", "users:read"]))
        assert list(filled.use_by_day(TOKEN.id).items()) == [(6, 9), (7, 5), (8, 1)]

    @pytest.mark.parametrize("late", [599, 600])
    def test_a_use_that_arrives_late_counts_but_turns_nothing_back(self, filled: Store, late: int) -> None:
        filled.record_uses([new_use(600, "192.0.2.2", d7=1)])
        filled.record_uses([new_use(late, "192.0.2.1", "users:read", d7=1)])
        assert use_of(filled) == Use(TOKEN.id, 600, "192.0.2.2", Scopes(["users:read"]))
        assert filled.use_by_day(TOKEN.id) == {7: 2}

    @pytest.mark.parametrize("known", [False, True])
    def test_a_use_of_a_host_whose_clock_is_fast_is_no_later_than_the_stores_own_time(
        self, filled: Store, known: bool
    ) -> None:
        before = now() - 1000  # SQLite's clock counts in milliseconds
        if known:
            filled.record_uses([new_use(500, "192.0.2.1")])
        filled.record_uses([new_use(now() + 365 * DAY, "192.0.2.2", "users:read", d7=1)])
        use = use_of(filled)
        assert use is not None
        assert before <= use.last_used_at <= now()
        assert (use.address, use.scopes) == ("192.0.2.2", Scopes(["users:read"]))
        assert filled.use_by_day(TOKEN.id) == {7: 1}

    def test_a_last_use_that_lies_in_the_future_gives_way_to_the_next(
        self, filled: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        at = now() - 60 * SECOND
        with monkeypatch.context() as fast:
            fast.setattr(filled, "_clock", lambda: at + 365 * DAY)
            filled.record_uses([new_use(at + 365 * DAY, "192.0.2.1", "users:read")])
        for use in (new_use(at, "192.0.2.2", "a.b"), new_use(at - 1, "192.0.2.3")):
            filled.record_uses([use])
            assert use_of(filled) == Use(TOKEN.id, at, "192.0.2.2", Scopes(["a.b", "users:read"]))

    def test_uses_of_unknown_tokens_are_passed_over(self, filled: Store) -> None:
        unknown = new_use(500, d7=1)._replace(token_id="B" * 16)
        assert filled.record_uses([unknown, new_use(500, d7=1)]) == set()
        assert filled.record_uses([]) == set()
        assert filled.use_by_day("B" * 16) == {}
        assert filled.use_by_day(TOKEN.id) == {7: 1}

    def test_uses_of_many_tokens_are_written_together(self, filled: Store) -> None:
        put_tokens(filled, 300)
        for known in (200, 300):  # first some of the tokens, then the same and more
            uses = [new_use(500 + known, d7=number, d8=1) for number in range(known)]
            uses = [use._replace(token_id=f"{number:016}") for number, use in enumerate(uses)]
            assert filled.record_uses(uses) == set()
        assert [filled.use_by_day(f"{number:016}") for number in (0, 199, 200, 299)] == [
            {7: 0, 8: 2},
            {7: 398, 8: 2},
            {7: 200, 8: 1},
            {7: 299, 8: 1},
        ]
        assert use_of(filled, f"{299:016}") == Use(f"{299:016}", 800, "192.0.2.1", Scopes())

    def test_threads_that_write_uses_at_once_lose_none(self, filled: Store) -> None:
        def write(number: int) -> None:
            for turn in range(10):
                uses = [new_use(1000 * turn + number, f"192.0.2.{number}", f"s{number}", d7=1, d8=2)]
                write_until_done(filled, uses)

        run_together([partial(write, number) for number in range(6)])
        assert use_of(filled) == Use(TOKEN.id, 9005, "192.0.2.5", Scopes([f"s{number}" for number in range(6)]))
        assert filled.use_by_day(TOKEN.id) == {7: 60, 8: 120}

    # The trail, and pruning it

    @pytest.mark.parametrize(
        ("which", "numbers"),
        [
            (EventFilter(), [1, 2, 3, 4, 5]),
            (EventFilter(client_id=CLIENT.id), [1, 2, 3, 4]),
            (EventFilter(client_id="nobody"), []),
            (EventFilter(token_id=TOKEN.id), [2, 3]),
            (EventFilter(kind="token.revoked"), [3]),
            (EventFilter(since=300), [1, 2, 3, 5]),
            (EventFilter(since=301), [1, 2, 5]),
            (EventFilter(after=3), [4, 5]),
            (EventFilter(after=5), []),
            (EventFilter(after=10**30), []),
            (EventFilter(after=-(10**30), since=-(10**30)), [1, 2, 3, 4, 5]),
            (EventFilter(since=10**30), []),
            (EventFilter(CLIENT.id, TOKEN.id, "token.issued", 300, 1), [2]),
            (EventFilter(CLIENT.id, TOKEN.id, "token.issued", 300, 2), []),
        ],
    )
    def test_events_are_chosen_by_every_condition(self, filled: Store, which: EventFilter, numbers: list[int]) -> None:
        with filled.transaction() as tx:
            tx.put_token(TOKEN, Change(EventKind.TOKEN_REVOKED, 300, "tests"))
            tx.note(Change(EventKind.POLICY_REFUSED, 200, "tests"), CLIENT.id)
            tx.note(Change(EventKind.PRUNED, 400, "tests"))
        found = filled.events(10, which)
        assert [event.number for event in found] == numbers
        assert filled.events(1, which) == found[-1:]

    def test_a_note_speaks_of_a_client_or_of_nobody(self, filled: Store) -> None:
        with filled.transaction() as tx:
            tx.note(change(EventKind.POLICY_REFUSED, rule=[None, "x"]), CLIENT.id)
            noted = tx.note(change(EventKind.PRUNED))
        assert (noted.number, noted.client_id, noted.token_id) == (4, "", None)
        assert filled.events(2)[0].client_id == CLIENT.id
        assert filled.events(1) == [noted]

    def test_tokens_are_deleted_with_their_use_and_leave_their_events(self, filled: Store) -> None:
        other = replace(TOKEN, id="B" * 16)
        with filled.transaction() as tx:
            tx.put_token(other, change())
        filled.record_uses([new_use(500, d7=1), new_use(600, d8=1)._replace(token_id=other.id)])
        with filled.transaction() as tx:
            assert tx.delete_tokens([TOKEN.id, "C" * 16]) == 1
            assert tx.delete_tokens([TOKEN.id]) == 0
            assert tx.delete_tokens([]) == 0
        assert filled.find(TOKEN.id) is filled.standing(Read.of(TOKEN)) is None
        assert [record.token for record in filled.records()] == [other]
        assert (filled.use_by_day(TOKEN.id), filled.use_by_day(other.id)) == ({}, {8: 1})
        assert len(filled.events(10)) == 3
        with filled.transaction() as tx:
            tx.put_token(TOKEN, change())
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 4, None)

    @pytest.mark.parametrize(
        ("before", "limit", "left"),
        [
            (100, 10, [1, 2, 3, 4, 5]),
            (101, 10, [2, 3, 4, 5]),
            (301, 1, [2, 3, 4, 5]),
            (301, 0, [1, 2, 3, 4, 5]),
            # The third is too young. The fourth is old enough, but stays because it follows: there must be no gaps.
            (301, 10, [3, 4, 5]),
            (9999, 10, [5]),
            (9999, 4, [5]),
        ],
    )
    def test_old_events_are_deleted_without_gaps_and_never_the_newest(
        self, store: Store, before: int, limit: int, left: list[int]
    ) -> None:
        with store.transaction() as tx:
            for at in (100, 200, 400, 300, 500):
                tx.note(Change(EventKind.PRUNED, at, "tests"))
        with store.transaction() as tx:
            assert tx.delete_events(before, limit) == 5 - len(left)
        assert [event.number for event in store.events(10)] == left
        feed = store.feed(5)
        assert (feed.revision, [event.number for event in feed.events]) == (5, [5])
        with store.transaction() as tx:
            assert tx.note(change(EventKind.PRUNED)).number == 6

    def test_an_empty_store_has_nothing_to_delete(self, store: Store) -> None:
        with store.transaction() as tx:
            assert (tx.delete_events(9999, 10), tx.delete_days(9999, 10)) == (0, 0)

    def test_old_days_are_deleted_some_at_a_time(self, filled: Store) -> None:
        filled.record_uses([new_use(500, d1=1, d2=1, d3=1, d4=1)])
        with filled.transaction() as tx:
            assert tx.delete_days(4, 2) == 2
        with filled.transaction() as tx:
            assert tx.delete_days(4, 10) == 1
            assert tx.delete_days(4, 10) == 0
        assert filled.use_by_day(TOKEN.id) == {4: 1}
        assert use_of(filled) is not None

    def test_no_more_days_are_deleted_than_are_counted(self, filled: Store) -> None:
        ids = [TOKEN.id, "B" * 16]
        with filled.transaction() as tx:
            tx.put_token(replace(TOKEN, id=ids[1]), change())
        filled.record_uses([new_use(500, d1=1)._replace(token_id=token_id) for token_id in ids])
        for left in (1, 0):
            with filled.transaction() as tx:
                assert tx.delete_days(4, 1) == 1
            assert sum(len(filled.use_by_day(token_id)) for token_id in ids) == left

    def test_what_was_deleted_in_a_transaction_that_fails_is_still_there(self, filled: Store) -> None:
        filled.record_uses([new_use(500, d7=1)])
        before = (filled.records(), filled.use_by_day(TOKEN.id), filled.events(10))

        def fail() -> None:
            with filled.transaction() as tx:
                tx.delete_days(9999, 10)
                tx.delete_tokens([TOKEN.id])
                tx.delete_events(9_999_999_999_999_999, 10)
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert (filled.records(), filled.use_by_day(TOKEN.id), filled.events(10)) == before
