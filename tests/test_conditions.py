"""From where a token may be used, and how often: what is written, what it means, and whom it lets in."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenguard import AuthScheme, Conditions, InvalidValue, NetworkNotAllowed, RequestGuard
from tokenguard.conditions import MAX_RATE, PERIODS, Rate, read_address
from tokenguard.rows import dump_json, load_conditions
from tokenguard.scopes import ANY_TOKEN

from .conftest import World

NETWORKS = st.one_of(
    st.ip_addresses().map(str),
    st.builds(lambda a, n: str(IPv4Network((int(a), n), strict=False)), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda a, n: str(IPv6Network((int(a), n), strict=False)), st.ip_addresses(v=6), st.integers(0, 128)),
)
RATES = st.builds(lambda count, period: f"{count}/{period}", st.integers(1, MAX_RATE), st.sampled_from(list(PERIODS)))


def admits(address: str | None, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> bool:
    return Conditions.parse(allow, deny).admit(read_address(address))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0", "9.255.255.255", "::10.1.2.3"]),
        ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7", "::FFFF:c000:207"], ["192.0.2.6", "192.0.2.8"]),
        ("192.0.2.7/32", ["192.0.2.7"], ["192.0.2.6"]),
        ("10.0.0.0/255.0.0.0", ["10.1.2.3"], ["11.0.0.0"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:DB8:ffff::"], ["2001:db9::", "10.0.0.1"]),
        ("2001:db8::1", ["2001:db8:0:0:0:0:0:1"], ["2001:db8::2"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"], ["192.0.2.8"]),
        ("::ffff:0:0/96", ["0.0.0.0", "255.255.255.255"], ["::1"]),
        ("0.0.0.0/0", ["192.0.2.1"], ["2001:db8::1"]),
        ("::/0", ["2001:db8::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["fec0::1%eth0"]),
        ("fe80::1", ["fe80::1%eth0", "fe80::1%1"], ["fe80::2%eth0"]),
    ],
)
def test_a_network_takes_in_its_addresses(network: str, inside: list[str], outside: list[str]) -> None:
    for address in inside:
        assert admits(address, allow=(network,)), address
        assert not admits(address, deny=(network,)), address
    for address in outside:
        assert not admits(address, allow=(network,)), address
        assert admits(address, deny=(network,)), address


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nonsense", "10.0.0.1/8", "2001:db8::1/32", "::ffff:10.0.0.1/104", " 10.0.0.0/8", "10.0.0.0/8 ",
        "10.0.0.0/8\n", "10.0.0.0 /8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0", "10.0.0.0/8/8",
        "010.0.0.0/8",
        "10.0.0.0-10.0.0.9", "10.0.0.*", "example.com", "localhost", "１0.0.0.0/8", "2001:db8::/129", "2001:::/32",
        "fe80::%eth0/64", "fe80::1%eth0", "10.0.0.0/8,11.0.0.0/8", "*", "\x00", 5, True, None, b"\x0a\x00\x00\x00", 1.5,
        ("10.0.0.0", 8),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_and_named(text: Any) -> None:
    for attempt in (lambda: Conditions.parse([text]), lambda: Conditions.parse(deny=["10.0.0.0/8", text])):
        with pytest.raises(InvalidValue, match=r"is not a network: write it as 10\.0\.0\.0/8") as refused:
            attempt()
        assert repr(text) in str(refused.value)


def test_one_text_is_no_list_of_networks() -> None:
    with pytest.raises(InvalidValue, match=r"write \['10.0.0.0/8'\]"):
        Conditions.parse("10.0.0.0/8")


def test_deny_goes_before_allow() -> None:
    allow, deny = ("10.0.0.0/8",), ("10.1.0.0/16",)
    assert admits("10.2.0.1", allow, deny)
    assert not admits("10.1.0.1", allow, deny)
    assert not admits("11.0.0.1", allow, deny)
    assert not admits("10.1.0.1", allow, allow)


@pytest.mark.parametrize("address", [None, "", "unix:", "nonsense", "10.0.0.1:80", "[::1]", "010.0.0.1", "10.0.0.1%x"])
def test_an_unknown_address_is_refused_only_where_a_network_is_named(address: str | None) -> None:
    assert read_address(address) is None
    assert admits(address)
    assert not admits(address, allow=("0.0.0.0/0", "::/0"))
    assert not admits(address, deny=("192.0.2.0/24",))


def test_an_address_is_kept_without_its_zone() -> None:
    """A link-local address may come with a zone of any length, which would fit no column."""
    assert str(read_address("fe80::1%" + "x" * 500)) == "fe80::1"
    assert str(read_address(" ::ffff:192.0.2.1 ")) == "192.0.2.1"


def test_networks_have_one_order_and_one_form_whoever_writes_them() -> None:
    written = Conditions.parse(["2001:DB8::/32", "10.0.0.0/16", "::ffff:10.0.0.0/104", "10.0.0.0/8", "9.9.9.9"])
    assert written.dump() == {"allow": ["9.9.9.9/32", "10.0.0.0/8", "10.0.0.0/16", "2001:db8::/32"]}
    assert written == Conditions.parse(reversed(written.dump()["allow"] * 2))


@given(st.lists(NETWORKS, max_size=4), st.lists(NETWORKS, max_size=4), st.none() | RATES)
def test_what_is_stored_is_read_back_as_the_same(allow: list[str], deny: list[str], rate: str | None) -> None:
    conditions = Conditions.parse(allow, deny, rate)
    stored = dump_json(conditions.dump())
    assert load_conditions(stored) == conditions
    assert dump_json(Conditions.parse(reversed(allow), reversed(deny), rate).dump()) == stored
    assert bool(conditions) is bool(allow or deny or rate) is (stored != "{}")


@given(st.ip_addresses(), NETWORKS, NETWORKS)
def test_denied_is_denied_whatever_is_allowed(address: Any, allow: str, deny: str) -> None:
    both = Conditions.parse([allow], [deny]).admit(address)
    assert both is (Conditions.parse([allow]).admit(address) and Conditions.parse(deny=[deny]).admit(address))


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = read_address(text)
    assert address is None or read_address(str(address)) == address
    assert len(str(address)) <= 64


@pytest.mark.parametrize(
    ("own", "wider", "within"),
    [
        ({}, {}, True),
        ({"allow": ["10.0.0.0/8"]}, {}, True),
        ({}, {"allow": ["10.0.0.0/8"]}, False),
        ({"allow": ["10.1.0.0/16"]}, {"allow": ["10.0.0.0/8", "::/0"]}, True),
        ({"allow": ["10.0.0.0/7"]}, {"allow": ["10.0.0.0/8", "11.0.0.0/8"]}, False),
        ({"allow": ["2001:db8::/32"]}, {"allow": ["0.0.0.0/0"]}, False),
        ({"allow": ["10.1.0.0/16"]}, {"deny": ["10.2.0.0/16"]}, True),
        ({"allow": ["10.0.0.0/8"]}, {"deny": ["10.2.0.0/16"]}, False),
        ({"allow": ["10.2.1.0/24"]}, {"deny": ["10.2.0.0/16"]}, False),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.2.0.0/15"]}, {"deny": ["10.2.0.0/16"]}, True),
        ({}, {"deny": ["10.2.0.0/16"]}, False),
    ],
)
def test_what_lies_within_which_networks(own: Any, wider: Any, within: bool) -> None:
    assert Conditions.parse(**own).networks_within(Conditions.parse(**wider)) is within


# Rates


@pytest.mark.parametrize(
    ("text", "form", "seconds"),
    [
        ("1/second", "1/second", 1),
        ("100/minute", "100/minute", 60),
        (f"{MAX_RATE}/hour", f"{MAX_RATE}/hour", 3600),
        ("007/day", "7/day", 86_400),
    ],
)
def test_a_rate_has_one_form(text: str, form: str, seconds: int) -> None:
    conditions = Conditions.parse(rate=text)
    assert conditions.rate == Rate.parse(form)
    assert (conditions.rate.seconds, conditions.dump()) == (seconds, {"rate": form})


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "100", "100/", "/minute", "100/minutes", "100/Minute", "100 /minute", "100/ minute", " 100/minute",
        "100/minute\n", "-1/minute", "+1/minute", "1.5/minute", "1_0/minute", "1e3/minute", "١٠٠/minute", "²/minute",
        "100/minute/minute", "100 per minute", 100, b"100/minute", ["100/minute"],
    ],
)  # fmt: skip
def test_what_is_no_rate_is_refused_and_named(text: Any) -> None:
    with pytest.raises(InvalidValue, match="is not a rate: write it as 100/minute") as refused:
        Conditions.parse(rate=text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    "count",
    [
        "0",
        "00",
        str(MAX_RATE + 1),
        f"{MAX_RATE}0",
        "9" * 30,
        "9" * 10_000,
        "0" * 19 + "1" + "9" * 5,
        "0" * 19 + "1" * 5_000,
    ],
)
def test_a_rate_of_nothing_or_beyond_all_counting_is_refused(count: str) -> None:
    with pytest.raises(InvalidValue, match=f"between 1 and {MAX_RATE} requests") as refused:
        Rate.parse(f"{count}/minute")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "members",
    [
        {"allow": "10.0.0.0/8"},
        {"allow": ("10.0.0.0/8",)},
        {"allow": IPv4Network("10.0.0.0/8")},
        {"allow": iter([IPv4Network("10.0.0.0/8")])},
        {"rate": "5/minute"},
    ],
)
def test_texts_are_not_taken_for_what_they_say(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=r"for strings, use Conditions\.parse\("):
        Conditions(**members)


def test_networks_mean_what_they_would_as_texts() -> None:
    mapped = Conditions(deny=[IPv6Network("::ffff:10.0.0.0/104")])  # type: ignore[arg-type]
    assert mapped == Conditions.parse(deny=["10.0.0.0/8"])
    assert not mapped.admit(read_address("10.0.0.1"))
    with pytest.raises(InvalidValue, match="without a zone"):
        Conditions(allow=(IPv6Network("fe80::1%eth0"),))


@pytest.mark.parametrize(
    ("count", "period"),
    [(0, "day"), ("5", "day"), (True, "day"), (5, "week"), (10**10, "day"), (1, [])],
)
def test_a_rate_that_is_none_is_refused(count: Any, period: str) -> None:
    with pytest.raises(InvalidValue, match="rate"):
        Rate(count, period)


@pytest.mark.parametrize(
    "stored", ["[]", "null", "5", '"x"', '{"allow":["x"]}', '{"rate":"x"}', '{"allow":"10.0.0.1"}']
)
def test_damaged_conditions_are_an_error_not_no_conditions(stored: str) -> None:
    with pytest.raises(ValueError, match=r"not|list"):
        load_conditions(stored)


@pytest.mark.parametrize(
    ("own", "wider", "within"),
    [
        ("5/minute", "5/minute", True),
        ("5/hour", "5/minute", True),
        ("1/day", "1/second", True),
        ("5/second", "5/minute", False),
        ("6/hour", "5/minute", False),
    ],
)
def test_what_lies_within_which_rate(own: str, wider: str, within: bool) -> None:
    assert Rate.parse(own).within(Rate.parse(wider)) is within


# Where a request comes from


def address_of(forwarded: str | None, proxies: int) -> str | None:
    environ = {"REMOTE_ADDR": "192.0.2.200"}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    return AuthScheme(proxies=proxies).address(environ)


@pytest.mark.parametrize("forwarded", [None, "", "10.0.0.1", "10.0.0.1, 10.0.0.2"])
def test_without_proxies_only_the_connection_counts(forwarded: str | None) -> None:
    assert address_of(forwarded, 0) == "192.0.2.200"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("203.0.113.9", 1, "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9", 1, "203.0.113.9"),
        ("10.0.0.1,10.0.0.2,203.0.113.9", 1, "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9, 198.51.100.1", 2, "203.0.113.9"),
        ("2001:db8::1 ,198.51.100.1", 2, "2001:db8::1"),
        ("203.0.113.9, 198.51.100.1, 198.51.100.2", 3, "203.0.113.9"),
        ('10.0.0.1, "x, 203.0.113.9, 192.0.2.1', 2, "203.0.113.9"),  # a quote hides no hop
        # As Azure's Application Gateway and IIS write them.
        ("10.0.0.1, 203.0.113.9:443", 1, "203.0.113.9"),
        ("203.0.113.9:52144, 198.51.100.1:443", 2, "203.0.113.9"),
        ("[2001:db8::7]:52144", 1, "2001:db8::7"),
        ("[2001:DB8::7]", 1, "2001:DB8::7"),
        ("[::ffff:203.0.113.9]:1", 1, "::ffff:203.0.113.9"),
        ("[::]:0", 1, "::"),
    ],
)
def test_hops_are_counted_from_the_right(forwarded: str, proxies: int, address: str) -> None:
    assert address_of(forwarded, proxies) == address


@pytest.mark.parametrize(
    ("forwarded", "proxies"),
    [
        (None, 1), ("", 1), (" ", 1), (",", 1), ("203.0.113.9", 2), ("203.0.113.9,", 2), ("", 20), ("nonsense", 1),
        ("10.0.0.1, unknown", 1), ("_hidden, 198.51.100.1", 2), ("10.0.0.1, 203.0.113.9:", 1),
        ("203.0.113.9:443:1", 1), ("203.0.113.9:443000", 1), ("203.0.113.9:x", 1), (":443", 1), ("256.0.0.1:443", 1),
        ("[203.0.113.9]", 1), ("[203.0.113.9]:443", 1), ("[2001:db8::7", 1), ("2001:db8::7]:443", 1), ("[[::1]]", 1),
        ("[2001:db8::7]443", 1), ("[2001:db8::7]:", 1), ("[]:443", 1), ("[:]:443", 1), ("[::g]", 1), ("1:443", 1),
        ("١.2.3.4:443", 1), ("203.0.113.9:٤", 1), ("[" + ":" * 50_000 + "]", 1), ("203.0.113.9 443", 1),
    ],
)  # fmt: skip
def test_too_few_hops_or_garbage_is_no_address(forwarded: str | None, proxies: int) -> None:
    assert read_address(address_of(forwarded, proxies)) is None


@given(st.ip_addresses(), st.integers(0, 65535))
def test_a_port_that_a_proxy_adds_is_no_part_of_the_address(address: Any, port: int) -> None:
    text = f"[{address}]" if address.version == 6 else str(address)
    added = [str(address), text, f"{text}:{port}"] if address.version == 6 else [text, f"{text}:{port}"]
    assert {read_address(address_of(f"10.0.0.1, {hop}", 1)) for hop in added} == {read_address(str(address))}


@given(st.text(st.sampled_from('10.,"\\ ;=ab:[]'), max_size=30), st.integers(1, 3))
def test_nothing_that_a_caller_sends_itself_moves_its_address(sent: str, proxies: int) -> None:
    """Trusted proxies add their entries on the right; nothing on the left can shift those, quoted or not."""
    added = ["203.0.113.9:443", "198.51.100.1", "198.51.100.2"][:proxies]
    address = read_address(address_of(", ".join([sent, *added]), proxies))
    assert str(address) in {"203.0.113.9", "None"}


@pytest.mark.parametrize("on", ["token", "client"])
def test_the_guard_refuses_other_networks(world: World, on: str) -> None:
    conditions = Conditions.parse(["10.0.0.0/8"], ["10.1.0.0/16"])
    client = world.client()
    issued = world.issue(client=client.id, conditions=conditions if on == "token" else None)
    if on == "client":
        world.issuer.set_conditions(client.id, conditions, actor="tests")
    assert world.guard.authenticate(issued.text, "10.0.0.1").token_id == issued.token.id
    for address in ("10.1.0.1", "11.0.0.1", "::1", "\x1b[31m", "", None):
        with pytest.raises(NetworkNotAllowed) as refused:
            world.guard.authenticate(issued.text, address)
        assert refused.value.status == 403
        # The operator learns which token came from which address, and the caller does not.
        assert (refused.value.token_id, refused.value.client_id) == (issued.token.id, client.id)
        if address is not None:
            assert refused.value.reason == f"network: {address!a}"
        assert not address or address not in refused.value.detail
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("is_short", [False, True])
def test_the_log_says_why_an_address_is_unknown(world: World, caplog: pytest.LogCaptureFixture, is_short: bool) -> None:
    issued = world.issue(conditions=Conditions.parse(["10.0.0.0/8"]))
    way = RequestGuard(world.guard, AuthScheme(proxies=2))
    for forwarded in (None, "10.0.0.1"):
        environ = {"HTTP_AUTHORIZATION": f"Bearer {issued.text.reveal()}", "REMOTE_ADDR": "10.0.0.1"}
        if forwarded:
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        caplog.clear()
        if is_short:
            assert way.wave_through(environ, ANY_TOKEN) is None
        with pytest.raises(NetworkNotAllowed):
            way.admit(environ, ANY_TOKEN)
        why = "network: the address is unknown (fewer hops in X-Forwarded-For than PROXIES, if that is set) (token"
        assert why in caplog.text


def test_token_and_client_must_both_let_in(world: World) -> None:
    client = world.client()
    issued = world.issue(client=client.id, conditions=Conditions.parse(["10.0.0.0/8"]))
    world.issuer.set_conditions(client.id, Conditions.parse(deny=["10.0.0.1"]), actor="tests")
    world.guard.authenticate(issued.text, "10.0.0.2")
    for address in ("10.0.0.1", "192.0.2.1"):
        with pytest.raises(NetworkNotAllowed):
            world.guard.authenticate(issued.text, address)
