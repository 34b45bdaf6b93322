"""Whatever a database holds, a row is read as what it means or refused as damaged, and nothing else happens.

Input: scopes as JSON | conditions as JSON | an address | an event's data as JSON.
"""

from __future__ import annotations

from typing import Any

from tokenguard import Client, Conditions, Scopes, StoreError
from tokenguard.conditions import Rate, read_address
from tokenguard.rows import dump, load
from tokenguard.store import Event

from . import fields

DICTIONARY = (
    '["a","b.*"]', "[]", "{}", '{"allow":["10.0.0.0/8"]}', '"deny":["::1"]', '"rate":"100/minute"', "null", "1e999",
    "NaN", '"\\ud800"', "|", "::ffff:10.0.0.1", "fe80::1%eth0", "true",
)  # fmt: skip


def test_one_input(data: bytes) -> None:
    """Load a client's row and an event's, with these columns."""
    scopes, conditions, address, details = fields(data, 4)
    client = _loaded(Client, ["id", "name", scopes, 1, 0, conditions])
    if client is not None:
        assert isinstance(client.scopes, Scopes)
        _check_conditions(client.conditions, address)
    _loaded(Event, [1, "id", "token.issued", 0, "actor", "client", None, details])


def _loaded(kind: type[Any], row: list[Any]) -> Any:
    try:
        found = load(kind, row)
    except StoreError as error:
        assert "is damaged" in str(error)
        return None
    if kind is Client:  # written again, it means the same
        assert load(kind, list(dump(found).values())) == found
    return found


def _check_conditions(conditions: Conditions, text: str) -> None:
    assert conditions.rate is None or isinstance(conditions.rate, Rate)
    address = read_address(text)
    inside = [
        any(address is not None and address in network for network in networks)
        for networks in (conditions.allow, conditions.deny)
    ]
    named = bool(conditions.allow or conditions.deny)
    expected = not named or (address is not None and not inside[1] and (inside[0] or not conditions.allow))
    assert conditions.admit(address) == expected
