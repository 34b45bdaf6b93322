"""The people and groups of a new directory: the same on every machine and every version of Python.

They are made by plain arithmetic and SHA-256, as what ``random`` draws from a seed may change between versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .ids import stable_id
from .people import Profile, login_key

PEOPLE = 300
FIRST_NAMES = (
    "Ada", "Bruno", "Clara", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas",
    "Kofi", "Lena", "Mateo", "Nora", "Omar", "Priya", "Rosa", "Sven", "Tara", "Yuki",
)  # fmt: skip
LAST_NAMES = (
    "Abbott", "Becker", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad",
    "Ivanov", "Jansen", "Kaya", "Larsen", "Moreau", "Novak", "Okafor",
)  # fmt: skip
DEPARTMENTS = {
    "Accounting": "Books, invoices and payments",
    "Design": "How things look and feel",
    "Engineering": "Builds and runs the product",
    "Facilities": "Buildings, keys and coffee",
    "Human Resources": "Hiring, care and leaving",
    "Legal": "Contracts and compliance",
    "Logistics": "From the warehouse to the door",
    "Marketing": "Tells people what there is",
    "Research": "What there might be next",
    "Sales": "Finds who needs it",
    "Security": "Keeps out whom it should",
    "Support": "Answers those who ask",
}
TITLES = ("Assistant", "Specialist", "Engineer", "Lead", "Manager")

# 2024-01-02T08:00:00Z in epoch milliseconds; each later user joins a bit more than a day after the one before.
_START = 1_704_182_400_000
_STEP = 90_061_007


def people() -> Iterator[dict[str, Any]]:
    """Rows for the users table."""
    for number in range(PEOPLE):
        joined = _START + number * _STEP
        staged = number % 50 == 49
        profile = _profile(number)
        yield {
            "id": stable_id("00u", number),
            "status": "STAGED" if staged else "ACTIVE",
            "login_key": login_key(profile["login"]),
            "profile": profile,
            "created": joined,
            "activated": None if staged else joined,
            "status_changed": None if staged else joined,
            "last_updated": joined,
        }


def groups() -> Iterator[dict[str, Any]]:
    """Rows for the groups table, one group for each department."""
    for number, (name, description) in enumerate(DEPARTMENTS.items()):
        yield {
            "id": stable_id("00g", number),
            "name": name,
            "description": description,
            "created": _START,
            "last_updated": _START,
            "last_membership_updated": _START + PEOPLE * _STEP,
        }


def _profile(number: int) -> Profile:
    first = FIRST_NAMES[number % len(FIRST_NAMES)]
    last = LAST_NAMES[number // len(FIRST_NAMES) % len(LAST_NAMES)]
    address = f"{first}.{last}@example.com".lower()
    return {
        "firstName": first,
        "lastName": last,
        "email": address,
        "login": address,
        "mobilePhone": f"+1-555-01{number % 100:02}",
        "department": tuple(DEPARTMENTS)[number % len(DEPARTMENTS)],
        "title": TITLES[number % len(TITLES)],
    }
