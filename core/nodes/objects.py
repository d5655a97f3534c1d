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
from axoneme.core.model.node import Node, NodePool
from axoneme.core.model.objects import ClusterObject

KIND: Final = "CiliumNode"
INTERNAL: Final = "InternalIP"
ROUTER: Final = "CiliumInternalIP"
SOURCE: Final = "axoneme.io/endpoints-from"
"""Annotation: where a node's agent takes the cluster's endpoints from."""
SLICES: Final = "slices"
"""CiliumEndpointSlices. Agents that read CiliumEndpoints say nothing."""
MAX_ADDRESSES: Final = 64
MAX_BLOCKS: Final = 1024
"""Of a node's pools together."""

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
    pools = node_pools(where, spec)
    cidrs = [*pod_cidrs(where, spec), *(c for pool in pools for c in pool.cidrs)]
    return Node(
        name=obj.key.name,
        ipv4=_v4(found.get((INTERNAL, 4))),
        ipv6=_v6(found.get((INTERNAL, 6))),
        router_ipv4=_v4(found.get((ROUTER, 4))),
        router_ipv6=_v6(found.get((ROUTER, 6))),
        pod_cidrs=tuple(dict.fromkeys(cidrs)),
        local=obj.key.name == local_name,
        labels=tuple(sorted(obj.labels.items())),
        pools=pools,
        reads_slices=obj.annotations.get(SOURCE) == SLICES,
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


def node_pools(where: str, spec: Mapping[str, Any]) -> tuple[NodePool, ...]:
    """``spec.ipam.pools.allocated``, in order; an error names the field."""
    ipam = spec.get("ipam")
    pools = ipam.get("pools") if isinstance(ipam, Mapping) else None
    listed = pools.get("allocated") if isinstance(pools, Mapping) else None
    if listed is None:
        return ()
    field = "spec.ipam.pools.allocated"
    if not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, field, "must be a list")
    found: list[NodePool] = []
    room = MAX_BLOCKS
    for index, entry in enumerate(listed):
        path = f"{field}[{index}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("pool"), str):
            raise InvalidObjectError(where, path, "must name a pool")
        cidrs = _blocks(where, f"{path}.cidrs", entry.get("cidrs"))
        room -= len(cidrs)
        if room < 0:
            raise InvalidObjectError(where, f"{path}.cidrs", f"more than {MAX_BLOCKS} blocks")
        first, last = (entry.get(k) is True for k in ("allowFirstIP", "allowLastIP"))
        found.append(NodePool(entry["pool"], cidrs, first, last))
    return tuple(found)


def _blocks(where: str, field: str, listed: Any) -> tuple[Prefix, ...]:
    if listed is not None and not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, field, "must be a list")
    found = []
    for index, text in enumerate(listed or ()):
        try:
            found.append(ip_network(str(text)))
        except ValueError as error:
            raise InvalidObjectError(where, f"{field}[{index}]", str(error)) from None
    return tuple(found)


def encode_pools(pools: Iterable[NodePool]) -> list[dict[str, Any]]:
    """``spec.ipam.pools.allocated`` of pools; one without blocks is left out."""
    return [
        {"pool": pool.name, "cidrs": [str(c) for c in pool.cidrs]}
        | ({"allowFirstIP": True} if pool.allow_first else {})
        | ({"allowLastIP": True} if pool.allow_last else {})
        for pool in pools
        if pool.cidrs
    ]


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
