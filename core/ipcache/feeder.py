"""Fills the ipcache from the cluster's nodes and endpoints.

An endpoint of another node counts only while its node is known and not left out for a clash:
nobody else vouches for where its address is. Of a node with pod CIDRs only addresses inside them
count. Endpoints of this node are known at first hand and their objects are skipped. Of several
objects with one address the one created last counts. A pod that no object tells of yet is
``unmanaged``: in the cluster, so never the world, and nobody's pod.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from axoneme.core.ipcache.ipcache import Ipcache, Prefix, host_prefix
from axoneme.core.ipcache.remote import ClusterEndpoint
from axoneme.core.model.identity import Reserved
from axoneme.core.model.node import Node
from axoneme.core.state import Changes, Table

Address = IPv4Address | IPv6Address
Name = tuple[str, str]
Claim = tuple[Prefix, str]
"""Prefix and source."""


class IpcacheFeeder:
    """Subscribes to both tables; lives on the loop's thread."""

    def __init__(
        self,
        ipcache: Ipcache,
        nodes: Table[str, Node],
        endpoints: Table[Name, ClusterEndpoint],
        *,
        underlay: int = 4,
        identity_of: Callable[[Node], int],
    ) -> None:
        """``identity_of`` tells the number of a node."""
        self._ipcache = ipcache
        self._nodes = nodes
        self._endpoints = endpoints
        self._identity_of = identity_of
        self._underlay = underlay
        self._node_of: dict[Address, Node] = {}
        self._addresses: dict[str, set[Address]] = {}
        self._claims: dict[str, set[Claim]] = {}
        self._known: dict[Name, ClusterEndpoint] = {}
        nodes.subscribe(self._nodes_changed)
        endpoints.subscribe(self._endpoints_changed)

    def tunnel_address(self, node: Node) -> Address | None:
        """The underlay address that packets for a node's pods go to."""
        return (node.ipv4 or node.ipv6) if self._underlay == 4 else (node.ipv6 or node.ipv4)

    # Nodes

    def refresh(self, name: str) -> None:
        """A node has another identity."""
        node = self._nodes.get(name)
        if node is not None:
            self._set_node(name, node)

    def _nodes_changed(self, changes: Changes[str, Node]) -> None:
        touched: set[Address] = set()
        for name in changes.deleted:
            touched |= self._set_node(name, None)
        for name, node in changes.upserted.items():
            touched |= self._set_node(name, node)
        for address in touched:
            for endpoint in self._endpoints.find("node", address):
                self._resolve_all(endpoint)

    def _set_node(self, name: str, node: Node | None) -> set[Address]:
        """Replace what a node claims; the underlay addresses that this is about."""
        entries = self._entries(node) if node is not None else {}
        for prefix, source in self._claims.pop(name, set()) - entries.keys():
            self._ipcache.delete(prefix, source)
        for (prefix, source), (identity, via, direct) in entries.items():
            self._ipcache.upsert(prefix, identity, via, source, direct=direct)
        if entries:
            self._claims[name] = set(entries)
        touched = self._addresses.pop(name, set())
        for address in touched:
            self._node_of.pop(address, None)
        if node is not None:
            self._addresses[name] = set(node.addresses)
            self._node_of.update(dict.fromkeys(node.addresses, node))
        return touched | self._addresses.get(name, set())

    def _entries(self, node: Node) -> dict[Claim, tuple[int, Address | None, bool]]:
        """What a node claims, with identity, underlay address, and whether it is one itself."""
        source = "host" if node.local else "node"
        identity = self._identity_of(node)
        via = None if node.local else self.tunnel_address(node)
        found: dict[Claim, tuple[int, Address | None, bool]] = {}
        for address in node.addresses:
            router = address in (node.router_ipv4, node.router_ipv6)
            # Underlay addresses are reached as they are, the others through the tunnel.
            direct = via is not None and not router
            found[host_prefix(address), source] = (identity, via, direct)
        for prefix in () if node.local else node.pod_cidrs:
            found[prefix, "pod-cidr"] = (int(Reserved.UNMANAGED), via, False)
        return found

    # Endpoints

    def _endpoints_changed(self, changes: Changes[Name, ClusterEndpoint]) -> None:
        for key in changes.deleted:
            old = self._known.pop(key, None)
            if old is not None:
                self._resolve_all(old)
        for key, endpoint in changes.upserted.items():
            old = self._known.get(key)
            self._known[key] = endpoint
            if old is not None and (old.ipv4, old.ipv6) != (endpoint.ipv4, endpoint.ipv6):
                self._resolve_all(old)
            self._resolve_all(endpoint)

    def _resolve_all(self, endpoint: ClusterEndpoint) -> None:
        for address in (endpoint.ipv4, endpoint.ipv6):
            if address is not None:
                self._resolve(address)

    def _resolve(self, address: Address) -> None:
        """Decide anew who has an address."""
        prefix = host_prefix(address)
        claimants = self._endpoints.find("address", address)
        if len(claimants) > 1:
            claimants.sort(key=_age, reverse=True)
        for endpoint in claimants:
            node = self._node_of.get(endpoint.node) if endpoint.node is not None else None
            if node is not None and not node.local and _may_hold(node, address):
                via = self.tunnel_address(node)
                self._ipcache.upsert(prefix, endpoint.identity, via, "endpoint")
                return
        self._ipcache.delete(prefix, "endpoint")


def _age(endpoint: ClusterEndpoint) -> tuple[str, str, str]:
    """The same order on every node and after every restart."""
    return endpoint.created, endpoint.namespace, endpoint.name


def _may_hold(node: Node, address: Address) -> bool:
    """Whether an address may be of a pod of ``node``; without pod CIDRs nobody can say."""
    cidrs = [c for c in node.pod_cidrs if c.version == address.version]
    return not cidrs or any(address in c for c in cidrs)
