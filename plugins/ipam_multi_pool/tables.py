"""Rows: pools of the cluster, and what nodes ask for and have. Objects are users' text."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from attrs import evolve, frozen

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.node import NodePool
from axoneme.core.model.objects import ClusterObject
from axoneme.core.model.selectors import LabelSelector, decode_selector
from axoneme.core.nodes.objects import node_pools, pod_cidrs

Prefix = IPv4Network | IPv6Network

KIND: Final = "CiliumPodIPPool"
FAMILIES: Final = {4: "ipv4", 6: "ipv6"}
MAX_CIDRS: Final = 256
MAX_REQUESTS: Final = 256
MAX_NEEDED: Final = 1 << 16
"""Addresses of one pool and family that a node can ask for."""
MAX_BLOCK_BITS: Final = 24
"""A prefix may be carved into 2^24 blocks at most; more is surely a mistake."""


@frozen
class FamilyPool:
    """Prefixes of one family, and the prefix length of a node's block."""

    cidrs: tuple[Prefix, ...]
    size: int


@frozen
class PodIPPool:
    """Row of table ``pod_ip_pools``. Key: ``name``."""

    name: str
    ipv4: FamilyPool | None = None
    ipv6: FamilyPool | None = None
    allow_first: bool = False
    allow_last: bool = False
    pods: LabelSelector | None = None
    namespaces: LabelSelector | None = None

    def family(self, version: int) -> FamilyPool | None:
        """Of 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6


@frozen
class Request:
    """Addresses that a node needs of a pool, those in use included."""

    pool: str
    ipv4: int = 0
    ipv6: int = 0

    def needed(self, version: int) -> int:
        """Of 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6

    def asking(self, version: int, count: int) -> Request:
        """The same with another number of one family."""
        return evolve(self, ipv4=count) if version == 4 else evolve(self, ipv6=count)


@frozen
class NodeNeeds:
    """Row of table ``node_pools``: the operator's view of a CiliumNode. Key: ``name``."""

    name: str
    requested: tuple[Request, ...] = ()
    pools: tuple[NodePool, ...] = ()
    others: tuple[Prefix, ...] = ()
    """``spec.ipam.podCIDRs``: of another mode of IPAM, and in use."""
    error: str = ""
    """What its status says about addresses."""

    @property
    def blocks(self) -> tuple[Prefix, ...]:
        """All that nobody else may have."""
        return (*self.others, *(c for pool in self.pools for c in pool.cidrs))


def decode_pool(obj: ClusterObject) -> PodIPPool:
    """Read a CiliumPodIPPool."""
    where, spec = str(obj.key), obj.spec
    families = {v: _family(where, spec, v) for v in FAMILIES}
    if not any(families.values()):
        raise InvalidObjectError(where, "spec", "has neither ipv4 nor ipv6")
    return PodIPPool(
        obj.key.name,
        families[4],
        families[6],
        _flag(where, spec, "allowFirstIP"),
        _flag(where, spec, "allowLastIP"),
        _selector(where, spec, "podSelector"),
        _selector(where, spec, "namespaceSelector"),
    )


def decode_needs(obj: ClusterObject) -> NodeNeeds:
    """Read what a CiliumNode says about pools."""
    where, spec = str(obj.key), obj.spec
    ipam = obj.status.get("ipam")
    said = ipam.get("operator-status") if isinstance(ipam, Mapping) else None
    error = said.get("error") if isinstance(said, Mapping) else None
    return NodeNeeds(
        obj.key.name,
        _requests(where, spec.get("ipam")),
        node_pools(where, spec),
        pod_cidrs(where, spec),
        str(error or ""),
    )


def encode_requests(requests: tuple[Request, ...]) -> list[dict[str, Any]]:
    """``spec.ipam.pools.requested``."""
    return [
        {
            "pool": r.pool,
            "needed": {f"{f}-addrs": r.needed(v) for v, f in FAMILIES.items() if r.needed(v)},
        }
        for r in requests
    ]


def _requests(where: str, ipam: Any) -> tuple[Request, ...]:
    pools = ipam.get("pools") if isinstance(ipam, Mapping) else None
    listed = pools.get("requested") if isinstance(pools, Mapping) else None
    field = "spec.ipam.pools.requested"
    if listed is not None and not isinstance(listed, list | tuple):
        raise InvalidObjectError(where, field, "must be a list")
    found = []
    for index, entry in enumerate((listed or ())[:MAX_REQUESTS]):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("pool"), str):
            raise InvalidObjectError(where, f"{field}[{index}]", "must name a pool")
        needed = entry.get("needed") or {}
        counts = []
        for family in FAMILIES.values():
            path = f"{field}[{index}].needed.{family}-addrs"
            count = needed.get(f"{family}-addrs", 0) if isinstance(needed, Mapping) else None
            if not isinstance(count, int) or not 0 <= count <= MAX_NEEDED:
                raise InvalidObjectError(where, path, f"{count!r} is not from 0 to {MAX_NEEDED}")
            counts.append(count)
        found.append(Request(entry["pool"], *counts))
    return tuple(found)


def _family(where: str, spec: Mapping[str, Any], version: int) -> FamilyPool | None:
    name = FAMILIES[version]
    found = spec.get(name)
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise InvalidObjectError(where, f"spec.{name}", "must be a mapping")
    listed, size = found.get("cidrs"), found.get("maskSize")
    if not isinstance(listed, list | tuple) or not listed or len(listed) > MAX_CIDRS:
        raise InvalidObjectError(where, f"spec.{name}.cidrs", f"must list 1 to {MAX_CIDRS} CIDRs")
    if not isinstance(size, int) or isinstance(size, bool):
        raise InvalidObjectError(where, f"spec.{name}.maskSize", f"{size!r} is not a number")
    cidrs = []
    for index, text in enumerate(listed):
        field = f"spec.{name}.cidrs[{index}]"
        try:
            cidr = ip_network(str(text))
        except ValueError as error:
            raise InvalidObjectError(where, field, str(error)) from None
        if cidr.version != version:
            raise InvalidObjectError(where, field, f"{cidr} is not an IPv{version} CIDR")
        most = min(cidr.prefixlen + MAX_BLOCK_BITS, cidr.max_prefixlen)
        if not cidr.prefixlen <= size <= most:
            raise InvalidObjectError(
                where,
                f"spec.{name}.maskSize",
                f"{size} does not fit {cidr}: choose {cidr.prefixlen} to {most}",
            )
        cidrs.append(cidr)
    return FamilyPool(tuple(cidrs), size)


def _flag(where: str, spec: Mapping[str, Any], name: str) -> bool:
    found = spec.get(name, False)
    if not isinstance(found, bool):
        raise InvalidObjectError(where, f"spec.{name}", f"must be true or false, not {found!r}")
    return found


def _selector(where: str, spec: Mapping[str, Any], name: str) -> LabelSelector | None:
    """Absent selects nothing, empty everything."""
    if spec.get(name) is None:
        return None
    return decode_selector(where, f"spec.{name}", spec[name])
