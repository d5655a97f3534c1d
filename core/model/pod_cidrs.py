"""Which remote pod CIDRs a node may route to, and which claims are refused. Pure.

Nodes write their own CIDRs into the store, so a broken or hostile node can claim what belongs to
another. The local node's own CIDRs always win; of two remote nodes the first by name does.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen
from axoneme.core.model.node import Node

Network = IPv4Network | IPv6Network


@frozen
class RemoteCidr:
    """A pod CIDR and the node that serves it."""

    node: Node
    cidr: Network


@frozen
class Claims:
    """What is granted, in order of node names, and one sentence for each claim that is not."""

    granted: tuple[RemoteCidr, ...]
    problems: tuple[str, ...]


def remote_pod_cidrs(nodes: Iterable[Node]) -> Claims:
    """Decide the claims of all remote nodes."""
    ordered = sorted(nodes, key=lambda n: (not n.local, n.name))
    taken: list[RemoteCidr] = []
    problems: list[str] = []
    for node in ordered:
        for cidr in node.pod_cidrs:
            other = next((t for t in taken if overlap(cidr, t.cidr)), None)
            if other is None or other.node is node:
                taken.append(RemoteCidr(node, cidr))
            else:
                problems.append(
                    f"pod CIDR {cidr} of node {node.name} overlaps {other.cidr} of node "
                    f"{other.node.name}"
                )
    return Claims(tuple(t for t in taken if not t.node.local), tuple(problems))


def overlap(one: Network, two: Network) -> bool:
    """Whether two prefixes share an address; never across families."""
    if isinstance(one, IPv4Network):
        return isinstance(two, IPv4Network) and one.overlaps(two)
    return isinstance(two, IPv6Network) and one.overlaps(two)
