"""Masquerading's decisions as pure functions: constants, addresses, which mappings are over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from axoneme.core.devices import matches
from axoneme.plugins.masquerade.config import MasqueradeSettings
from axoneme.plugins.masquerade.rows import Direction, NatEntry, NatKey, NatKey4, NatKey6

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@frozen
class MasqueradeAddress:
    """Row of table ``masquerade_addresses``. Key: ``ifindex``. What leaves a device carries it."""

    ifindex: int
    ifname: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    keeps: bool = False
    """Pods keep their address here; the node's own flows are still told apart from theirs."""


def constants(settings: MasqueradeSettings) -> dict[str, int | str]:
    """The ``#define``s of ``masquerade.bpf.c``."""
    return {
        "AXO_MASQ_IPV4": int(settings.ipv4),
        "AXO_MASQ_IPV6": int(settings.ipv6),
        "AXO_MASQ_REMOTE_NODES": int(settings.remote_nodes),
        "AXO_MASQ_EXEMPT4": exempt_terms(n for n in settings.exempt if n.version == 4),
        "AXO_MASQ_EXEMPT6": exempt_terms(n for n in settings.exempt if n.version == 6),
        "AXO_NAT_PORT_MIN": settings.ports[0],
        "AXO_NAT_PORT_MAX": settings.ports[1],
        "AXO_NAT_TCP_S": settings.tcp_seconds,
        "AXO_NAT_TCP_SYN_S": settings.tcp_syn_seconds,
        "AXO_NAT_TCP_FIN_S": settings.tcp_fin_seconds,
        "AXO_NAT_ANY_S": settings.any_seconds,
    }


def exempt_terms(networks: Iterable[Network]) -> str:
    """A C condition on the destination: inside any of the networks; ``0`` for none."""
    return " || ".join(_term(n) for n in sorted(set(networks), key=str)) or "0"


def _term(network: Network) -> str:
    if isinstance(network, IPv4Network):
        return f"AXO_MASQ_NET4({int(network.network_address):#x}u, {int(network.netmask):#x}u)"
    words = [*_words(network.network_address), *_words(network.netmask)]
    return f"AXO_MASQ_NET6({', '.join(f'{w:#x}u' for w in words)})"


def _words(address: IPv6Address) -> list[int]:
    return [(int(address) >> shift) & 0xFFFFFFFF for shift in (96, 64, 32, 0)]


def device_address(
    ifindex: int, ifname: str, addresses: Iterable[Address], settings: MasqueradeSettings
) -> MasqueradeAddress:
    """What stands for pods on a device: its first address of each family that is switched on."""
    usable = [a for a in addresses if not (a.is_link_local or a.is_loopback or a.is_multicast)]
    ipv4 = next((a for a in usable if isinstance(a, IPv4Address)), None)
    ipv6 = next((a for a in usable if isinstance(a, IPv6Address)), None)
    keeps = bool(settings.devices) and not matches(ifname, settings.devices)
    return MasqueradeAddress(
        ifindex, ifname, ipv4 if settings.ipv4 else None, ipv6 if settings.ipv6 else None, keeps
    )


def answer_key(key: NatKey, entry: NatEntry) -> NatKey:
    """The incoming side of an outgoing mapping."""
    kind = type(key)
    addr: Address = entry.addr
    return kind(key.daddr, addr, key.proto, Direction.IN, key.dport, entry.port)  # type: ignore[arg-type]


def origin_key(key: NatKey, entry: NatEntry) -> NatKey:
    """The outgoing side of an incoming mapping."""
    kind = type(key)
    addr: Address = entry.addr
    return kind(addr, key.saddr, key.proto, Direction.OUT, entry.port, key.sport)  # type: ignore[arg-type]


def partner_key(key: NatKey, entry: NatEntry) -> NatKey:
    """The other side of a mapping."""
    return answer_key(key, entry) if key.dir == Direction.OUT else origin_key(key, entry)


def partner_of(
    key: NatKey, entry: NatEntry, find: Callable[[NatKey], NatEntry | None]
) -> NatEntry | None:
    """The other side, unless it is lost: what stands there then may belong to another flow."""
    other = partner_key(key, entry)
    found = find(other)
    return found if found is not None and partner_key(other, found) == key else None


def expired(
    late: Mapping[NatKey, NatEntry], find: Callable[[NatKey], NatEntry | None], now: int
) -> list[NatKey]:
    """Which of the ``late`` entries (past their time) to remove; ``find`` looks a partner up.

    A flow goes when both sides are past their time, or the last side left is. A side that still
    lives keeps its partner: answers may come for long where little is sent.
    """
    gone: list[NatKey] = []
    for key, entry in late.items():
        partner = partner_of(key, entry, lambda other: late.get(other) or find(other))
        if partner is None or partner.expires < now:
            gone.append(key)
    return gone


def key_type(family: int) -> type[NatKey4] | type[NatKey6]:
    """Model of a family's keys."""
    return NatKey4 if family == 4 else NatKey6
