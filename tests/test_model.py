"""Any life of clients and tokens, in any order, against a model of plain dictionaries.

A few thousand steps in each run of the tests; ``MODEL_RUNS=50 pytest tests/test_model.py`` for fifty times as many.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from tokenguard import (
    Conditions,
    Guard,
    InvalidToken,
    IssuanceError,
    Issued,
    MemoryStore,
    NetworkNotAllowed,
    SigningKeys,
    Store,
    TokenFormat,
)
from tokenguard.clock import SECOND
from tokenguard.django.store import DjangoStore
from tokenguard.sqlalchemy import SQLAlchemyStore, metadata

from .conftest import KEY, StoppedClock, World, present, replayed
from .services.common import CATALOG

RUNS = int(os.environ.get("MODEL_RUNS", "1"))
# How many lives, and how many steps each: a database takes its time.
EXAMPLES = {"memory": 150, "sqlite": 40, "postgresql": 25, "django": 25}
STEPS = 50

TOKENS = TokenFormat(SigningKeys(KEY))
MINUTE = 60 * SECOND
SCOPES = st.sets(st.sampled_from(sorted(CATALOG)), min_size=1)
MOMENTS = st.sampled_from([1, 59, 60, 61, 119, 179, 180, 181, 3599, 3600, 3601, 86_400])
NEAR = st.sampled_from([-SECOND, -1, 0, 1, SECOND])
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"


class Worker:
    """A process of the service. Its clock never goes back; it holds uses that it has not written yet."""

    def __init__(self, store: Store, clock: StoppedClock) -> None:
        self.world = World(store, clock, tokens=TOKENS)
        self.seen = 0

    def now(self, clock: StoppedClock) -> int:
        self.seen = max(self.seen, clock())
        return self.seen


def implied(scopes: set[str]) -> set[str]:
    return scopes | ({"users:read"} if "users:manage" in scopes else set())


class Life(RuleBasedStateMachine):
    clients = Bundle("clients")
    tokens = Bundle("tokens")
    workers = st.integers(0, 1)

    def __init__(self, store: Store, clock: StoppedClock) -> None:
        super().__init__()
        self.store, self.clock = store, clock
        clock.micros = StoppedClock().micros
        self.running = [Worker(store, clock), Worker(store, clock)]
        # The model: what was done, in plain dictionaries.
        self.client: dict[str, dict[str, Any]] = {}
        self.token: dict[str, dict[str, Any]] = {}
        self.changes = 0
        self.crashed = False

    # What is done

    @initialize(target=clients)
    def register(self) -> Any:
        for name, scopes in (("billing", set(CATALOG)), ("reports", {"users:manage"})):
            client = self.running[0].world.client(name, " ".join(scopes))
            self.client[client.id] = {"scopes": scopes, "enabled": True}
            self.changes += 1
        return multiple(*self.client)

    @rule(
        target=tokens,
        client=clients,
        scopes=SCOPES,
        lifetime=st.none() | MOMENTS,
        idle=st.sampled_from([None, 61, 120, 3600]),
        inside=st.booleans(),
    )
    def issue(self, client: str, scopes: set[str], lifetime: int | None, idle: int | None, inside: bool) -> Any:
        conditions = Conditions.parse(["10.0.0.0/8"] if inside else [])
        allowed = self.client[client]["enabled"] and scopes <= implied(self.client[client]["scopes"])
        try:
            issued = self.running[0].world.issue(
                " ".join(scopes), client=client, expires_in=lifetime, idle_timeout=idle, conditions=conditions
            )
        except IssuanceError:
            assert not allowed
            return multiple()
        assert allowed
        self.changes += 1
        end = None if lifetime is None else self.clock() + lifetime * SECOND
        values = {"lifetime": lifetime, "expires": end, "idle": idle, "scopes": scopes, "inside": inside}
        return self.born(issued, client, values)

    @rule(target=tokens, old=tokens, overlap=st.sampled_from([0, 1, 60, 3600]), worker=workers)
    def rotate(self, old: Issued, overlap: int, worker: int) -> Any:
        known, now = self.token[old.token.id], self.clock()
        end = now + overlap * SECOND
        refused = (
            self.ended(known, now)
            or known["overlap"] is not None
            or not self.client[known["client"]]["enabled"]
            or not known["scopes"] <= implied(self.client[known["client"]]["scopes"])
            or (known["expires"] is not None and end > known["expires"])
        )
        try:
            issued = self.running[worker].world.rotate(old.token.id, overlap)
        except IssuanceError:
            assert refused
            return multiple()
        assert not refused or refused == "perhaps idle"
        self.changes += 2
        known["overlap"] = end
        lifetime = known["lifetime"]
        return self.born(
            issued, known["client"], known | {"expires": None if lifetime is None else now + lifetime * SECOND}
        )

    def born(self, issued: Issued, client: str, values: dict[str, Any]) -> Issued:
        fresh = {"client": client, "overlap": None, "revoked": None, "idle_ended": None, "uses": 0, "asked": set()}
        self.token[issued.token.id] = values | fresh | {"alive_at": self.clock()}
        return issued

    @precondition(lambda self: len(self.token) > 2)
    @rule(issued=tokens, worker=workers)
    def revoke(self, issued: Issued, worker: int) -> None:
        (token,) = self.running[worker].world.issuer.revoke(issued.token.id, actor="tests")
        known = self.token[token.id]
        if known["revoked"] is None:
            known["revoked"] = self.clock()
            self.changes += 1
        assert token.revoked_at == known["revoked"]

    @rule(client=clients, enabled=st.sampled_from([True, True, False]), worker=workers)
    def switch(self, client: str, enabled: bool, worker: int) -> None:
        issuer = self.running[worker].world.issuer
        (issuer.enable if enabled else issuer.disable)(client, actor="tests")
        self.changes += self.client[client]["enabled"] != enabled
        self.client[client]["enabled"] = enabled

    @rule(client=clients, scopes=st.just(set(CATALOG)) | st.sets(st.sampled_from(sorted(CATALOG))))
    def change_scopes(self, client: str, scopes: set[str]) -> None:
        self.running[0].world.issuer.set_scopes(client, scopes, actor="tests")
        self.changes += self.client[client]["scopes"] != scopes
        self.client[client]["scopes"] = scopes

    @rule(seconds=MOMENTS, back=st.sampled_from([1, 1, 1, -1]))
    def move_clock(self, seconds: int, back: int) -> None:
        self.clock.move(seconds * back)

    @rule(worker=workers, killed=st.booleans())
    def restart(self, worker: int, killed: bool) -> None:
        if not killed:
            self.running[worker].world.usage.write(everything=True)
        self.crashed |= killed
        self.running[worker] = Worker(self.store, self.clock)

    @rule(
        issued=tokens,
        worker=workers,
        edge=st.sampled_from(["expires", "overlap", "timeout", "idle"]),
        off=NEAR,
        again=st.booleans(),
    )
    def use_at_an_edge(self, issued: Issued, worker: int, edge: str, off: int, again: bool) -> None:
        """Move the clock to an end or a moment beside it, use the token, and perhaps move back and use it again."""
        known = self.token[issued.token.id]
        end = known["idle" if edge == "timeout" else edge]
        if edge in {"timeout", "idle"} and end is not None:
            end = known["alive_at"] + known["idle"] * SECOND + (MINUTE if edge == "idle" else 0)
        if end is None:
            return
        before, self.clock.micros = self.clock(), end + off
        self.use(issued, worker, INSIDE)
        if again:
            self.clock.micros = before
            self.use(issued, worker, INSIDE)
            self.use(issued, 1 - worker, INSIDE)

    @rule(issued=tokens, worker=workers, address=st.sampled_from([INSIDE, INSIDE, OUTSIDE]))
    def use(self, issued: Issued, worker: int, address: str) -> None:
        known, process = self.token[issued.token.id], self.running[worker]
        client = self.client[known["client"]]
        now = process.now(self.clock)
        expected = self.ended(known, now) or ("" if client["enabled"] else "client disabled")
        outcome = self.outcome(process.world.guard, issued, address)
        if expected == "perhaps idle":
            expected = outcome if outcome == "idle" else ("" if client["enabled"] else "client disabled")
        if not expected and known["inside"] and address == OUTSIDE:
            expected = "network"
        assert outcome == expected
        if outcome == "idle":
            self.found_idle(issued, known)
        if not outcome:
            effective = implied(known["scopes"]) & implied(client["scopes"])
            assert set(process.world.guard.authenticate(issued.text, address).scopes) == effective
            process.world.use(issued, *sorted(effective), address=address)
            known["uses"] += 1
            known["asked"] |= effective
            known["alive_at"] = max(known["alive_at"], self.clock())

    # What the model says

    def ended(self, known: dict[str, Any], now: int) -> str:
        """Return how the token has ended by ``now``, if it has; ``perhaps idle`` while a use may be recorded late."""
        if known["revoked"] is not None:
            return "revoked"
        if known["idle_ended"] is not None:
            return "idle"
        if known["overlap"] is not None and now >= known["overlap"]:
            return "rotated"
        if known["expires"] is not None and now >= known["expires"]:
            return "expired"
        if known["idle"] is None or now < known["alive_at"] + known["idle"] * SECOND:
            return ""
        return "idle" if now >= known["alive_at"] + known["idle"] * SECOND + MINUTE else "perhaps idle"

    def outcome(self, guard: Guard, issued: Issued, address: str) -> str:
        try:
            guard.authenticate(issued.text, address)
        except NetworkNotAllowed:
            return "network"
        except InvalidToken as refused:
            return refused.reason
        return ""

    def found_idle(self, issued: Issued, known: dict[str, Any]) -> None:
        """A token ends for good by the store's clock, not by that of the process, which may have been ahead."""
        if known["idle_ended"] is not None:
            return
        record = self.store.find(issued.token.id)
        assert record is not None
        by_store = self.ended(known, self.clock())
        recorded = record.token.idle_ended_at
        assert by_store == "perhaps idle" or (recorded is not None) is (by_store == "idle")
        known["idle_ended"] = recorded
        self.changes += recorded is not None

    def teardown(self) -> None:
        for process in self.running:
            process.world.usage.write(everything=True)
        events = self.store.events(10_000)
        assert [event.number for event in events] == list(range(1, self.changes + 1))
        assert replayed(events) == present(self.store)
        for client in self.store.clients():
            assert {"scopes": set(client.scopes), "enabled": client.enabled} == self.client[client.id]
        assert {record.token.id for record in self.store.records()} == self.token.keys()
        for record in self.store.records():
            self.check(record.token.id)

    def check(self, token_id: str) -> None:
        record, known = self.store.find(token_id), self.token[token_id]
        assert record is not None
        token = record.token
        kept = (token.expires_at, token.overlap_ends_at, token.revoked_at, token.idle_ended_at, set(token.scopes))
        assert kept == tuple(known[name] for name in ("expires", "overlap", "revoked", "idle_ended", "scopes"))
        counted = sum(self.store.use_by_day(token_id).values())
        assert counted == known["uses"] or (self.crashed and counted <= known["uses"])
        asked = set(record.use.scopes) if record.use else set()
        assert asked == known["asked"] or (self.crashed and asked <= known["asked"])


def emptied(store: Store) -> Store:
    if isinstance(store, SQLAlchemyStore):
        with store._writing.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                if table.name != "tokenguard_revision":
                    connection.execute(table.delete())
            connection.execute(text("UPDATE tokenguard_revision SET revision = 0"))
        return store
    if isinstance(store, DjangoStore):
        with connections[store.using].cursor() as cursor:
            for table in reversed(metadata.sorted_tables):
                if table.name != "tokenguard_revision":
                    cursor.execute(f"DELETE FROM {table.name}")
            cursor.execute("UPDATE tokenguard_revision SET revision = 0")
        return store
    return MemoryStore(store._clock)  # type: ignore[attr-defined]


def test_any_life(any_store: Store, clock: StoppedClock, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["any_store"]
    run_state_machine_as_test(
        lambda: Life(emptied(any_store), clock),
        settings=settings(
            max_examples=EXAMPLES[kind] * RUNS,
            stateful_step_count=STEPS,
            derandomize=RUNS == 1,  # the same lives each time, but new ones on demand
            suppress_health_check=list(HealthCheck),
        ),
    )
