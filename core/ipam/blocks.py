"""Blocks of addresses out of prefixes: what an operator hands to nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from axoneme.core.errors import ExhaustedError

Prefix = IPv4Network | IPv6Network


class BlockPool:
    """Blocks of one family and size. What nodes hold already is occupied first."""

    def __init__(self, prefixes: Iterable[Prefix], size: int, hint: str = "") -> None:
        """``size``: prefix length of a block; ``hint``: what to do when none is left."""
        self.prefixes = tuple(prefixes)
        self.size = size
        self._hint = hint
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
            hint=self._hint,
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
