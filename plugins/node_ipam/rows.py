"""Rows of Node IPAM, and what they are read from: Node, CiliumNode, EndpointSlice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final

from attrs import field, frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.operator.balancers import Address, Name

EXCLUDED_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
LEAVING_TAINT: Final = "ToBeDeletedByClusterAutoscaler"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
EXTERNAL: Final = "ExternalIP"
INTERNAL: Final = "InternalIP"
MAX_ADDRESSES: Final = 64
MAX_ENDPOINTS: Final = 1000


@frozen
class BalancerNode:
    """Row of tables ``balancer_nodes`` and ``balancer_cilium_nodes``. Key: ``name``."""

    name: str
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    external: tuple[Address, ...] = ()
    internal: tuple[Address, ...] = ()
    ready: bool = True
    """Not said to be otherwise: where no kubelet runs, nobody says anything."""
    leaving: bool = False
    """The autoscaler is about to remove it."""

    @property
    def usable(self) -> bool:
        """Whether clients may be sent there."""
        return self.ready and not self.leaving and EXCLUDED_LABEL not in self.labels

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All of both types."""
        return (*self.external, *self.internal)


@frozen
class ServiceNodes:
    """Row of table ``balancer_slices``: the nodes with ready endpoints of an EndpointSlice."""

    name: Name
    service: Name
    nodes: frozenset[str] = frozenset()


def decode_node(obj: ClusterObject) -> BalancerNode:
    """A Kubernetes Node."""
    where, status = str(obj.key), obj.status
    taints = _mappings(where, "spec.taints", obj.spec.get("taints"))
    conditions = _mappings(where, "status.conditions", status.get("conditions"))
    ready = [c.get("status") for c in conditions if c.get("type") == "Ready"]
    return BalancerNode(
        obj.key.name,
        dict(obj.labels),
        *_addresses(where, "status.addresses", status.get("addresses"), "address"),
        ready=not ready or ready[0] == "True",
        leaving=any(t.get("key") == LEAVING_TAINT for t in taints),
    )


def decode_cilium_node(obj: ClusterObject) -> BalancerNode:
    """A CiliumNode, which knows addresses and labels only."""
    found = _addresses(str(obj.key), "spec.addresses", obj.spec.get("addresses"), "ip")
    return BalancerNode(obj.key.name, dict(obj.labels), *found)


def decode_slice(obj: ClusterObject) -> ServiceNodes | None:
    """An EndpointSlice of a service: where its ready endpoints are."""
    service = obj.labels.get(SERVICE_LABEL)
    if service is None:
        return None
    where, nodes = str(obj.key), set()
    for endpoint in _mappings(where, "endpoints", obj.body.get("endpoints"))[:MAX_ENDPOINTS]:
        said = endpoint.get("conditions") or {}
        ready = not isinstance(said, Mapping) or said.get("ready") is not False
        if ready and endpoint.get("nodeName"):
            nodes.add(str(endpoint["nodeName"]))
    space = obj.key.namespace
    return ServiceNodes((space, obj.key.name), (space, service), frozenset(nodes))


def _mappings(where: str, path: str, value: Any) -> list[Mapping[str, Any]]:
    found = value or []
    if not isinstance(found, list | tuple) or not all(isinstance(v, Mapping) for v in found):
        raise InvalidObjectError(where, path, "must be a list of mappings")
    return list(found)


def _addresses(
    where: str, path: str, value: Any, key: str
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """External and internal ones; names and other types are left out."""
    found: dict[str, list[Address]] = {EXTERNAL: [], INTERNAL: []}
    for index, entry in enumerate(_mappings(where, path, value)[:MAX_ADDRESSES]):
        if entry.get("type") not in found:
            continue
        try:
            found[entry["type"]].append(ip_address(str(entry.get(key))))
        except ValueError as error:
            raise InvalidObjectError(where, f"{path}[{index}].{key}", str(error)) from None
    return tuple(found[EXTERNAL]), tuple(found[INTERNAL])


def merged_nodes(
    nodes: Iterable[BalancerNode], cilium: Iterable[BalancerNode]
) -> dict[str, BalancerNode]:
    """Every node once: the Node if there is one with addresses, else with those of CiliumNode."""
    every = {node.name: node for node in cilium}
    for node in nodes:
        known = every.get(node.name)
        if node.addresses or known is None:
            every[node.name] = node
        else:
            every[node.name] = BalancerNode(
                node.name, node.labels, known.external, known.internal, node.ready, node.leaving
            )
    return every
