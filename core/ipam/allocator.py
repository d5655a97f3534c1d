"""The addresses of one node: its pod CIDRs of both families."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from axoneme.core.errors import ExhaustedError, NotFoundError, NotReadyError
from axoneme.core.ipam.pool import Address, AddressPool, Prefix
from axoneme.core.model.endpoint import AddressPair, AddressRequest


class NodeAllocator:
    """Pools by prefix; a prefix that the node loses is kept until its last address is free."""

    def __init__(
        self,
        full: str = "delete pods on this node",
        missing: str = "is the operator running? axoneme node list shows its error",
    ) -> None:
        """What to do when the addresses are all in use, and while there is no pod CIDR."""
        self._full = full
        self._missing = missing
        self._pools: dict[Prefix, AddressPool] = {}
        self._current: tuple[Prefix, ...] = ()

    def set_prefixes(self, prefixes: Iterable[Prefix]) -> None:
        """Take over the node's pod CIDRs. New addresses come from these only."""
        self._current = tuple(prefixes)
        for prefix in self._current:
            self._pools.setdefault(prefix, AddressPool(prefix, hint=self._full))
        for prefix, pool in list(self._pools.items()):
            if prefix not in self._current and not pool.used:
                del self._pools[prefix]

    def allocate(self, request: AddressRequest) -> AddressPair:
        """Both families, or nothing: a failure gives back what was taken."""
        wanted = request.wanted or AddressPair()
        pair = AddressPair()
        try:
            if request.ipv4:
                got = self._one(4, wanted.ipv4, request)
                assert isinstance(got, IPv4Address)
                pair = AddressPair(got, None)
            if request.ipv6:
                got = self._one(6, wanted.ipv6, request)
                assert isinstance(got, IPv6Address)
                pair = AddressPair(pair.ipv4, got)
        except Exception:
            self.release(pair, request.owner)
            raise
        return pair

    def release(self, pair: AddressPair, owner: str) -> None:
        """Take addresses back; what ``owner`` does not hold is left alone."""
        for address in (pair.ipv4, pair.ipv6):
            if address is not None:
                for pool in self._pools.values():
                    pool.release(address, owner)

    def usage(self) -> list[tuple[Prefix, int, int]]:
        """Prefix, addresses in use, addresses there are."""
        return [(p.prefix, p.used, p.capacity) for p in self._pools.values()]

    def owners(self) -> dict[Address, str]:
        """Who holds what, over all prefixes."""
        return {a: o for pool in self._pools.values() for a, o in pool.owners().items()}

    def _one(self, version: int, wanted: Address | None, request: AddressRequest) -> Address:
        if wanted is not None:
            for pool in self._pools.values():
                if wanted in pool.prefix:
                    return pool.claim(wanted, request.owner)
            raise NotFoundError(f"{wanted} of {request.owner} is in no pod CIDR of this node")
        pools = [self._pools[p] for p in self._current if p.version == version]
        if not pools:
            raise NotReadyError(
                f"this node has no IPv{version} pod CIDR yet",
                hint=self._missing,
            )
        for pool in pools[:-1]:
            try:
                return pool.allocate(request.owner)
            except ExhaustedError:
                continue
        return pools[-1].allocate(request.owner)
