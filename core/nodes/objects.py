"""CiliumNode objects to rows and back (reference 2.1, ``cilium.io/v2``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject

KIND: Final = "CiliumNode"
INTERNAL: Final = "InternalIP"
ROUTER: Final = "CiliumInternalIP"
MAX_ADDRESSES: Final = 64

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def first_address(prefix: Prefix) -> Address:
    """The node's own address inside its pod CIDR: the first one after the network's.

    A network of one address has only that one.
    """
    return prefix.network_address + min(1, prefix.num_addresses - 1)


def decode_node(obj: ClusterObject, local_name: str) -> Node:
    """Read a CiliumNode; the first address of a type and family counts."""
    where, spec = str(obj.key), obj.spec
    found: dict[tuple[str, int], Address] = {}
    addresses = spec.get("addresses") or ()
    if not isinstance(addresses, list | tuple):
        raise InvalidObjectError(where, "spec.addresses", "must be a list")
    for index, entry in enumerate(addresses[:MAX_ADDRESSES]):
        try:
            address = ip_address(str(entry["ip"]))
            found.setdefault((str(entry.get("type")), address.version), address)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            path = f"spec.addresses[{index}]"
            raise InvalidObjectError(where, path, f"bad address: {error}") from None
    return Node(
        name=obj.key.name,
        ipv4=_v4(found.get((INTERNAL, 4))),
        ipv6=_v6(found.get((INTERNAL, 6))),
        router_ipv4=_v4(found.get((ROUTER, 4))),
        router_ipv6=_v6(found.get((ROUTER, 6))),
        pod_cidrs=pod_cidrs(where, spec),
        local=obj.key.name == local_name,
        labels=tuple(sorted(obj.labels.items())),
    )


def pod_cidrs(where: str, spec: Mapping[str, Any]) -> tuple[Prefix, ...]:
    """``spec.ipam.podCIDRs`` as networks, in order."""
    ipam = spec.get("ipam")
    cidrs = ipam.get("podCIDRs") if isinstance(ipam, Mapping) else None
    if not isinstance(cidrs, list | tuple):
        return ()
    try:
        return tuple(ip_network(str(c)) for c in cidrs[:MAX_ADDRESSES])
    except ValueError as error:
        raise InvalidObjectError(where, "spec.ipam.podCIDRs", str(error)) from None


def encode_addresses(
    internal: Iterable[Address], router: Iterable[Address]
) -> list[dict[str, str]]:
    """``spec.addresses`` of a CiliumNode."""
    return [{"type": INTERNAL, "ip": str(a)} for a in internal] + [
        {"type": ROUTER, "ip": str(a)} for a in router
    ]


def _v4(address: Address | None) -> IPv4Address | None:
    return address if isinstance(address, IPv4Address) else None


def _v6(address: Address | None) -> IPv6Address | None:
    return address if isinstance(address, IPv6Address) else None
