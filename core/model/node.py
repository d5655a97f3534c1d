"""Nodes of the cluster as rows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

Prefix = IPv4Network | IPv6Network


@frozen
class NodePool:
    """Blocks that a node has out of one pool of the cluster (CiliumPodIPPool)."""

    name: str
    cidrs: tuple[Prefix, ...]
    allow_first: bool = False
    """Pods may have a block's first address; else nobody has."""
    allow_last: bool = False


@frozen
class Node:
    """Row of table ``nodes``, decoded from CiliumNode. Key: ``name``."""

    name: str
    ipv4: IPv4Address | None = None
    """InternalIP of the node on the underlay."""
    ipv6: IPv6Address | None = None
    router_ipv4: IPv4Address | None = None
    """CiliumInternalIP: the node's own address inside its pod CIDR, held by ``axo_host``."""
    router_ipv6: IPv6Address | None = None
    pod_cidrs: tuple[Prefix, ...] = ()
    """Every prefix of the node's pods, those of pools included."""
    local: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    """Labels of the object, which are those of the Kubernetes Node; sorted."""

    pools: tuple[NodePool, ...] = ()
    """Which of the pod CIDRs belong to a pool, and to which one."""
    reads_slices: bool = False
    """Whether its agent says that it takes endpoints from CiliumEndpointSlices."""

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Every address of the node, underlay first."""
        every = (self.ipv4, self.ipv6, self.router_ipv4, self.router_ipv6)
        return tuple(a for a in every if a is not None)
