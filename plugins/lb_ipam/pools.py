"""Pools side by side: who conflicts with whom, which block an address is in, what is free.

Pure. Blocks that count are kept sorted and apart from each other, so that a look-up costs the
logarithm of their number. A pool that overlaps an older one counts for what it gave already, and
gives nothing more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from axoneme.core.operator.balancers import Address
from axoneme.plugins.lb_ipam.rows import Block, Pool


class UsedBlock:
    """A block and which of its addresses are in use."""

    def __init__(self, pool: Pool, block: Block, active: bool) -> None:
        self.pool = pool
        self.block = block
        self.active = active
        """Its pool is neither disabled nor in conflict."""
        self.used: set[int] = set()
        self.index = 0
        """Its place among the pool's blocks of its family."""
        self._low = block.first

    def take(self, address: Address) -> None:
        """Note that an address is in use."""
        self.used.add(int(address))

    def give_back(self, address: Address) -> None:
        """Note that it is free."""
        self.used.discard(int(address))
        self._low = min(self._low, int(address))

    def free(self) -> Address | None:
        """The lowest free address. All below the mark are known to be taken."""
        while self._low <= self.block.last and (
            self._low in self.used or self._low in self.block.reserved
        ):
            self._low += 1
        return self.block.address(self._low) if self._low <= self.block.last else None

    def usable(self, address: Address) -> bool:
        """Whether the pool gives this address of the block."""
        return int(address) not in self.block.reserved


class UsedPool:
    """A pool's blocks by family, and from which of them on there may be something free."""

    def __init__(self, pool: Pool, active: bool) -> None:
        self.pool = pool
        self.active = active
        """Neither disabled nor in conflict."""
        self.blocks = [UsedBlock(pool, block, active) for block in pool.blocks]
        self._of = {v: [b for b in self.blocks if b.block.version == v] for v in (4, 6)}
        self._from = {4: 0, 6: 0}
        for blocks in self._of.values():
            for index, block in enumerate(blocks):
                block.index = index

    def has(self, version: int) -> bool:
        """Whether it has blocks of a family."""
        return bool(self._of[version])

    def free(self, version: int) -> Address | None:
        """The first free address of a family, in the order of the blocks."""
        blocks = self._of[version]
        while self._from[version] < len(blocks):
            found = blocks[self._from[version]].free()
            if found is not None:
                return found
            self._from[version] += 1
        return None

    def give_back(self, block: UsedBlock, address: Address) -> None:
        """Note that an address of a block is free."""
        block.give_back(address)
        version = block.block.version
        self._from[version] = min(self._from[version], block.index)


class _Blocks:
    """Blocks of one family that do not overlap, in order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._blocks: list[UsedBlock] = []

    def overlapping(self, first: int, last: int) -> UsedBlock | None:
        """A block with an address from ``first`` to ``last``."""
        index = bisect_right(self._starts, last) - 1
        found = self._blocks[index] if index >= 0 else None
        return found if found is not None and found.block.last >= first else None

    def add(self, block: UsedBlock) -> None:
        """Put in a block that overlaps none."""
        index = bisect_right(self._starts, block.block.first)
        self._starts.insert(index, block.block.first)
        self._blocks.insert(index, block)


class PoolBook:
    """All pools, the older first."""

    def __init__(self, pools: Iterable[Pool] = ()) -> None:
        self.pools = sorted(pools, key=lambda p: p.age)
        self.conflicts: dict[str, str] = {}
        """Pool → which of its blocks overlaps what."""
        self.used: dict[str, UsedPool] = {}
        self._sorted = {4: _Blocks(), 6: _Blocks()}
        self._shadowed: list[UsedBlock] = []
        for pool in self.pools:
            self._add(pool)

    def _add(self, pool: Pool) -> None:
        conflict = self._conflict(pool)
        used = UsedPool(pool, not (pool.disabled or conflict))
        self.used[pool.name] = used
        if conflict:
            self.conflicts[pool.name] = conflict
            self._shadowed += used.blocks
            return
        for block in used.blocks:
            self._sorted[block.block.version].add(block)

    def _conflict(self, pool: Pool) -> str:
        """What a pool's blocks overlap: an older pool's, or each other."""
        own = {4: _Blocks(), 6: _Blocks()}
        for block in pool.blocks:
            for others in (self._sorted, own):
                other = others[block.version].overlapping(block.first, block.last)
                if other is not None:
                    whose = f"pool {other.pool.name}" if others is self._sorted else "the same pool"
                    return f"block {block.text} overlaps block {other.block.text} of {whose}"
            own[block.version].add(UsedBlock(pool, block, False))
        return ""

    def find(self, address: Address) -> UsedBlock | None:
        """The block that an address is in; one that counts if there is one."""
        number = int(address)
        found = self._sorted[address.version].overlapping(number, number)
        if found is not None or not self._shadowed:
            return found
        return next(
            (
                b
                for b in self._shadowed
                if b.block.version == address.version and b.block.first <= number <= b.block.last
            ),
            None,
        )

    def take(self, address: Address) -> None:
        """Note that an address is in use."""
        block = self.find(address)
        if block is not None:
            block.take(address)

    def give_back(self, address: Address) -> None:
        """Note that it is free."""
        block = self.find(address)
        if block is not None:
            self.used[block.pool.name].give_back(block, address)

    def usage(self, name: str) -> tuple[int, int]:
        """Addresses that a pool can give, and how many of them are in use."""
        blocks = self.used[name].blocks if name in self.used else ()
        return sum(b.block.size for b in blocks), sum(len(b.used) for b in blocks)
