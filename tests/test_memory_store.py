from __future__ import annotations

import pytest

from tokenguard import MemoryStore, Store

from .store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()
