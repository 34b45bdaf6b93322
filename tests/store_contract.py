"""What every store must do. A store's test file inherits this class and says how to make one."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tokenguard import Client, Scopes, Store, Token
from tokenguard.store import FEED_LIMIT, Change, EventKind

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
)


def change(kind: EventKind = EventKind.TOKEN_ISSUED, **data: object) -> Change:
    return Change(kind, 1_900_000_000_000_001, "tests", data)


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

    def test_an_empty_store_is_ready_and_knows_nobody(self, store: Store) -> None:
        store.check()
        assert store.find("A" * 16) is None
        assert store.client("billing") is None
        assert (store.clients(), store.tokens(), store.events(10)) == ([], [], [])
        assert store.feed(0) == (0, ())

    def test_what_was_put_is_found_unchanged(self, filled: Store) -> None:
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2)
        assert filled.client(CLIENT.id) == filled.client(CLIENT.name) == CLIENT
        assert filled.clients() == [CLIENT]
        assert filled.tokens() == filled.tokens(CLIENT.id) == [TOKEN]
        assert filled.tokens("another") == []

    @pytest.mark.parametrize(
        "near", ["", "a" * 16, "A" * 15, "A" * 17, "A" * 16 + " ", "%", "' OR 1=1 --", "\u0410" * 16]
    )
    def test_only_the_very_id_is_found(self, filled: Store, near: str) -> None:
        assert filled.find(near) is None

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
        assert filled.find(TOKEN.id) == (revoked, disabled, 4)
        assert len(filled.tokens()) == len(filled.clients()) == 1

    def test_a_transaction_sees_what_it_did(self, store: Store) -> None:
        with store.transaction() as tx:
            assert tx.client("billing") is None
            tx.put_client(CLIENT, change())
            assert tx.client("billing") == CLIENT
            assert tx.token(TOKEN.id) is None
            tx.put_token(TOKEN, change())
            assert tx.token(TOKEN.id) == TOKEN

    def test_a_transaction_that_fails_leaves_nothing_behind(self, filled: Store) -> None:
        def fail() -> None:
            with filled.transaction() as tx:
                tx.put_token(replace(TOKEN, revoked_at=5), change())
                tx.put_client(replace(CLIENT, id="client-2", name="other"), change())
                raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            fail()
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2)
        assert filled.clients() == [CLIENT]
        with filled.transaction() as tx:
            event = tx.put_token(TOKEN, change())
        assert event.number == 3

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
                tx.put_token(TOKEN, change())
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
        assert filled.tokens() == [older, TOKEN]
        assert filled.tokens(other.id) == [older]

    def test_threads_that_write_at_once_keep_the_count_whole(self, filled: Store) -> None:
        def write() -> None:
            for _ in range(10):
                with filled.transaction() as tx:
                    tx.put_token(TOKEN, change())

        threads = [threading.Thread(target=write) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [event.number for event in filled.feed(0).events] == list(range(1, 83))
        assert filled.feed(83) == (82, ())

    def test_upgrading_again_changes_nothing(self, filled: Store) -> None:
        before, after = filled.upgrade()
        assert before == after
        assert filled.find(TOKEN.id) == (TOKEN, CLIENT, 2)
