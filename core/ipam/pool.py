"""Addresses out of one node's pod CIDR. Pure: no I/O, no clock.

The network address, the node's own address (the first one) and, in IPv4, the broadcast address
are never given out. The search goes round, so an address that was just released is the last to
be used again: conntrack and neighbours elsewhere have time to forget it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from axoneme.core.errors import ConflictError, ExhaustedError, NotFoundError

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class AddressPool:
    """One prefix and who holds its addresses."""

    def __init__(
        self, prefix: Prefix, *, first: int | None = None, end: int | None = None, hint: str = ""
    ) -> None:
        """``first`` and ``end``: other bounds of the offsets that endpoints can have.

        ``hint``: what to do when all are in use.
        """
        self.prefix = prefix
        size = prefix.num_addresses
        self._first = first if first is not None else (2 if size > 2 else size)
        self._end = end if end is not None else (size - 1 if prefix.version == 4 else size)
        self._hint = hint
        self._next = self._first
        self._owners: dict[int, str] = {}

    @property
    def capacity(self) -> int:
        """How many addresses endpoints can have."""
        return max(0, self._end - self._first)

    @property
    def used(self) -> int:
        """How many are given out."""
        return len(self._owners)

    def owners(self) -> dict[Address, str]:
        """Who holds what."""
        base = self.prefix.network_address
        return {base + offset: owner for offset, owner in sorted(self._owners.items())}

    def allocate(self, owner: str) -> Address:
        """The next free address; ``ExhaustedError`` names the pool."""
        if self.used >= self.capacity:
            raise ExhaustedError(
                f"no address left: all {self.capacity} of {self.prefix} are in use",
                hint=self._hint,
            )
        offset = self._next
        while offset in self._owners:
            offset = self._after(offset)
        self._owners[offset] = owner
        self._next = self._after(offset)
        return self.prefix.network_address + offset

    def claim(self, address: Address, owner: str) -> Address:
        """A certain address, on a restore; the same owner may claim it again.

        The search goes on after it: whoever claims the address that was given last, last, finds
        the pool as it was.
        """
        if address.version != self.prefix.version or address not in self.prefix:
            raise NotFoundError(f"{address} of {owner} is not in {self.prefix}")
        offset = int(address) - int(self.prefix.network_address)
        if not self._first <= offset < self._end:
            raise ConflictError(f"{address} of {owner} is reserved in {self.prefix}")
        self._next = self._after(offset)
        holder = self._owners.setdefault(offset, owner)
        if holder != owner:
            raise ConflictError(f"{address} of {owner} is held by {holder}")
        return address

    def release(self, address: Address, owner: str) -> bool:
        """Take an address back; ``False`` when ``owner`` does not hold it."""
        offset = int(address) - int(self.prefix.network_address)
        if address.version != self.prefix.version or self._owners.get(offset) != owner:
            return False
        del self._owners[offset]
        return True

    def _after(self, offset: int) -> int:
        return offset + 1 if offset + 1 < self._end else self._first
