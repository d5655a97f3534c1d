"""Which devices of the node face the network.

The key ``devices`` names them, with ``+`` at the end for "anything that goes on" and ``!`` in
front to leave some out. Without it: the devices that hold a default route, or the node's address
when there is none. Devices of ours and of containers are never taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from axoneme.core.model.network import LINK_ALIAS, Route
from axoneme.core.netlink.addresses import AddressInfo
from axoneme.core.netlink.links import LinkInfo

Address = IPv4Address | IPv6Address

FOREIGN_PREFIXES = ("lo", "axo", "cilium", "lxc", "veth", "docker", "cali", "cbr")
"""Names that are never taken without being asked for by ``devices``."""
SERVICES = "kube-ipvs0"
"""The device on which kube-proxy, as IPVS, keeps the addresses of services."""


@frozen
class Device:
    """A native device and what the packet path needs of it."""

    name: str
    index: int
    mtu: int
    mac: str
    addresses: tuple[Address, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Directly connected ones: those of the addresses."""


@frozen
class NodeDevices:
    """The native devices; the first is the direct-routing one, towards the other nodes."""

    devices: tuple[Device, ...] = ()
    others: tuple[Address, ...] = ()
    """Addresses of the node's other links, which it answers for as well."""

    @property
    def direct(self) -> Device | None:
        """The device between the nodes, if any was found."""
        return self.devices[0] if self.devices else None

    @property
    def mtu(self) -> int:
        """The least MTU of them all; 1500 without any."""
        return min((d.mtu for d in self.devices), default=1500)

    def address(self, version: int) -> Address | None:
        """The node's own address of a family, on the direct-routing device first."""
        for device in self.devices:
            for address in device.addresses:
                if address.version == version:
                    return address
        return None


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether ``patterns`` (``eth0``, ``eth+``, ``!eth1``) take a device; exclusion wins."""
    taken = False
    for pattern in patterns:
        body = pattern.removeprefix("!")
        hit = name.startswith(body[:-1]) if body.endswith("+") else name == body
        if hit and pattern.startswith("!"):
            return False
        taken = taken or hit
    return taken


def detect(
    links: Sequence[LinkInfo],
    addresses: Sequence[AddressInfo],
    routes: Sequence[tuple[Route, int]],
    *,
    patterns: Sequence[str] = (),
    direct: str = "",
) -> NodeDevices:
    """Choose the devices. ``routes`` are those of the main table, with their device's index."""
    wanted = [p for p in patterns if not p.startswith("!")]
    usable = [x for x in links if x.up and _may_be_native(x, named=matches(x.name, wanted))]
    if wanted:
        chosen = [x for x in usable if matches(x.name, patterns)]
    else:
        chosen = [x for x in usable if matches(x.name, ("+", *patterns))]
        chosen = _by_default_route(chosen, routes) or _by_address(chosen, addresses)
    if direct:
        chosen += [x for x in usable if x.name == direct and x not in chosen]
    found = [_device(x, addresses) for x in chosen]
    found.sort(key=lambda d: (d.name != direct, not d.addresses, d.index))
    return NodeDevices(tuple(found), _other_addresses(links, addresses, found))


def _other_addresses(
    links: Sequence[LinkInfo], addresses: Sequence[AddressInfo], chosen: Sequence[Device]
) -> tuple[Address, ...]:
    """What the node answers for beside the chosen devices; never a service's, which IPVS keeps."""
    left_out = {x.index for x in links if x.name == SERVICES or x.alias.startswith(LINK_ALIAS)}
    left_out |= {d.index for d in chosen}
    found = (a.interface.ip for a in addresses if a.index not in left_out)
    return tuple(sorted({a for a in found if not (a.is_link_local or a.is_loopback)}, key=str))


def _may_be_native(link: LinkInfo, *, named: bool) -> bool:
    if link.alias.startswith(LINK_ALIAS) or link.name == "lo" or link.master:
        return False
    return named or not link.name.startswith(FOREIGN_PREFIXES)


def _by_default_route(links: list[LinkInfo], routes: Sequence[tuple[Route, int]]) -> list[LinkInfo]:
    indexes = {
        index
        for route, index in routes
        if route.destination.prefixlen == 0 and route.kind == "unicast"
    }
    return [x for x in links if x.index in indexes]


def _by_address(links: list[LinkInfo], addresses: Sequence[AddressInfo]) -> list[LinkInfo]:
    return [x for x in links if _device(x, addresses).addresses][:1]


def _device(link: LinkInfo, addresses: Sequence[AddressInfo]) -> Device:
    own = [
        a.interface for a in addresses if a.index == link.index and not a.interface.ip.is_link_local
    ]
    networks = tuple(dict.fromkeys(i.network for i in own))
    return Device(link.name, link.index, link.mtu, link.mac, tuple(i.ip for i in own), networks)
