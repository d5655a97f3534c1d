"""Node blocks out of the cluster's pools. Pure: the operator's side of cluster-pool IPAM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen

from axoneme.core.errors import ExhaustedError
from axoneme.core.model.node import Node

Prefix = IPv4Network | IPv6Network


class BlockPool:
    """Blocks of one family and size. What nodes hold already is occupied first."""

    def __init__(self, prefixes: Iterable[Prefix], size: int) -> None:
        self.prefixes = tuple(prefixes)
        self.size = size
        self._counts = [1 << (size - p.prefixlen) for p in self.prefixes]
        self._taken: list[set[int]] = [set() for _ in self.prefixes]
        self._next = [0] * len(self.prefixes)

    @property
    def version(self) -> int:
        """4 or 6; 0 of an empty pool."""
        return self.prefixes[0].version if self.prefixes else 0

    @property
    def capacity(self) -> int:
        """How many blocks there are."""
        return sum(self._counts)

    @property
    def used(self) -> int:
        """How many are occupied."""
        return sum(len(t) for t in self._taken)

    def occupy(self, block: Prefix) -> None:
        """Note that ``block`` is in use, of whatever size it is."""
        for index in range(len(self.prefixes)):
            self._taken[index].update(self._slots(index, block))

    def release(self, block: Prefix) -> None:
        """Make a block free again."""
        for index in range(len(self.prefixes)):
            self._taken[index].difference_update(self._slots(index, block))

    def allocate(self) -> Prefix:
        """The next free block; ``ExhaustedError`` names the pools."""
        for index, prefix in enumerate(self.prefixes):
            taken, count = self._taken[index], self._counts[index]
            if len(taken) >= count:
                continue
            slot = self._next[index]
            while slot in taken:
                slot = (slot + 1) % count
            block = self._block(prefix, slot)
            self.occupy(block)  # in every pool: prefixes of the configuration may overlap
            self._next[index] = (slot + 1) % count
            return block
        pools = ", ".join(map(str, self.prefixes)) or "no pool"
        raise ExhaustedError(
            f"no /{self.size} block left in {pools}: all {self.capacity} are in use",
            hint=f"add a prefix to cluster-pool-ipv{self.version}-cidr",
        )

    def _block(self, prefix: Prefix, slot: int) -> Prefix:
        base = int(prefix.network_address) + (slot << (prefix.max_prefixlen - self.size))
        return type(prefix)((base, self.size))

    def _slots(self, index: int, block: Prefix) -> range:
        prefix = self.prefixes[index]
        if block.version != prefix.version or not block.overlaps(prefix):
            return range(0)
        shift = prefix.max_prefixlen - self.size
        base = int(prefix.network_address)
        first = max(0, (int(block.network_address) - base) >> shift)
        last = min(self._counts[index] - 1, (int(block.broadcast_address) - base) >> shift)
        return range(first, last + 1)


@frozen
class Plan:
    """What to write: new pod CIDRs by node, and why a node cannot have (all of) its own."""

    assignments: Mapping[str, tuple[Prefix, ...]]
    errors: Mapping[str, str]


def plan(nodes: Iterable[Node], pools: Iterable[BlockPool], held: Iterable[Prefix] = ()) -> Plan:
    """Give a block of each pool to every node that has none of its family.

    ``nodes`` in the order in which they are to be served; the pools must be new. What nodes hold
    already stays theirs, also when it is from another pool or clashes: pods live in it. ``held`` is
    what others hold who are not to be served.
    """
    nodes, pools = list(nodes), list(pools)
    for prefix in held:
        for pool in pools:
            pool.occupy(prefix)
    errors: dict[str, str] = {}
    holders: dict[Prefix, str] = {}
    for node in nodes:
        for prefix in node.pod_cidrs:
            holder = holders.setdefault(prefix, node.name)
            if holder != node.name:
                errors[node.name] = f"pod CIDR {prefix} is held by node {holder}"
            for pool in pools:
                pool.occupy(prefix)
    assignments: dict[str, tuple[Prefix, ...]] = {}
    for node in nodes:
        got = list(node.pod_cidrs)
        have = {p.version for p in got}
        for pool in pools:
            if pool.version in have:
                continue
            try:
                got.append(pool.allocate())
            except ExhaustedError as error:
                errors[node.name] = str(error)
        if len(got) > len(node.pod_cidrs):
            assignments[node.name] = tuple(got)
    return Plan(assignments, errors)
