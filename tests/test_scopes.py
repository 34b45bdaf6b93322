from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any

import pytest

from tokenguard import ConfigurationError, InvalidValue, Requirement, ScopeCatalog, Scopes, scopes

DECLARED = {
    "okta.users.read": "Read users",
    "okta.users.manage": {"description": "Change users", "implies": ["okta.users.read"]},
    "okta.admin": {"implies": ["okta.users.*", "okta.logs.read"]},
    "okta.logs.read": "Read logs",
}
CATALOG = ScopeCatalog(DECLARED)


def test_scopes_are_a_value() -> None:
    assert Scopes(["a"]) != {"a"}
    assert Scopes(["a"]) | Scopes(["b.*"]) == Scopes(["a", "b.*"])
    assert "b.c" in Scopes(["a"]) | Scopes(["b.*"])
    assert len({hash(Scopes([name])) for name in "abcdef"}) > 1
    assert repr(Scopes(["b", "a"])) == "Scopes(['a', 'b'])"


def test_only_spaces_separate_scopes() -> None:
    for space in "\t\n\r\x0b\x0c\xa0":
        with pytest.raises(InvalidValue, match="is not a scope"):
            Scopes.parse(f"a{space}b")


def test_parses_and_prints_rfc6749s_form_sorted() -> None:
    assert str(Scopes.parse("b  a a")) == "a b"
    assert Scopes.parse("a b") == Scopes(["b", "a"])
    assert hash(Scopes(["a", "b"])) == hash(Scopes(["b", "a"]))
    assert not Scopes.parse("")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a\tb",
        'a"b',
        "a\\b",
        "ü",
        "a\n",
        "a\x00",
        "\u2028",
        "a*",
        "*a",
        "a.*.b",
        "**",
        ".a*",
        "a" * 129,
        "٣",
    ],
)
def test_refuses_a_malformed_scope_and_quotes_it(name: str) -> None:
    with pytest.raises(InvalidValue):
        Scopes([name])


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "users:read",
        "okta.users.read",
        "https://example.com/x",
        "*",
        "a.*",
        "a:*",
        "a/*",
        "!#$%&'()+,-./:;<=>?@[]^_`{|}~",
        "a" * 128,
    ],
)
def test_takes_what_rfc6749_allows(name: str) -> None:
    assert list(Scopes([name])) == [name]


def test_what_is_wrong_with_a_scope_is_said_with_what_to_do() -> None:
    for name, why in [
        ("a:" * 64 + "a", rf"^a scope must have at most 128 characters; '{'a:' * 16}'… has 129$"),
        ("a*", r"quotes and backslashes, and \* only as the whole last segment, as in users\.\*$"),
        (f"tg_{'0' * 16}_{'x' * 75}", r"^a scope must not be the text of a token, which is stored nowhere$"),
    ]:
        with pytest.raises(InvalidValue, match=why):
            Scopes([name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda request: None, r'^the decorator takes scopes, not the view: write @require_scopes\("a"\)$'),
        (["users:read"], r"""^name each scope by itself, "a", "b", not \['users:read'\]$"""),
        (("users:read",), r"""^name each scope by itself, "a", "b", not \('users:read',\)$"""),
        ("users:read a", r"""^name each scope by itself, "a", "b", not 'users:read a'$"""),
    ],
)
def test_who_misuses_the_decorator_is_shown_how_it_is_written(given: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Requirement.scopes(given)


@pytest.mark.parametrize(
    "kind", [StrEnum("Named", {"READ": "users:read"}), Enum("Mixed", {"READ": "users:read"}, type=str)]
)
def test_a_member_of_an_enumeration_is_the_scope_that_is_its_value(kind: Any) -> None:
    catalog = ScopeCatalog({kind.READ: {"description": "List", "implies": [kind.READ]}})
    requirements = Requirement.scopes(kind.READ), Requirement.scopes(any_of=[kind.READ])
    held = Scopes([kind.READ])
    assert "READ" not in repr([held, *requirements, *catalog])
    assert all(requirement.met_by(held) for requirement in requirements)


def test_one_text_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(InvalidValue, match=r"Scopes\.parse\('users'\)"):
        Scopes("users")
    with pytest.raises(InvalidValue, match="a scope must be a string, not 5"):
        Scopes([5])  # type: ignore[list-item]


def test_a_wildcard_grants_whole_segments_below_it() -> None:
    scopes = Scopes(["okta.users.*"])
    assert "okta.users.read" in scopes
    assert "okta.users.factors.read" in scopes
    assert "okta.users.*" in scopes
    assert "okta.users" not in scopes
    assert "okta.usersgroups.read" not in scopes
    assert "okta.*" not in scopes
    assert "anything:at.all" in Scopes(["*"])


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ("a b", "b c", "b"),
        ("a", "b", ""),
        ("a.*", "a.b c", "a.b"),
        ("a.*", "a.b.*", "a.b.*"),
        ("*", "a b.*", "a b.*"),
        ("a.*", "b.*", ""),
        ("", "*", ""),
        ("a.* a.b", "a.b", "a.b"),
    ],
)
def test_intersection_is_what_both_grant(left: str, right: str, both: str) -> None:
    assert Scopes.parse(left) & Scopes.parse(right) == Scopes.parse(both)
    assert Scopes.parse(right) & Scopes.parse(left) == Scopes.parse(both)


def test_what_is_left_of_a_wildcard_grants_whole_segments_too() -> None:
    for both in (Scopes(["a.*"]) & Scopes(["*"]), Scopes(["*"]) & Scopes(["a.*"]), Scopes(["a.*"]) | Scopes(["x"])):
        assert "a.b" in both
        assert "ab" not in both
        assert "a" not in both


def test_implications_are_followed_however_far_and_through_wildcards() -> None:
    assert CATALOG.expand(Scopes(["okta.users.manage"])) == Scopes(["okta.users.manage", "okta.users.read"])
    assert "okta.users.read" in CATALOG.expand(Scopes(["okta.admin"]))
    assert "okta.logs.read" in CATALOG.expand(Scopes(["okta.*"]))
    circle = ScopeCatalog({"a": {"implies": ["b"]}, "b": {"implies": "a"}})
    assert circle.expand(Scopes(["a"])) == Scopes(["a", "b"])
    # What several imply is followed only once, and everything else is still followed.
    ways = [f"way{number}" for number in range(9)]
    many = ScopeCatalog({"all": {"implies": ways}, "same": "", **{way: {"implies": "same"} for way in ways}})
    assert many.expand(Scopes(["all"])) == Scopes(["all", "same", *ways])


@pytest.mark.parametrize(
    ("granted", "ceiling", "effective"),
    [
        ("okta.users.manage", "okta.users.manage", "okta.users.manage okta.users.read"),
        ("okta.users.manage", "okta.users.read", "okta.users.read"),
        ("okta.users.read", "okta.users.manage", "okta.users.read"),
        ("okta.users.*", "okta.users.read", "okta.users.read"),
        ("okta.users.read", "", ""),
        ("", "*", ""),
        ("okta.logs.read", "okta.users.*", ""),
    ],
)
def test_effective_scopes_are_the_tokens_cut_to_its_clients(granted: str, ceiling: str, effective: str) -> None:
    assert CATALOG.effective(Scopes.parse(granted), Scopes.parse(ceiling)) == Scopes.parse(effective)


def test_the_catalogue_knows_its_names_and_wildcards_over_them() -> None:
    assert CATALOG.unknown(Scopes.parse("okta.users.read okta.users.* *")) == []
    assert CATALOG.unknown(Scopes.parse("okta.users.write okta.groups.*")) == ["okta.groups.*", "okta.users.write"]
    assert ScopeCatalog().unknown(Scopes.parse("anything goes.*")) == []
    assert ScopeCatalog({"ab": "A and b"}).unknown(["a.*"]) == ["a.*"]
    assert ScopeCatalog(DECLARED).descriptions == {
        "okta.users.read": "Read users",
        "okta.users.manage": "Change users",
        "okta.admin": "",
        "okta.logs.read": "Read logs",
    }


def test_what_a_catalogue_remembers_is_bounded_and_still_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "REMEMBERED", 3)
    catalog = ScopeCatalog(dict.fromkeys("abcdefgh", "one of them"))
    for name in [*catalog, *catalog]:
        catalog.check(Requirement((name,)))
        assert catalog.effective(Scopes([name]), Scopes(["a", "b"])) == Scopes({name} & {"a", "b"})
        assert len(catalog.checked) <= 3
        assert len(catalog._effective) <= 3
    unknown = Requirement(("x",))
    for _ in range(2):
        with pytest.raises(
            ConfigurationError, match=r"scope 'x' is not in the catalogue, which has a, b, c, d, e, f, g, h$"
        ):
            catalog.check(unknown)


def test_what_was_needed_of_a_callers_scopes_is_known() -> None:
    held = Scopes(["a", "b.*", "c"])
    assert Requirement(("a", "b.x")).used_of(held) == ("a", "b.x")
    assert Requirement((), ("x", "b.y", "c")).used_of(held) == ("b.y", "c")
    assert Requirement(("a",), ("x", "c")).used_of(held) == ("a", "c")
    assert Requirement().used_of(held) == ()


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ({"a": {"implies": ["b"]}}, "scope 'a' implies 'b', which is not in the catalogue"),
        ({"a": {"impllies": ["b"]}}, "scope 'a' needs a description"),
        ({"a": None}, "scope 'a' needs a description"),
        ({"a b": "two"}, "'a b' is not a scope"),
        ({"a.*": "all"}, "wildcard 'a.*' cannot be declared"),
        ({"a": {"implies": 3}}, "in the scope catalogue"),
        ({5: "five"}, "not 5"),
        (["a", "b"], "a catalogue must map each scope to its description, not be a list"),
        ("a b", "a catalogue must map each scope to its description, not be a str"),
    ],
)
def test_a_wrong_catalogue_is_refused_by_name(catalog: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ScopeCatalog(catalog)


@pytest.mark.parametrize(
    ("all_of", "any_of", "held", "met"),
    [
        (("a", "b"), (), "a b c", True),
        (("a", "b"), (), "a", False),
        ((), ("a", "b"), "b", True),
        ((), ("a", "b"), "c", False),
        (("a",), ("b", "c"), "a c", True),
        (("a",), ("b", "c"), "b c", False),
        (("a",), ("b", "c"), "a", False),
        ((), (), "", True),
        (("a.b",), (), "a.*", True),
        (("a",), (), "", False),
    ],
)
def test_requirements(all_of: tuple[str, ...], any_of: tuple[str, ...], held: str, met: bool) -> None:
    assert Requirement(all_of, any_of).met_by(Scopes.parse(held)) is met


def test_a_requirement_names_what_it_asks_for() -> None:
    assert str(Requirement.scopes("a", "b")) == "a b"
    assert str(Requirement.scopes(any_of=["a", "b"])) == "any of a b"
    assert str(Requirement.scopes("x", any_of=("a", "b"))) == "x and any of a b"
    assert str(Requirement()) == "any valid token"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Requirement.scopes(),
        lambda: Requirement.scopes(any_of=()),
        lambda: Requirement.scopes("a b"),
        lambda: Requirement.scopes(["a", "b"]),
        lambda: Requirement.scopes("a.*"),
        lambda: Requirement.scopes(any_of="ab"),
    ],
)
def test_a_requirement_that_would_not_mean_what_it_says_is_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidValue):
        make()


def test_a_requirement_is_made_of_tuples() -> None:
    for wrong in ("users:read", ["users:read"]):
        with pytest.raises(InvalidValue, match="takes tuples"):
            Requirement(wrong)  # type: ignore[arg-type]
    assert 5 not in Scopes(["*"])
