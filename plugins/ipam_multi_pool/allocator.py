"""The addresses of one node, block by block. Pure: no I/O, no clock.

A block that is given up is closed at once: nobody gets an address of it between the decision and
the moment at which the node's object says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import define

from axoneme.core.errors import AxonemeError, ConflictError, ExhaustedError, NotFoundError
from axoneme.core.ipam.pool import Address, AddressPool, Prefix
from axoneme.core.model.endpoint import AddressPair
from axoneme.core.model.node import NodePool
from axoneme.plugins.ipam_multi_pool.demand import bounds, needed

ROUTER: Final = "(router)"

Need = tuple[str, int]
"""Pool and family."""


class NoAddressError(AxonemeError):
    """Open blocks of these pools have no address left."""

    def __init__(self, missing: Collection[Need]) -> None:
        super().__init__(", ".join(f"pool {name} (IPv{v})" for name, v in missing))
        self.missing = tuple(missing)


@define
class Block:
    """A block, and who has its addresses."""

    pool: str
    addresses: AddressPool
    closed: bool = False
    """Given up; or no longer the node's, and kept until its last pod goes."""
    gone: bool = False

    @property
    def need(self) -> Need:
        """What it serves."""
        return self.pool, self.addresses.prefix.version


class PoolAllocator:
    """Blocks by prefix.

    ``default``: the pool in which the node's own addresses are; ``ahead``: addresses to keep ready,
    by pool.
    """

    def __init__(self, default: str, ahead: Mapping[str, int]) -> None:
        self._default = default
        self._ahead = dict(ahead)
        self._blocks: dict[Prefix, Block] = {}
        self._waiting: dict[str, tuple[Need, ...]] = {}

    # Blocks

    def set_pools(self, pools: Iterable[NodePool], routers: Iterable[Address]) -> None:
        """Take over the node's blocks; the router addresses are in some of them."""
        present: set[Prefix] = set()
        for pool in pools:
            for cidr in pool.cidrs:
                present.add(cidr)
                if cidr not in self._blocks:
                    first, end = bounds(
                        cidr, allow_first=pool.allow_first, allow_last=pool.allow_last
                    )
                    addresses = AddressPool(cidr, first=first, end=end)
                    self._blocks[cidr] = Block(pool.name, addresses)
                elif self._blocks[cidr].gone:  # back before its last pod went
                    self._blocks[cidr].gone = self._blocks[cidr].closed = False
        for cidr, block in list(self._blocks.items()):
            if cidr not in present:
                block.gone = block.closed = True
                if not block.addresses.used:
                    del self._blocks[cidr]
        self._claim_routers(set(routers))

    def _claim_routers(self, routers: set[Address]) -> None:
        for block in self._blocks.values():
            for address, owner in block.addresses.owners().items():
                if owner == ROUTER and address not in routers:
                    block.addresses.release(address, ROUTER)
            for address in routers:
                if address in block.addresses.prefix:
                    try:
                        block.addresses.claim(address, ROUTER)
                    except ConflictError:  # of a pod that was there before: it keeps it
                        continue

    def surplus(self, present: Collection[Prefix]) -> set[Prefix]:
        """Close blocks that are empty and not needed; all that are to be given up now."""
        wants = self.needs()
        for need in {block.need for block in self._blocks.values()}:
            blocks = [b for b in self._of(need) if b.addresses.prefix in present]
            total = sum(b.addresses.capacity for b in blocks)
            for block in reversed(blocks):
                rest = total - block.addresses.capacity
                if not block.addresses.used and rest >= wants.get(need, 0):
                    block.closed = True
                    total = rest
        return {p for p, b in self._blocks.items() if b.closed and not b.gone and p in present}

    def has_surplus(self) -> bool:
        """Whether :meth:`surplus` would give up something that is not closed yet."""
        wants = self.needs()
        totals: dict[Need, int] = {}
        for block in self._blocks.values():
            if not block.closed:
                totals[block.need] = totals.get(block.need, 0) + block.addresses.capacity
        return any(
            not b.closed
            and not b.addresses.used
            and totals[b.need] - b.addresses.capacity >= wants.get(b.need, 0)
            for b in self._blocks.values()
        )

    # Addresses

    def allocate(self, owner: str, pools: Mapping[int, str], wish: str = "") -> AddressPair:
        """One address of each family that ``pools`` names a pool for, or none at all.

        ``NoAddressError`` if blocks are full; the wish, by that name, then counts in :meth:`needs`
        until it is served or :meth:`forget` is called.
        """
        wish = wish or owner
        found: dict[int, Address] = {}
        missing: list[Need] = []
        for version, pool in pools.items():
            address = self._next((pool, version), owner)
            if address is None:
                missing.append((pool, version))
            else:
                found[version] = address
        pair = _pair(found)
        if missing:
            self.release(pair, owner)
            self._waiting[wish] = tuple((pool, version) for version, pool in pools.items())
            raise NoAddressError(missing)
        self._waiting.pop(wish, None)
        return pair

    def claim(self, owner: str, wanted: AddressPair) -> AddressPair:
        """Certain addresses, on a restore; ``NotFoundError`` if one is in no block."""
        taken = AddressPair()
        try:
            for address in wanted:
                self._block(address, owner).addresses.claim(address, owner)
                taken = _pair({a.version: a for a in (*taken, address)})
        except AxonemeError:
            self.release(taken, owner)
            raise
        return wanted

    def release(self, pair: AddressPair, owner: str) -> None:
        """Take addresses back; what ``owner`` does not hold is left alone."""
        for address in pair:
            for prefix, block in list(self._blocks.items()):
                if address not in prefix or not block.addresses.release(address, owner):
                    continue
                if block.gone and not block.addresses.used:
                    del self._blocks[prefix]

    def forget(self, wish: str) -> None:
        """Nobody wishes it any more."""
        self._waiting.pop(wish, None)

    # What there is

    @property
    def waiting(self) -> Mapping[str, tuple[Need, ...]]:
        """Who could not be served."""
        return self._waiting

    def needs(self) -> dict[Need, int]:
        """Addresses that the node should have, by pool and family; none where it needs none."""
        used: dict[Need, int] = {}
        for block in self._blocks.values():
            used[block.need] = used.get(block.need, 0) + block.addresses.used
        for wishes in self._waiting.values():
            for need in wishes:
                used[need] = used.get(need, 0) + 1
        routers = {a.version for a, owner in self.owners().items() if owner == ROUTER}
        for version in (4, 6):
            for pool in self._ahead:
                used.setdefault((pool, version), 0)
            if version not in routers:  # it will be in use as soon as it can be
                own = (self._default, version)
                used[own] = used.get(own, 0) + 1
        found = {need: needed(n, self._ahead.get(need[0], 0)) for need, n in used.items()}
        return {need: count for need, count in sorted(found.items()) if count}

    def usage(self) -> list[tuple[str, Prefix, int, int]]:
        """Pool, block, addresses in use, addresses there are."""
        return [
            (b.pool, p, b.addresses.used, b.addresses.capacity) for p, b in self._blocks.items()
        ]

    def owners(self) -> dict[Address, str]:
        """Who holds what."""
        return {a: o for b in self._blocks.values() for a, o in b.addresses.owners().items()}

    # Inside

    def _of(self, need: Need) -> Iterator[Block]:
        return (b for b in self._blocks.values() if b.need == need and not b.closed)

    def _next(self, need: Need, owner: str) -> Address | None:
        for block in self._of(need):
            try:
                return block.addresses.allocate(owner)
            except ExhaustedError:
                continue
        return None

    def _block(self, address: Address, owner: str) -> Block:
        for prefix, block in self._blocks.items():
            if address in prefix:
                return block
        raise NotFoundError(f"{address} of {owner} is in no block of this node")


def _pair(found: Mapping[int, Address]) -> AddressPair:
    v4, v6 = found.get(4), found.get(6)
    return AddressPair(
        v4 if isinstance(v4, IPv4Address) else None, v6 if isinstance(v6, IPv6Address) else None
    )
