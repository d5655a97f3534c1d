"""Where this node's pod CIDRs come from, when it is not the operator alone who writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from axoneme.core.model.objects import ClusterObject

Prefix = IPv4Network | IPv6Network


class IpamSource(Protocol):
    """What an IPAM plugin says about ``spec.ipam`` of this node's CiliumNode.

    Called on the loop, whenever the object is looked at; must not block.
    """

    def wanted(self, present: Mapping[str, Any], node: ClusterObject | None) -> Mapping[str, Any]:
        """The ``spec.ipam`` that is right, given the present one and the Kubernetes Node.

        ``node`` is ``None`` as long as there is none. What is not the plugin's stays as it is.
        """
        ...

    def why_missing(self, families: Sequence[int]) -> str:
        """Why these families have no pod CIDR yet; empty: the operator's status tells."""
        ...

    def router_prefixes(self, prefixes: Sequence[Prefix]) -> Sequence[Prefix]:
        """Of the node's pod CIDRs those in which its router addresses are, best first."""
        ...
