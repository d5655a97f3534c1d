"""What a cluster looks like to a policy: namespaces, pods, nodes, services, groups, names, settings.

Nothing here is taken from the engine. Addresses are ``ipaddress`` objects, ports are host-order integers.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import attrs

Address = IPv4Address | IPv6Address
Labels = dict[str, str]


@attrs.frozen
class NamedPort:
    """A port that a container gives a name: ``protocol`` is TCP, UDP or SCTP."""

    name: str
    protocol: str
    port: int


@attrs.frozen
class Pod:
    """One pod. ``reserved`` makes it something else than a workload: init, health, ingress, unmanaged."""

    namespace: str
    name: str
    node: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    labels: Labels = attrs.field(factory=dict)
    service_account: str = "default"
    ports: tuple[NamedPort, ...] = ()
    reserved: str = ""
    cluster: str = "default"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.ipv4, self.ipv6)


@attrs.frozen
class Node:
    """One node. Whether it is the local one depends on whose policy is looked at."""

    name: str
    addresses: tuple[Address, ...]
    labels: Labels = attrs.field(factory=dict)


@attrs.frozen
class Outside:
    """An address that belongs to no pod and no node."""

    address: Address


@attrs.frozen
class Service:
    """A Service: with a selector its backends are pods, without one the listed addresses."""

    namespace: str
    name: str
    labels: Labels = attrs.field(factory=dict)
    selector: Labels = attrs.field(factory=dict)
    endpoints: tuple[Address, ...] = ()


@attrs.frozen
class CidrGroup:
    """A CiliumCIDRGroup: prefixes under one name, selectable by labels."""

    name: str
    cidrs: tuple[str, ...]
    labels: Labels = attrs.field(factory=dict)


@attrs.frozen
class Settings:
    """The configuration keys that change what a policy means (reference 1.4), by their meaning."""

    enable_policy: str = "default"
    allow_localhost: str = "auto"
    cidr_match_mode: frozenset[str] = frozenset()
    default_local_cluster: bool = True
    non_default_deny: bool = True
    node_selector_labels: bool = False
    network_policy: bool = True
    cilium_network_policy: bool = True
    cilium_clusterwide_network_policy: bool = True
    cluster_network_policy: bool = True
    kube_apiserver: frozenset[Address] = frozenset()
    cluster_name: str = "default"


@attrs.frozen
class Cluster:
    """Everything that a verdict depends on besides the policies."""

    namespaces: dict[str, Labels]
    pods: tuple[Pod, ...]
    nodes: tuple[Node, ...]
    services: tuple[Service, ...] = ()
    cidr_groups: tuple[CidrGroup, ...] = ()
    names: dict[str, tuple[Address, ...]] = attrs.field(factory=dict)
    settings: Settings = Settings()

    def who(self, address: Address) -> Pod | Node | Outside:
        """Whose address this is."""
        for pod in self.pods:
            if address in pod.addresses:
                return pod
        for node in self.nodes:
            if address in node.addresses:
                return node
        return Outside(address)

    def namespace_labels(self, name: str) -> Labels:
        """A namespace's labels, with the name label that the API server sets on each."""
        return {"kubernetes.io/metadata.name": name} | self.namespaces.get(name, {})


def inside(address: Address, cidr: str) -> bool:
    """Whether an address lies in a prefix; never across families."""
    network = ip_network(cidr, strict=False)
    return address.version == network.version and address in network
