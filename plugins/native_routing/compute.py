"""From nodes and connected networks to direct routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from axoneme.core.model.network import Route
from axoneme.core.model.node import Node
from axoneme.plugins.native_routing.config import RoutingSettings

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@frozen
class Plan:
    """The routes that can be had, and one sentence for each that cannot."""

    routes: tuple[Route, ...]
    problems: tuple[str, ...]


@frozen
class Connected:
    """A network that a native device is on."""

    device: str
    network: Network


def direct_routes(
    nodes: Iterable[Node],
    connected: Iterable[Connected],
    settings: RoutingSettings,
    metric: int = 0,
) -> Plan:
    """Route each remote pod CIDR through its node, when the node is a neighbour.

    A node behind a router is a problem, or nothing at all with ``skip_unreachable`` (then
    somebody else, a routing daemon say, knows the way).
    """
    if not settings.direct_node_routes:
        return Plan((), ())
    networks = tuple(connected)
    routes: list[Route] = []
    problems: list[str] = []
    for node in sorted(nodes, key=lambda n: n.name):
        for cidr in () if node.local else node.pod_cidrs:
            via: Address | None = node.ipv4 if cidr.version == 4 else node.ipv6
            if via is None:
                problems.append(
                    f"node {node.name} has no IPv{cidr.version} address to reach {cidr} by"
                )
                continue
            device = next((n.device for n in networks if via in n.network), None)
            if device is not None:
                routes.append(Route(cidr, link=device, via=via, metric=metric))
            elif not settings.skip_unreachable:
                problems.append(f"node {node.name} ({via}) is not on a directly connected network")
    return Plan(tuple(routes), tuple(problems))
