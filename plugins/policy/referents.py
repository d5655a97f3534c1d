"""What rules may refer to, as rows: CiliumCIDRGroup, Service, EndpointSlice."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Table, TableRegistry
from axoneme.plugins.policy.decode.fields import Node

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Pairs = tuple[tuple[str, str], ...]
ServiceName = tuple[str, str]
"""Namespace and name."""

SERVICE_LABEL: Final = "kubernetes.io/service-name"
MAX_ADDRESSES: Final = 10_000


@frozen
class CidrGroup:
    """Row of table ``cidr_groups``. Key: ``name``."""

    name: str
    labels: Pairs
    cidrs: tuple[Prefix, ...]


@frozen
class ServiceRow:
    """Row of table ``policy_services``. Key: ``(namespace, name)``."""

    namespace: str
    name: str
    labels: Pairs
    selector: Pairs
    """Empty: somebody else says who is behind it."""


@frozen
class SliceRow:
    """Row of table ``policy_slices``. Key: ``(namespace, name)``; index ``service``."""

    namespace: str
    name: str
    service: ServiceName
    addresses: tuple[Address, ...]
    ports: tuple[int, ...] = ()
    """TCP ports, host order."""


def referent_tables(
    tables: TableRegistry,
) -> tuple[Table[str, CidrGroup], Table[ServiceName, ServiceRow], Table[ServiceName, SliceRow]]:
    """Make the three tables."""
    return (
        tables.create("cidr_groups", CidrGroup, key=lambda r: r.name),
        tables.create("policy_services", ServiceRow, key=lambda r: (r.namespace, r.name)),
        tables.create(
            "policy_slices",
            SliceRow,
            key=lambda r: (r.namespace, r.name),
            indexes={"service": lambda r: [r.service]},
        ),
    )


def decode_group(obj: ClusterObject) -> CidrGroup:
    """A CiliumCIDRGroup; a bad prefix refuses it, and its last good version stays."""
    spec = Node(str(obj.key), "", obj.body).get("spec")
    if not spec.present:
        raise spec.error("is required")
    spec.mapping("externalCIDRs")
    listed = spec.get("externalCIDRs")
    if not listed.present:
        raise listed.error("is required")
    cidrs = tuple(dict.fromkeys(n.prefix() for n in listed.items()))
    return CidrGroup(obj.key.name, _pairs(obj.labels), cidrs)


def decode_service(obj: ClusterObject) -> ServiceRow | None:
    """A Service; one of type ExternalName stands for nobody."""
    spec = obj.spec
    if spec.get("type") == "ExternalName":
        return None
    chosen = spec.get("selector")
    if chosen is not None and not isinstance(chosen, Mapping):
        raise InvalidObjectError(str(obj.key), "spec.selector", "must be a mapping")
    for key, value in (chosen or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidObjectError(str(obj.key), f"spec.selector.{key}", "must be text")
    pairs = _pairs(chosen or {})
    return ServiceRow(obj.key.namespace, obj.key.name, _pairs(obj.labels), pairs)


def decode_slice(obj: ClusterObject) -> SliceRow | None:
    """An EndpointSlice that belongs to a Service."""
    service = obj.labels.get(SERVICE_LABEL)
    kind = obj.body.get("addressType")
    if service is None or kind == "FQDN":
        return None
    found: list[Address] = []
    endpoints: Any = obj.body.get("endpoints") or ()
    if not isinstance(endpoints, list | tuple):
        raise InvalidObjectError(str(obj.key), "endpoints", "must be a list")
    for index, endpoint in enumerate(endpoints[:MAX_ADDRESSES]):
        addresses = endpoint.get("addresses") if isinstance(endpoint, Mapping) else None
        for number, text in enumerate(addresses or ()):
            try:
                found.append(ip_address(text))
            except ValueError:
                path = f"endpoints[{index}].addresses[{number}]"
                raise InvalidObjectError(str(obj.key), path, "is no address") from None
    name = obj.key.namespace, service
    return SliceRow(
        obj.key.namespace, obj.key.name, name, tuple(dict.fromkeys(found)), _tcp_ports(obj)
    )


def _tcp_ports(obj: ClusterObject) -> tuple[int, ...]:
    listed: Any = obj.body.get("ports") or ()
    if not isinstance(listed, list | tuple):
        raise InvalidObjectError(str(obj.key), "ports", "must be a list")
    ports = [p.get("port") for p in listed if isinstance(p, Mapping) and _is_tcp(p)]
    return tuple(p for p in ports if isinstance(p, int) and 0 < p < 65536)


def _is_tcp(port: Mapping[str, Any]) -> bool:
    return str(port.get("protocol", "TCP")) == "TCP"


def _pairs(mapping: Mapping[str, str]) -> Pairs:
    return tuple(sorted(mapping.items()))
