"""From where, and how often, a token may be used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, Protocol

from .errors import InvalidValue, TokenGuardError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: The periods that a rate may be given for, and their lengths in seconds.
PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
MAX_RATE = 1_000_000_000
# Brackets may only hold what begins like IPv6. The lengths are bounded, as a caller may have sent the text.
_WITH_PORT = re.compile(
    r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}):[0-9]{1,5}|\[([0-9a-f]{0,4}:[0-9a-f:.]{1,40})\](?::[0-9]{1,5})?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` requests in every ``period`` ("second", "minute", "hour" or "day"). Raises InvalidValue."""

    count: int
    period: str

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or isinstance(self.count, bool):
            raise InvalidValue(f"the count of a rate must be an integer, not {self.count!r:.50}")
        if not isinstance(self.period, str) or self.period not in PERIODS:
            raise InvalidValue(f"the period of a rate must be one of {', '.join(PERIODS)}, not {self.period!r:.50}")
        if not 1 <= self.count <= MAX_RATE:
            raise InvalidValue(f"a rate must be between 1 and {MAX_RATE} requests")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Parse a rate such as ``100/minute``; raises InvalidValue."""
        count, _, period = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not (count.isascii() and count.isdigit()) or period not in PERIODS:
            raise InvalidValue(f"{text!r:.50} is not a rate: write it as 100/minute (second, minute, hour or day)")
        # Of an overlong number, only as many digits are read as show that it is too large.
        return cls(int(count[: len(str(MAX_RATE)) + 1]), period)

    @property
    def seconds(self) -> int:
        """The length of the period in seconds."""
        return PERIODS[self.period]

    def within(self, wider: Rate) -> bool:
        """Whether this allows no more than ``wider``, neither at once nor in the long run."""
        return self.count <= wider.count and self.count * wider.seconds <= wider.count * self.seconds

    def __str__(self) -> str:
        return f"{self.count}/{self.period}"


class Allowance(NamedTuple):
    """What is left of the scarcest rate after a request was counted."""

    rate: Rate
    #: 0 if none is left; -1 if the request was one too many.
    remaining: int
    #: Seconds until more is allowed.
    reset: int
    #: Whose rate it is, "token" or "client"; None if the limiter does not say.
    holder: str | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the request was one too many."""
        return self.remaining < 0


class LimiterUnavailable(TokenGuardError):
    """The counts cannot be reached, and the limiter is set to refuse requests then."""


class Limiter(Protocol):
    """Counts requests against rates."""

    def hit(self, rates: Sequence[tuple[str, str, Rate]]) -> Allowance | None:
        """Count one request against each of ``rates``: a kind of holder ("token" or "client"), its id, and the rate.

        Returns what is left of the scarcest rate, or None if nothing could be counted and requests are let through.
        A request that is one too many for one of them counts against none. Raises LimiterUnavailable.
        """


@dataclass(frozen=True, slots=True)
class Conditions:
    """Networks from which requests are let in, networks from which they are not, and a rate.

    ``deny`` takes precedence. Without ``allow``, every network that ``deny`` does not name is let in. Raises
    InvalidValue for anything but networks and a rate; for texts use :meth:`parse`.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    rate: Rate | None = None

    def __post_init__(self) -> None:
        # If anything else were kept, each request would fail on it, and so would listing or revoking the token.
        for name in ("allow", "deny"):
            networks = getattr(self, name)
            # A one-shot iterator would be empty when it is read again, and let everybody in.
            if not isinstance(networks, Collection) or not all(isinstance(each, Network) for each in networks):
                raise InvalidValue(
                    f"not networks: {networks!r}; for strings, use Conditions.parse(allow=[…], deny=[…])"
                )
            object.__setattr__(self, name, _networks(map(str, networks)))
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise InvalidValue(f"not a Rate: {self.rate!r}; for strings, use Conditions.parse(rate=…)")

    @classmethod
    def parse(cls, allow: Iterable[str] = (), deny: Iterable[str] = (), rate: str | None = None) -> Conditions:
        """Parse texts: networks such as ``10.0.0.0/8`` or single addresses, a rate such as ``100/minute``.

        Raises InvalidValue for a malformed text, and for a network with bits set beyond its mask.
        """
        return cls(_networks(allow), _networks(deny), Rate.parse(rate) if rate is not None else None)

    @classmethod
    def load(cls, stored: Mapping[str, Any]) -> Conditions:
        """Read what :meth:`dump` returned."""
        if not stored:
            return UNCONDITIONAL
        return cls.parse(stored.get("allow", ()), stored.get("deny", ()), stored.get("rate"))

    def dump(self) -> dict[str, Any]:
        """Return JSON members; conditions that are not set are left out."""
        members: dict[str, Any] = {
            "allow": [str(network) for network in self.allow],
            "deny": [str(network) for network in self.deny],
            "rate": str(self.rate) if self.rate else None,
        }
        return {key: value for key, value in members.items() if value}

    def admit(self, address: Address | None) -> bool:
        """Whether requests from ``address`` are let in; from an unknown one (None) only if no network is named."""
        if not self.allow and not self.deny:
            return True
        if address is None or any(address in network for network in self.deny):
            return False
        return not self.allow or any(address in network for network in self.allow)

    def networks_within(self, wider: Conditions) -> bool:
        """Whether these networks let nothing in that those of ``wider`` do not.

        Networks are compared one by one: two that together make up a third do not count as that third.
        """
        if wider.allow and not (self.allow and all(_lies_in_one(own, wider.allow) for own in self.allow)):
            return False
        return all(self._keep_out(network) for network in wider.deny)

    def _keep_out(self, network: Network) -> bool:
        if _lies_in_one(network, self.deny):
            return True
        return bool(self.allow) and not any(allowed.overlaps(network) for allowed in self.allow)

    def __bool__(self) -> bool:
        return bool(self.allow or self.deny or self.rate)


def read_address(text: str | None) -> Address | None:
    """Parse an address as the server gives it; None if it is not one. IPv4 in IPv6 (``::ffff:``) counts as IPv4."""
    try:
        address = ip_address((text or "").strip())
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # Without the zone (fe80::1%eth0), which names one of this host's own interfaces and may be of any length.
    return address.ipv4_mapped or IPv6Address(int(address))


def without_port(text: str) -> str:
    """Return an address that a proxy gives without its port (``192.0.2.1:443``) and IPv6's brackets, if it has them."""
    if (match := _WITH_PORT.fullmatch(text)) is None:
        return text
    address: str = match[1] or match[2]
    return address


def _lies_in_one(inner: Network, networks: Iterable[Network]) -> bool:
    return any(inner.version == outer.version and inner.subnet_of(outer) for outer in networks)  # type: ignore[arg-type]


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    if isinstance(texts, str):
        raise InvalidValue(f"networks must be a list of strings: write [{texts!r}]")
    # Always in the same order, IPv4 first: the order of a list means nothing.
    networks = {_network(text) for text in texts}
    return tuple(
        sorted(networks, key=lambda network: (network.version, int(network.network_address), network.prefixlen))
    )


def _network(text: str) -> Network:
    try:
        # ip_network would accept numbers and bytes too, and a zone would make two networks of one.
        if not isinstance(text, str) or "%" in text:
            raise ValueError("expected an address or a range of addresses, without a zone")
        network = ip_network(text)
    except ValueError as error:
        raise InvalidValue(f"{text!r} is not a network: write it as 10.0.0.0/8 or 2001:db8::/32 ({error})") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


#: No restrictions: from anywhere, as often as the caller likes.
UNCONDITIONAL = Conditions()
