"""Kubernetes Service and EndpointSlice to rows. Bad text names its field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final, TypeVar

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.balancing import PROTOCOLS, Address, Network
from axoneme.core.model.objects import ClusterObject
from axoneme.plugins.services.rows import Endpoint, Pairs, Port, Service, Slice

SERVICE_LABEL: Final = "kubernetes.io/service-name"
PROXY_LABEL: Final = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
TOPOLOGY: Final = (
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/topology-aware-hints",
)
KUBECTL: Final = "kubectl.kubernetes.io/"
"""Copies of whole objects, among others."""
DEFAULT_AFFINITY: Final = 10800
MAX_ENDPOINTS: Final = 1000
TYPES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
T = TypeVar("T")


class Reader:
    """One object's body, read with the path of each field at hand."""

    def __init__(self, obj: ClusterObject) -> None:
        self._name = str(obj.key)

    def bad(self, path: str, why: str) -> InvalidObjectError:
        """The error about a field."""
        return InvalidObjectError(self._name, path, why)

    def items(self, holder: Mapping[str, Any], key: str, path: str) -> list[Any]:
        """A list, empty when absent."""
        value = holder.get(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            raise self.bad(path, "must be a list")
        return list(value)

    def mappings(
        self, holder: Mapping[str, Any], key: str, path: str
    ) -> list[tuple[str, Mapping[str, Any]]]:
        """A list of mappings, each with its path."""
        found = []
        for index, item in enumerate(self.items(holder, key, path)):
            if not isinstance(item, (dict, Mapping)):  # to ask an ABC is slow
                raise self.bad(f"{path}[{index}]", "must be a mapping")
            found.append((f"{path}[{index}]", item))
        return found

    def number(self, value: Any, path: str, low: int, high: int) -> int:
        """An integer within bounds."""
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(path, f"{value!r} is not a number from {low} to {high}")
        return value

    def parsed(self, parse: Callable[[str], T], value: Any, path: str, what: str) -> T:
        """A text that ``parse`` understands."""
        if not isinstance(value, str):
            raise self.bad(path, f"{value!r} is not {what}")
        try:
            return parse(value)
        except ValueError:
            raise self.bad(path, f"{value!r} is not {what}") from None

    def address(self, value: Any, path: str) -> Address:
        """An IP address, with no zone."""
        found: Address = self.parsed(ip_address, value, path, "an IP address")
        if "%" in str(value):
            raise self.bad(path, f"{value!r} has a zone")
        return found

    def addresses(self, holder: Mapping[str, Any], key: str, path: str) -> tuple[Address, ...]:
        """A list of them. There are many, so the C library looks first."""
        return tuple(
            _plain_address(value) or self.address(value, f"{path}[{index}]")
            for index, value in enumerate(self.items(holder, key, path))
        )

    def protocol(self, value: Any, path: str) -> int:
        """TCP, UDP or SCTP."""
        if value not in PROTOCOLS:
            raise self.bad(path, f"{value!r} is none of {', '.join(PROTOCOLS)}")
        return PROTOCOLS[value]


def _plain_address(value: Any) -> Address | None:
    """What is an address without doubt; four times as fast as ``ip_address``."""
    try:
        if ":" in value:
            return IPv6Address(inet_pton(AF_INET6, value))
        return IPv4Address(inet_pton(AF_INET, value))
    except (OSError, ValueError, TypeError):
        return None


def _loose_network(text: str) -> Network:
    return ip_network(text.strip(), strict=False)


def is_served(obj: ClusterObject, proxy_name: str) -> bool:
    """Whether a Service is ours to serve: has addresses, and names no other proxy."""
    spec = obj.spec
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
        return False
    if HEADLESS_LABEL in obj.labels:
        return False
    return obj.labels.get(PROXY_LABEL, "") == proxy_name


def decode_service(obj: ClusterObject) -> Service:
    """A Service with addresses."""
    read, spec = Reader(obj), obj.spec
    kind = spec.get("type") or "ClusterIP"
    if kind not in TYPES:
        raise read.bad("spec.type", f"{kind!r} is none of {', '.join(TYPES)}")
    cluster_ips = _cluster_ips(read, spec)
    ports = tuple(_port(read, path, p) for path, p in read.mappings(spec, "ports", "spec.ports"))
    _unique(read, ports)
    external = _addresses(read, spec, "externalIPs")
    meta = obj.body.get("metadata") or {}
    balanced = kind == "LoadBalancer"
    outside = kind != "ClusterIP" or bool(external)
    return Service(
        name=(obj.key.namespace, obj.key.name),
        uid=obj.uid,
        created=str(meta.get("creationTimestamp") or "~"),
        labels=_pairs(obj.labels),
        annotations=tuple((k, v) for k, v in _pairs(obj.annotations) if not k.startswith(KUBECTL)),
        selector=_pairs(spec.get("selector") or {}),
        type=kind,
        families=_families(spec, cluster_ips),
        cluster_ips=cluster_ips,
        external_ips=external,
        balancer_ips=_ingress(read, obj) if balanced else (),
        balancer_class=str(spec.get("loadBalancerClass") or ""),
        ports=ports,
        local_in=_policy(read, spec, "internalTrafficPolicy"),
        local_out=_policy(read, spec, "externalTrafficPolicy") and outside,
        affinity_seconds=_affinity(read, spec),
        ranges=_ranges(read, spec) if balanced else (),
        health_port=_health(read, spec) if balanced else 0,
        topology=_topology(obj),
    )


def _cluster_ips(read: Reader, spec: Mapping[str, Any]) -> tuple[Address, ...]:
    listed = read.addresses(spec, "clusterIPs", "spec.clusterIPs")
    if not listed and spec.get("clusterIP"):
        return (read.address(spec["clusterIP"], "spec.clusterIP"),)
    return listed


def _families(spec: Mapping[str, Any], cluster_ips: tuple[Address, ...]) -> tuple[int, ...]:
    if cluster_ips:
        return tuple(dict.fromkeys(a.version for a in cluster_ips))
    named = spec.get("ipFamilies") or ["IPv4", "IPv6"]
    return tuple(4 if f == "IPv4" else 6 for f in named)


def _port(read: Reader, path: str, port: Mapping[str, Any]) -> Port:
    node_port = port.get("nodePort")
    return Port(
        str(port.get("name") or ""),
        read.number(port.get("port"), f"{path}.port", 1, 65535),
        read.protocol(port.get("protocol", "TCP"), f"{path}.protocol"),
        read.number(node_port, f"{path}.nodePort", 0, 65535) if node_port is not None else 0,
    )


def _unique(read: Reader, ports: tuple[Port, ...]) -> None:
    for index, port in enumerate(ports):
        if any(p.name == port.name or (p.port, p.proto) == (port.port, port.proto)
               for p in ports[:index]):  # fmt: skip
            raise read.bad(f"spec.ports[{index}]", "has the name or the number of another port")


def _addresses(read: Reader, spec: Mapping[str, Any], key: str) -> tuple[Address, ...]:
    return read.addresses(spec, key, f"spec.{key}")


def _ingress(read: Reader, obj: ClusterObject) -> tuple[Address, ...]:
    balancer = obj.status.get("loadBalancer")
    if not isinstance(balancer, Mapping):
        return ()
    base = "status.loadBalancer.ingress"
    return tuple(
        read.address(item["ip"], f"{path}.ip")
        for path, item in read.mappings(balancer, "ingress", base)
        if item.get("ip") and item.get("ipMode", "VIP") != "Proxy"
    )


def _policy(read: Reader, spec: Mapping[str, Any], key: str) -> bool:
    value = spec.get(key) or "Cluster"
    if value not in ("Cluster", "Local"):
        raise read.bad(f"spec.{key}", f"{value!r} is neither Cluster nor Local")
    return bool(value == "Local")


def _affinity(read: Reader, spec: Mapping[str, Any]) -> int:
    value = spec.get("sessionAffinity") or "None"
    if value == "None":
        return 0
    if value != "ClientIP":
        raise read.bad("spec.sessionAffinity", f"{value!r} is neither None nor ClientIP")
    config = spec.get("sessionAffinityConfig") or {}
    seconds = (config.get("clientIP") or {}).get("timeoutSeconds", DEFAULT_AFFINITY)
    return read.number(seconds, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 1, 86400)


def _ranges(read: Reader, spec: Mapping[str, Any]) -> tuple[Network, ...]:
    key = "loadBalancerSourceRanges"
    return tuple(
        read.parsed(_loose_network, value, f"spec.{key}[{index}]", "a network")
        for index, value in enumerate(read.items(spec, key, f"spec.{key}"))
    )


def _health(read: Reader, spec: Mapping[str, Any]) -> int:
    value = spec.get("healthCheckNodePort")
    return read.number(value, "spec.healthCheckNodePort", 0, 65535) if value is not None else 0


def _topology(obj: ClusterObject) -> bool:
    if any(obj.annotations.get(key, "").lower() == "auto" for key in TOPOLOGY):
        return True
    return obj.spec.get("trafficDistribution") in ("PreferClose", "PreferSameZone")


def _pairs(mapping: Mapping[str, Any]) -> Pairs:
    return tuple(sorted((str(k), str(v)) for k, v in mapping.items()))


def decode_slice(obj: ClusterObject) -> Slice | None:
    """An EndpointSlice of a Service; others, and those of names, are left out."""
    service = obj.labels.get(SERVICE_LABEL)
    if service is None or obj.body.get("addressType") == "FQDN":
        return None
    read = Reader(obj)
    ports = tuple(
        (
            str(p.get("name") or ""),
            read.protocol(p.get("protocol", "TCP"), f"{path}.protocol"),
            read.number(p["port"], f"{path}.port", 1, 65535),
        )
        for path, p in read.mappings(obj.body, "ports", "ports")
        if p.get("port") is not None
    )
    endpoints = read.mappings(obj.body, "endpoints", "endpoints")
    if len(endpoints) > MAX_ENDPOINTS:
        raise read.bad("endpoints", f"has {len(endpoints)} items, {MAX_ENDPOINTS} are allowed")
    return Slice(
        (obj.key.namespace, obj.key.name),
        (obj.key.namespace, service),
        ports,
        tuple(_endpoint(read, path, e) for path, e in endpoints),
    )


def _endpoint(read: Reader, path: str, endpoint: Mapping[str, Any]) -> Endpoint:
    said = endpoint.get("conditions") or {}
    if not isinstance(said, (dict, Mapping)):
        raise read.bad(f"{path}.conditions", "must be a mapping")
    ready = said.get("ready") is not False
    zones = _zones(endpoint["hints"]) if endpoint.get("hints") else ()
    return Endpoint(
        read.addresses(endpoint, "addresses", f"{path}.addresses"),
        ready,
        bool(said["serving"]) if said.get("serving") is not None else ready,
        bool(said.get("terminating")),
        str(endpoint.get("nodeName") or ""),
        str(endpoint.get("zone") or ""),
        zones,
    )


def _zones(hints: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(z.get("name")) for z in hints.get("forZones") or () if isinstance(z, Mapping))
