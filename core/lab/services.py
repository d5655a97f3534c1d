"""Services as a control plane completes them: cluster IPs and EndpointSlices.

Addresses come from 10.96.0.0/16 and fd00:10:96::/112, the lowest free one first. Who forwards them
is a plugin's matter; the objects are there for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from axoneme.core.errors import LabError
from axoneme.core.lab.model import Lab, PodRecord
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.store.sync import SyncStore

POOL4: Final = IPv4Network("10.96.0.0/16")
POOL6: Final = IPv6Network("fd00:10:96::/112")
OWNER_LABEL: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
_US: Final = "lab.axoneme.io"


def reconcile(lab: Lab, store: SyncStore) -> None:
    """Give every Service its addresses and its EndpointSlices; remove slices of services gone."""
    services = sorted(store.list("Service"), key=lambda o: o.key)
    taken = {ip for service in services for ip in _addresses(service.spec)}
    wanted = {}
    for service in services:
        body = _completed(service, taken)
        if body is not None:
            store.apply(body)
        for piece in _slices(service, lab.pods(), store):
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


def _completed(service: ClusterObject, taken: set[str]) -> dict[str, Any] | None:
    """The service with cluster IPs of both families, or ``None`` if it needs none."""
    spec = service.spec
    headless = spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    if headless or _addresses(spec):
        return None
    families = spec.get("ipFamilies") or ["IPv4", "IPv6"]
    pools: dict[str, IPv4Network | IPv6Network] = {"IPv4": POOL4, "IPv6": POOL6}
    ips = [_free(pools[family], taken) for family in families if family in pools]
    filled = {**spec, "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families}
    return {**service.body, "spec": filled}


def _free(pool: IPv4Network | IPv6Network, taken: set[str]) -> str:
    for address in pool.hosts():
        if str(address) not in taken:
            taken.add(str(address))
            return str(address)
    raise LabError(f"no free cluster IP in {pool}")


def _slices(
    service: ClusterObject, records: Iterable[PodRecord], store: SyncStore
) -> list[dict[str, Any]]:
    """One EndpointSlice per family for a service with a selector."""
    selector = service.spec.get("selector")
    if not selector:
        return []
    pods = []
    for record in records:
        if record.namespace == service.key.namespace and record.addresses:
            pod = store.get(ObjectKey("Pod", record.namespace, record.name))
            if all(pod.labels.get(k) == v for k, v in selector.items()):
                pods.append((record, pod))
    return [_slice(service, pods, family) for family in (4, 6)]


def _slice(
    service: ClusterObject, pods: list[tuple[PodRecord, ClusterObject]], family: int
) -> dict[str, Any]:
    endpoints = [
        {
            "addresses": [str(address)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": record.node,
            "targetRef": {"kind": "Pod", "namespace": record.namespace, "name": record.name},
        }
        for record, _ in pods
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
