from __future__ import annotations

from typing import Any

import pytest

from tokenguard import MemoryStore, Store, StoreBusy, memory
from tokenguard.events import Committed
from tokenguard.store import Record, Transaction

from .conftest import World
from .store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


def test_a_revocation_inside_of_another_change_is_not_lost_unsaid(world: World) -> None:
    issued = world.issue()

    def revoke(tx: Transaction) -> None:
        world.issuer.revoke(issued.token.id, actor="tests")

    with pytest.raises(StoreBusy, match="this thread is already in a transaction"):
        world.issuer.issue(issued.token.client_id, "users:read", actor="tests", provided=revoke)
    assert len(world.store.records()) == 1
    world.issuer.revoke(issued.token.id, actor="tests")
    assert world.store.events(1)[0].kind == "token.revoked"


def test_a_page_makes_no_more_records_than_it_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a walk over many tokens would make them all anew for each of its pages."""
    for _ in range(9):
        world.issue()
    made: list[Record] = []

    def make(*values: Any) -> Record:
        made.append(Record(*values))
        return made[-1]

    monkeypatch.setattr(memory, "Record", make)
    page = world.store.page(2, world.clock(), after=world.store.page(3, None)[-1].place)
    assert (len(page), len(made)) == (2, 5)
    assert page == world.store.records()[3:5]


def test_a_store_that_lacks_a_method_of_the_protocol_cannot_be_made() -> None:
    class Unfinished(Store):
        in_transaction = replicated = False

        def __init__(self) -> None:
            self.committed = Committed()

    with pytest.raises(TypeError, match=r"^Can't instantiate abstract class Unfinished .*standing"):
        Unfinished()  # type: ignore[abstract]
