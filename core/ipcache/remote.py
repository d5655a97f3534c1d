"""Endpoints of the whole cluster as slim rows, decoded from CiliumEndpoint objects.

Rows are small on purpose: a node holds one for every pod of the cluster (``performance.md``,
P13). Field names: reference 2.1, CiliumEndpoint ``cilium.io/v2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, inet_pton
from sys import intern
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.objects import ClusterObject
from axoneme.core.state import Table, TableRegistry

SHARED: Final = 8192
"""How many different values are looked for among the ones that are there."""


@frozen
class ClusterEndpoint:
    """Row of table ``cluster_endpoints``. Key: ``(namespace, name)``."""

    namespace: str
    name: str
    identity: int
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    node: IPv4Address | IPv6Address | None = None
    """Underlay address of the endpoint's node, as the object names it."""
    named_ports: tuple[NamedPort, ...] = ()
    created: str = ""


def cluster_endpoint_table(tables: TableRegistry) -> Table[tuple[str, str], ClusterEndpoint]:
    """Make table ``cluster_endpoints``; indexes ``identity``, ``node`` and ``address``."""
    return tables.create(
        "cluster_endpoints",
        ClusterEndpoint,
        key=lambda r: (r.namespace, r.name),
        indexes={
            "identity": lambda r: [r.identity],
            "node": lambda r: [r.node],
            "address": lambda r: [a for a in (r.ipv4, r.ipv6) if a is not None],
        },
    )


def decode_cluster_endpoint(obj: ClusterObject) -> ClusterEndpoint | None:
    """Read a CiliumEndpoint; ``None`` while it has no identity or no address yet."""
    where, status = str(obj.key), obj.status
    identity = _mapping(status, "identity").get("id")
    if identity is None:
        return None
    if not isinstance(identity, int) or not 0 < identity < 1 << 24:
        raise InvalidObjectError(where, "status.identity.id", f"{identity!r} is not an identity")
    networking = _mapping(status, "networking")
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    try:
        for pair in networking.get("addressing") or ():
            ipv4 = _ipv4(pair["ipv4"]) if pair.get("ipv4") else ipv4
            ipv6 = _ipv6(pair["ipv6"]) if pair.get("ipv6") else ipv6
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidObjectError(where, "status.networking.addressing", str(error)) from None
    if ipv4 is None and ipv6 is None:
        return None
    return ClusterEndpoint(
        obj.key.namespace,
        obj.key.name,
        identity,
        ipv4,
        ipv6,
        decode_node_address(where, "status.networking.node", networking.get("node")),
        decode_ports(where, "status.named-ports", status.get("named-ports")),
        _created(obj),
    )


def _created(obj: ClusterObject) -> str:
    """``metadata.creationTimestamp``, in one form whatever a reader made of it."""
    moment = _mapping(obj.body, "metadata").get("creationTimestamp") or ""
    return intern(str(moment).replace(" ", "T")[:19])


def _ipv4(text: Any) -> IPv4Address:
    """The C library looks first, since there are many."""
    try:
        return IPv4Address(inet_pton(AF_INET, text))
    except (OSError, TypeError, ValueError):
        return IPv4Address(text)


def _ipv6(text: Any) -> IPv6Address:
    try:
        return IPv6Address(inet_pton(AF_INET6, text))
    except (OSError, TypeError, ValueError):
        return IPv6Address(text)


def _mapping(parent: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = parent.get(field)
    return value if isinstance(value, Mapping) else {}


def decode_node_address(where: str, field: str, text: object) -> IPv4Address | IPv6Address | None:
    """The address that an endpoint names its node by; ``None`` if it names none."""
    if not text:
        return None
    try:
        return _shared_address(str(text))
    except ValueError as error:
        raise InvalidObjectError(where, field, str(error)) from None


@lru_cache(SHARED)
def _shared_address(text: str) -> IPv4Address | IPv6Address:
    """One object for all endpoints of a node."""
    return _ipv6(text) if ":" in text else _ipv4(text)


@lru_cache(SHARED)
def _shared_ports(ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    """One object for all endpoints with the same."""
    return ports


def decode_ports(where: str, field: str, ports: object) -> tuple[NamedPort, ...]:
    """Named ports of an endpoint."""
    if not isinstance(ports, list):
        return ()
    found = []
    for port in ports[:256]:
        try:
            number = int(port["port"])
            if not 0 < number < 65536:
                raise ValueError(f"port {number}")
            found.append(NamedPort(str(port["name"]), number, str(port.get("protocol") or "TCP")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidObjectError(where, field, f"bad port: {error}") from None
    return _shared_ports(tuple(found))
