"""What scopes grant: ``Scopes``, ``Requirement`` and ``ScopeCatalog`` against their definition, tried name by name.

Input: three sets of scopes as text | scopes that are all required | scopes of which one is required.
"""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_letters, digits

from tokenguard import InvalidValue, Requirement, ScopeCatalog, Scopes

from . import fields

DICTIONARY = (
    "users:read", "users:manage", "users:*", "okta.users.*", "okta.users.read", "a", "a.b", "a.*", "a.b.*", "*", " ",
    "  ", "|", '"', "\\", "\t", "é", ".", ":", "/", "x" * 128,
)  # fmt: skip
CATALOG = ScopeCatalog(
    {
        "a": {"implies": ["a.b", "b"]},
        "a.b": {"implies": ["a.b.c"]},
        "a.b.c": "the end of it",
        "b": {"implies": ["c.*"]},
        "c.d": {"implies": ["a"]},
        "e": "alone",
    }
)
IMPLIED = {"a": ["a.b", "b"], "a.b": ["a.b.c"], "b": ["c.*"], "c.d": ["a"]}
#: What stands for the ``*`` of a wildcard when it is tried.
BELOW = ("x", "x.y", "b", "b.c", "read")


def test_one_input(data: bytes) -> None:
    """Check sets of scopes, what two of them have in common, and which requirements they meet."""
    *texts, all_of, any_of = fields(data, 5)
    sets = [found for text in texts if (found := _parsed(text)) is not None]
    for left in sets:
        for right in sets:
            _check_pair(left, right)
    if len(sets) == 3:
        a, b, c = sets
        _check_grants(
            (a & b) & c, [name for name in _sample(a, b, c) if all(_grants(part, name) for part in sets)], sets
        )
        assert (a & b) & c == a & (b & c)
    _check_requirement(tuple(all_of.split(" ")) if all_of else (), tuple(any_of.split(" ")) if any_of else (), sets)


def _parsed(text: str) -> Scopes | None:
    words = {word for word in text.split(" ") if word}
    try:
        scopes = Scopes.parse(text)
    except InvalidValue:
        assert not all(map(_is_scope, words))
        return None
    assert all(map(_is_scope, words))
    assert scopes.names == words == set(scopes)
    assert Scopes.parse(str(scopes)) == scopes == Scopes(list(scopes))
    assert hash(Scopes.parse(str(scopes))) == hash(scopes)
    assert bool(scopes) == bool(words)
    assert list(scopes) == sorted(words)
    return scopes


def _is_scope(word: str) -> bool:
    """RFC 6749 section 3.3; a ``*`` stands alone, or at the end behind a ``.``, ``:`` or ``/``."""
    name = word[:-1] if word.endswith("*") and (len(word) == 1 or word[-2] in ".:/") else word
    allowed = all("!" <= character <= "~" and character not in '"*\\' for character in name)
    return allowed and 1 <= len(word) <= 128 and not _holds_a_token(word)


def _holds_a_token(word: str) -> bool:
    """Whether the word holds what a token's text ends with: 16 letters or digits, an underscore, and 75 more."""
    places = (place for place, character in enumerate(word) if character == "_" and place >= 16)
    around = (word[place - 16 : place] + word[place + 1 : place + 76] for place in places)
    return any(len(text) == 91 and all(character in ascii_letters + digits for character in text) for text in around)


def _grants(scopes: Iterable[str], name: str) -> bool:
    return any(held == name or (held.endswith("*") and name.startswith(held[:-1])) for held in scopes)


def _sample(*sets: Iterable[str]) -> set[str]:
    """Return names and wildcards by which sets that grant different scopes can be told apart."""
    written = {name for scopes in sets for name in scopes} | set(CATALOG)
    return written | {name[:-1] + more for name in written if name.endswith("*") for more in BELOW}


def _check_grants(scopes: Scopes, granted: Iterable[str], of: Iterable[Iterable[str]]) -> None:
    expected = set(granted)
    for name in _sample(*of, scopes):
        assert (name in scopes) == (name in expected), (scopes, name)


def _check_pair(a: Scopes, b: Scopes) -> None:
    sample = _sample(a, b)
    _check_grants(a & b, [name for name in sample if _grants(a, name) and _grants(b, name)], (a, b))
    _check_grants(a | b, [name for name in sample if _grants(a, name) or _grants(b, name)], (a, b))
    assert a & b == b & a
    assert a | b == b | a
    assert a & a == a == a | a
    # As the catalogue does it: both are widened first, and then intersected.
    wide_a, wide_b = _widened(a), _widened(b)
    effective = CATALOG.effective(a, b)
    wide = sample | _sample(wide_a, wide_b)
    _check_grants(
        effective, [name for name in wide if _grants(wide_a, name) and _grants(wide_b, name)], (wide_a, wide_b)
    )


def _widened(scopes: Iterable[str]) -> set[str]:
    found: set[str] = set()
    wider = set(scopes)
    while wider != found:
        found = wider
        wider = found | {more for name, implied in IMPLIED.items() if _grants(found, name) for more in implied}
    return found


def _check_requirement(all_of: tuple[str, ...], any_of: tuple[str, ...], sets: list[Scopes]) -> None:
    well_formed = all(_is_scope(name) and not name.endswith("*") for name in all_of + any_of)
    try:
        requirement = Requirement(all_of, any_of)
    except InvalidValue:
        assert not well_formed
        return
    assert well_formed
    for held in sets:
        met = all(_grants(held, name) for name in all_of) and (
            not any_of or any(_grants(held, name) for name in any_of)
        )
        assert requirement.met_by(held) == met, (requirement, held)
        if met:
            assert set(requirement.used_of(held)) <= set(all_of + any_of)
            assert all(_grants(held, name) for name in requirement.used_of(held))
