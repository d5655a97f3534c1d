"""From nodes to the tunnel's device and routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import frozen

from axoneme.core.model.network import Link, Route
from axoneme.core.model.node import Node
from axoneme.plugins.tunnel.config import TunnelSettings

MIN_MTU: Final = 1280
"""RFC 8200: the smallest MTU that IPv6 works over."""


@frozen
class Plan:
    """The routes that can be had, and one sentence for each that cannot."""

    routes: tuple[Route, ...]
    problems: tuple[str, ...]


def pod_mtu(underlay_mtu: int, settings: TunnelSettings) -> int:
    """What a pod may send so that the encapsulated packet fits the underlay."""
    return max(underlay_mtu - settings.overhead, MIN_MTU)


def tunnel_link(settings: TunnelSettings, mtu: int) -> Link:
    """The flow-based device: remote and VNI of each packet come from its tunnel key.

    It learns nothing, resolves nothing (NOARP) and carries both families. IPv6 receivers accept
    a zero outer checksum, as RFC 6935 allows for tunnels: other senders may leave it out.
    """
    if settings.protocol == "geneve":
        attributes: tuple[tuple[str, object], ...] = (
            ("geneve_port", settings.port),
            ("geneve_collect_metadata", True),
            ("geneve_udp_zero_csum6_rx", True),
        )
    else:
        attributes = (
            ("vxlan_port", settings.port),
            ("vxlan_collect_metadata", True),
            ("vxlan_learning", False),
            ("vxlan_udp_zero_csum6_rx", True),
        )
    return Link(settings.device, settings.protocol, mtu=mtu, attributes=attributes, arp=False)


def tunnel_routes(
    nodes: Iterable[Node], settings: TunnelSettings, mtu: int, metric: int = 0
) -> Plan:
    """Route each remote pod CIDR to the tunnel device, from the node's own router address.

    Without the local node there is no source address yet: no routes, one problem.
    """
    rows = sorted(nodes, key=lambda n: n.name)
    local = next((n for n in rows if n.local), None)
    if local is None:
        return Plan((), ("the local node is not known yet",))
    routes: list[Route] = []
    problems: list[str] = []
    for node in rows:
        if node.local:
            continue
        if underlay_address(node, settings) is None:
            problems.append(f"node {node.name} has no {settings.underlay} underlay address")
            continue
        for cidr in node.pod_cidrs:
            source = local.router_ipv4 if cidr.version == 4 else local.router_ipv6
            if source is None:
                problems.append(f"no IPv{cidr.version} router address to reach {cidr} from")
                continue
            routes.append(Route(cidr, link=settings.device, source=source, mtu=mtu, metric=metric))
    return Plan(tuple(routes), tuple(problems))


def underlay_address(node: Node, settings: TunnelSettings) -> IPv4Address | IPv6Address | None:
    """The address that the outer header carries for this node."""
    return node.ipv4 if settings.underlay == "ipv4" else node.ipv6
