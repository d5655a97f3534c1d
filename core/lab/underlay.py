"""The network between the nodes: a bridge in a namespace of its own, and the outside world.

    node1 ── eth0 ─┐
    node2 ── eth0 ─┤ br0 in axo-lab-underlay ─ eth0 ── axo-lab-world: gateway .1, 198.51.100.1
    nodeN ── eth0 ─┘

No link of any of these namespaces leads to the machine's own namespace.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from axoneme.core.lab import cgroups, netns, offloads
from axoneme.core.lab.model import LabNode
from axoneme.core.lab.paths import UNDERLAY, WORLD, LabPaths
from axoneme.core.lab.shell import ip_batch

NETWORK4: Final = IPv4Network("172.18.0.0/24")
NETWORK6: Final = IPv6Network("fd00:18::/64")
GATEWAY4: Final = IPv4Address("172.18.0.1")
GATEWAY6: Final = IPv6Address("fd00:18::1")
WORLD4: Final = IPv4Address("198.51.100.1")
"""Documentation prefix (RFC 5737): an address outside the cluster."""
WORLD6: Final = IPv6Address("2001:db8:51::1")
MAX_NODES: Final = 200

EVERYWHERE = {
    # Duplicate address detection holds addresses back for a second; nothing here can clash.
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
_ROUTER = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}


def make_nodes(count: int) -> tuple[LabNode, ...]:
    """The first ``count`` nodes: ``node1`` at .2, ``node2`` at .3 and so on."""
    return tuple(
        LabNode(name=f"node{i}", ipv4=GATEWAY4 + i, ipv6=GATEWAY6 + i) for i in range(1, count + 1)
    )


def build(paths: LabPaths, nodes: tuple[LabNode, ...], *, wire: bool = False) -> None:
    """Make the namespaces of the underlay, the world and all nodes, and join them.

    ``wire``: nodes get frames as a physical device gets them, for XDP.
    """
    every = [UNDERLAY, WORLD, *(node.name for node in nodes)]
    netns.create(paths.netns_name(name) for name in every)
    for name in every:
        sysctls = EVERYWHERE if name in (UNDERLAY, WORLD) else EVERYWHERE | _ROUTER
        netns.write_sysctls(paths.netns(name), sysctls)
    ip_batch(_bridge_lines(paths, every[1:]), netns=paths.netns_name(UNDERLAY))
    if wire:
        offloads.like_hardware(paths.netns(UNDERLAY), [node.name for node in nodes])
    for node in nodes:
        cgroups.create(paths, node.name)
        ip_batch(_node_lines(node), netns=paths.netns_name(node.name))
    ip_batch(_world_lines(), netns=paths.netns_name(WORLD))


def _bridge_lines(paths: LabPaths, members: list[str]) -> list[str]:
    lines = ["link set lo up", "link add br0 type bridge mcast_snooping 0", "link set br0 up"]
    for name in members:
        namespace = paths.netns_name(name)
        lines += [
            f"link add {name} type veth peer name eth0 netns {namespace}",
            f"link set {name} master br0 up",
        ]
    return lines


def _node_lines(node: LabNode) -> list[str]:
    return [
        "link set lo up",
        f"addr add {node.ipv4}/{NETWORK4.prefixlen} dev eth0",
        f"addr add {node.ipv6}/{NETWORK6.prefixlen} dev eth0 nodad",
        "link set eth0 up",
        f"route add default via {GATEWAY4}",
        f"route add default via {GATEWAY6}",
    ]


def _world_lines() -> list[str]:
    return [
        "link set lo up",
        f"addr add {GATEWAY4}/{NETWORK4.prefixlen} dev eth0",
        f"addr add {GATEWAY6}/{NETWORK6.prefixlen} dev eth0 nodad",
        "link set eth0 up",
        f"addr add {WORLD4}/32 dev lo",
        f"addr add {WORLD6}/128 dev lo nodad",
    ]
