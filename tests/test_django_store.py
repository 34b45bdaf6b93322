"""Django's store beyond the contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from django.db import connections

from tokenguard.django.store import DjangoStore
from tokenguard.store import NewUse, Transaction

from .services.django_settings import database
from .store_contract import StoreContract


@pytest.fixture
def alias(database_url: str) -> Iterator[str]:
    """The alias of an empty database of each kind."""
    alias = "of_this_test"
    connections.databases[alias] = connections.configure_settings({"default": {}, alias: database(database_url)})[alias]
    yield alias
    connections[alias].close()
    del connections[alias], connections.databases[alias]


@pytest.fixture
def django_store(alias: str) -> DjangoStore:
    store = ThreadsStore(alias)
    store.upgrade()
    return store


class ThreadsStore(DjangoStore):
    """Closes what the threads of a test have opened, as Django does after each request."""

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._closing(), super().transaction() as tx:
            yield tx

    def record_uses(self, uses: Sequence[NewUse]) -> set[str]:
        with self._closing():
            return super().record_uses(uses)

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            if threading.current_thread() is not threading.main_thread():
                connections[self.using].close()


class TestDjangoStore(StoreContract):
    @pytest.fixture
    def store(self, django_store: DjangoStore) -> DjangoStore:
        return django_store
