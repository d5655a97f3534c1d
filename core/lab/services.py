"""Services as a control plane completes them: cluster IPs and EndpointSlices.

Addresses come from 10.96.0.0/16 and fd00:10:96::/112, the lowest free one first. Who forwards them
is a plugin's matter; the objects are there for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from axoneme.core.errors import LabError
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store.sync import BlockingStore

POOL4: Final = IPv4Network("10.96.0.0/16")
POOL6: Final = IPv6Network("fd00:10:96::/112")
NODE_PORTS: Final = range(30000, 32768)
OWNER_LABEL: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
_US: Final = "lab.axoneme.io"
STATE: Final = "lab.axoneme.io/state"
"""Annotation of a pod: ``ready``, ``not-ready`` or ``terminating``."""
ZONE: Final = "topology.kubernetes.io/zone"


def reconcile(lab: Lab, store: BlockingStore) -> None:
    """Give every Service its addresses and its EndpointSlices; remove slices of services gone."""
    services = sorted(store.list("Service"), key=lambda o: o.key)
    taken = {ip for service in services for ip in _addresses(service.spec)}
    pools = {"IPv4": _unused(POOL4, taken), "IPv6": _unused(POOL6, taken)}
    pods = _pods(lab, store)
    zones = {n.key.name: n.labels.get(ZONE, "") for n in store.list("Node")}
    node_ports = {p for service in services for p in _node_ports(service.spec)}
    wanted = {}
    for service in services:
        body = _completed(service, pools, node_ports)
        if body is not None:
            store.apply(body)
        for piece in _slices(service, pods, zones):
            wanted[store.key_of(piece)] = piece
    for key, piece in wanted.items():
        store.apply(piece)
        assert key.kind == "EndpointSlice"
    for old in store.list("EndpointSlice"):
        if old.labels.get(MANAGED_BY) == _US and old.key not in wanted:
            store.delete(old.key)


def _addresses(spec: Mapping[str, Any]) -> list[str]:
    found = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [str(ip) for ip in found if ip and ip != "None"]


def _completed(
    service: ClusterObject, pools: Mapping[str, Iterator[str]], node_ports: set[int]
) -> dict[str, Any] | None:
    """The service with cluster IPs of both families and node ports, ``None`` if it needs none."""
    spec = service.spec
    headless = spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    if headless or (_addresses(spec) and not _lacks_node_ports(spec)):
        return None
    if _addresses(spec):
        return {**service.body, "spec": _with_node_ports(spec, node_ports)}
    families = spec.get("ipFamilies") or ["IPv4", "IPv6"]
    ips = [next(pools[family]) for family in families if family in pools]
    filled = {**spec, "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families}
    return {**service.body, "spec": _with_node_ports(filled, node_ports)}


def _wants_node_ports(spec: Mapping[str, Any]) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (
        kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )


def _wants_health_port(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _lacks_node_ports(spec: Mapping[str, Any]) -> bool:
    ports = spec.get("ports") or ()
    lacks = _wants_node_ports(spec) and any(not p.get("nodePort") for p in ports)
    return lacks or (_wants_health_port(spec) and not spec.get("healthCheckNodePort"))


def _with_node_ports(spec: Mapping[str, Any], taken: set[int]) -> dict[str, Any]:
    """Node ports where the type has them; one that is given stays."""
    filled = dict(spec)
    if _wants_node_ports(spec):
        filled["ports"] = [
            p if p.get("nodePort") else {**p, "nodePort": _free_port(taken)}
            for p in spec.get("ports") or ()
        ]
    if _wants_health_port(spec) and not spec.get("healthCheckNodePort"):
        filled["healthCheckNodePort"] = _free_port(taken)
    return filled


def _free_port(taken: set[int]) -> int:
    port = next((p for p in NODE_PORTS if p not in taken), None)
    if port is None:
        raise LabError("no free node port")
    taken.add(port)
    return port


def _node_ports(spec: Mapping[str, Any]) -> set[int]:
    found = {int(p["nodePort"]) for p in spec.get("ports") or () if p.get("nodePort")}
    return found | (
        {int(spec["healthCheckNodePort"])} if spec.get("healthCheckNodePort") else set()
    )


def _unused(pool: IPv4Network | IPv6Network, taken: set[str]) -> Iterator[str]:
    """Addresses that no service has, the lowest first."""
    for address in pool.hosts():
        if str(address) not in taken:
            taken.add(str(address))
            yield str(address)
    raise LabError(f"no free cluster IP in {pool}")


def _pods(lab: Lab, store: BlockingStore) -> list[tuple[PodRecord, ClusterObject]]:
    """The pods that have addresses, with their objects."""
    records = [r for r in lab.pods() if r.addresses]
    return [(r, store.get(ObjectKey("Pod", r.namespace, r.name))) for r in records]


def _slices(
    service: ClusterObject,
    pods: list[tuple[PodRecord, ClusterObject]],
    zones: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One EndpointSlice per family for a service with a selector."""
    selector = service.spec.get("selector")
    if not selector:
        return []
    mine = [
        (record, pod)
        for record, pod in pods
        if record.namespace == service.key.namespace
        and all(pod.labels.get(k) == v for k, v in selector.items())
    ]
    return [_slice(service, mine, family, zones) for family in (4, 6)]


def _slice(
    service: ClusterObject,
    pods: list[tuple[PodRecord, ClusterObject]],
    family: int,
    zones: Mapping[str, str],
) -> dict[str, Any]:
    every = bool(service.spec.get("publishNotReadyAddresses"))
    endpoints = [
        {
            "addresses": [str(address)],
            "conditions": _conditions(pod, every=every),
            "nodeName": record.node,
            **({"zone": zones[record.node]} if zones.get(record.node) else {}),
            "targetRef": {"kind": "Pod", "namespace": record.namespace, "name": record.name},
        }
        for record, pod in pods
        for address in record.addresses
        if address.version == family
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service.key.name}-ipv{family}",
            "namespace": service.key.namespace,
            "labels": {OWNER_LABEL: service.key.name, MANAGED_BY: _US},
        },
        "addressType": f"IPv{family}",
        "endpoints": endpoints,
        "ports": [_port(port, pods) for port in service.spec.get("ports") or ()],
    }


def _conditions(pod: ClusterObject, *, every: bool) -> dict[str, bool]:
    """A pod is ready unless its annotation says no; that it drains, another value says."""
    state = pod.annotations.get(STATE, "ready")
    ready = state == "ready"
    return {
        "ready": ready or every,
        "serving": ready or state == "terminating",
        "terminating": state == "terminating",
    }


def _port(port: Mapping[str, Any], pods: list[tuple[PodRecord, ClusterObject]]) -> dict[str, Any]:
    """A port of the slice: the target port, a name of a container port resolved."""
    target = port.get("targetPort", port["port"])
    if not isinstance(target, int):
        named = {
            p.get("name"): p["containerPort"]
            for _, pod in pods
            for container in pod.spec.get("containers") or ()
            for p in container.get("ports") or ()
        }
        target = named.get(target, port["port"])
    return {
        "name": str(port.get("name", "")),
        "port": target,
        "protocol": str(port.get("protocol", "TCP")),
    }
