"""Desired network state of the node: what plugins want netlink to hold.

A plugin adds to a :class:`NetworkState`; the network reconciler compares the union with the
kernel, applies the difference and sweeps what carries our marks and is no longer wanted: routes
and rules by protocol number, links by alias, addresses on our links.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Final

from attrs import Factory, define, frozen

ROUTE_PROTOCOL: Final = 165
"""Our number in ``rtm_protocol``; everything with it is ours."""

LINK_ALIAS: Final = "axoneme"
"""Prefix of ``IFLA_IFALIAS`` on each link that we make."""


@frozen
class Link:
    """A device that must exist and be up. ``attributes`` are of its kind (``vxlan_port`` …)."""

    name: str
    kind: str  # veth | vxlan | geneve | wireguard …
    mtu: int = 0
    mac: str = ""
    peer: str = ""  # veth: name of the other end, in the same namespace
    attributes: tuple[tuple[str, Any], ...] = ()
    arp: bool = True


@frozen
class Address:
    """An address on one of our links."""

    link: str
    address: IPv4Interface | IPv6Interface


@frozen
class Route:
    """A route. Key: destination, table, metric."""

    destination: IPv4Network | IPv6Network
    link: str = ""
    via: IPv4Address | IPv6Address | None = None
    source: IPv4Address | IPv6Address | None = None
    mtu: int = 0
    table: int = 254
    metric: int = 0
    kind: str = "unicast"  # unicast | unreachable | blackhole | local
    onlink: bool = False


@frozen
class Neighbor:
    """A permanent neighbour entry."""

    link: str
    address: IPv4Address | IPv6Address
    mac: str


@define
class NetworkState:
    """What everybody wants, together. Adding the same thing twice is fine."""

    links: dict[str, Link] = Factory(dict)
    addresses: set[Address] = Factory(set)
    routes: set[Route] = Factory(set)
    neighbors: set[Neighbor] = Factory(set)
    sysctls: dict[str, str] = Factory(dict)
