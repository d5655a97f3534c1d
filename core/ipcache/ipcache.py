"""Which identity stands behind an address, merged from several sources by priority.

Several sources may speak of one prefix: a pod's address may also be named by a CIDR rule, a
forged object may claim a node's address. The source with the highest priority wins, the others
wait behind it. What a policy says of a prefix inside a node's pod CIDR leaves the way to its pods
as it is: such an entry takes over the node. Lives on the loop's thread; the reconciler programs
the table.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from attrs import evolve

from axoneme.core.errors import AxonemeError
from axoneme.core.identities.reserved import world_identity
from axoneme.core.model.ipcache import IpcacheEntry
from axoneme.core.state import Table, TableRegistry

Prefix = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

PRIORITIES: Final = {
    "host": 60,  # this node's own addresses: nobody may take them over
    "local": 50,  # endpoints of this node, known at first hand
    "node": 40,  # addresses of other nodes
    "endpoint": 30,  # endpoints of other nodes, from CiliumEndpoint
    "cidr": 20,  # prefixes that policies name
    "pod-cidr": 10,  # where a node's pods live, before any is known
    "reserved": 0,  # the rest of the world
}
"""Sources, the strongest first. A plugin's source goes through :meth:`Ipcache.add_source`."""


def ipcache_table(tables: TableRegistry) -> Table[Prefix, IpcacheEntry]:
    """Make table ``ipcache``; index ``identity`` is by number."""
    return tables.create(
        "ipcache",
        IpcacheEntry,
        key=lambda r: r.prefix,
        indexes={"identity": lambda r: [r.identity]},
    )


def host_prefix(address: Address) -> Prefix:
    """The /32 or /128 of an address.

    There are hundreds of thousands: it shares the address, and has no list of its hosts.
    """
    network: Prefix = (
        IPv4Network((int(address), 32))
        if isinstance(address, IPv4Address)
        else IPv6Network((int(address), 128))
    )
    network.network_address = address
    del network.hosts
    return network


class Ipcache:
    """The merge. ``table`` holds the winners."""

    def __init__(self, table: Table[Prefix, IpcacheEntry]) -> None:
        self.table = table
        self._priorities = dict(PRIORITIES)
        self._claims: dict[Prefix, IpcacheEntry | tuple[IpcacheEntry, ...]] = {}
        """What sources say, the strongest first; nearly always it is one, which stands alone."""
        self._ways: set[Prefix] = set()
        """Prefixes of more than one address that lie behind a node."""
        self._without: set[Prefix] = set()
        """Prefixes whose winner knows no node and takes it from who does."""

    def add_source(self, source: str, priority: int) -> None:
        """Declare a source of a plugin; the same again is fine, another priority is an error."""
        if self._priorities.setdefault(source, priority) != priority:
            raise AxonemeError(f"ipcache source {source} has another priority already")

    def upsert(
        self,
        prefix: Prefix,
        identity: int,
        node_ip: Address | None = None,
        source: str = "cidr",
        *,
        direct: bool = False,
    ) -> None:
        """Say what ``source`` knows of ``prefix``; replaces what it said before."""
        if source not in self._priorities:
            raise AxonemeError(f"unknown ipcache source {source!r}")
        claim = IpcacheEntry(prefix, identity, node_ip, source, direct)
        others = [c for c in self._said(prefix) if c.source != source]
        claims = sorted((*others, claim), key=lambda c: -self._priorities[c.source])
        if tuple(claims) == self._said(prefix):
            return
        self._claims[prefix] = tuple(claims) if others else claim
        self._settle(prefix)

    def delete(self, prefix: Prefix, source: str) -> None:
        """Forget what ``source`` said; the next in priority takes over. Idempotent."""
        there = self._said(prefix)
        claims = tuple(c for c in there if c.source != source)
        if len(claims) == len(there):
            return
        if claims:
            self._claims[prefix] = claims if len(claims) > 1 else claims[0]
        else:
            self._claims.pop(prefix, None)
        self._settle(prefix)

    def _said(self, prefix: Prefix) -> tuple[IpcacheEntry, ...]:
        there = self._claims.get(prefix, ())
        return there if isinstance(there, tuple) else (there,)

    def _settle(self, prefix: Prefix) -> None:
        """Write the winner of a prefix, and of those below that take the node from it."""
        claims = self._said(prefix)
        self._write(prefix, claims)
        had = prefix in self._ways
        if prefix.prefixlen < prefix.max_prefixlen and any(c.node_ip for c in claims):
            self._ways.add(prefix)
        else:
            self._ways.discard(prefix)
        if had or prefix in self._ways:
            shift, bits = prefix.max_prefixlen - prefix.prefixlen, int(prefix.network_address)
            for below in [b for b in self._without if b.prefixlen > prefix.prefixlen]:
                inside = int(below.network_address) >> shift == bits >> shift
                if inside and below.version == prefix.version:
                    self._write(below, self._said(below))

    def _write(self, prefix: Prefix, claims: tuple[IpcacheEntry, ...]) -> None:
        self._without.discard(prefix)
        if not claims:
            self.table.delete(prefix)
            return
        winner = claims[0]
        if winner.node_ip is None and 0 < self._priorities[winner.source] < PRIORITIES["endpoint"]:
            self._without.add(prefix)
            winner = self._with_node(winner, claims)
        self.table.upsert(winner)

    def _with_node(self, winner: IpcacheEntry, claims: tuple[IpcacheEntry, ...]) -> IpcacheEntry:
        """The winner, behind the node of the next claim, or prefix above, that has one."""
        prefix = winner.prefix
        for length in range(prefix.prefixlen, -1, -1):
            for claim in claims:
                if claim.node_ip is not None:
                    return evolve(winner, node_ip=claim.node_ip, direct=claim.direct)
            if not self._ways or length == 0:
                break
            above = prefix.supernet(new_prefix=length - 1)
            claims = self._said(above) if above in self._ways else ()
        return winner

    def lookup(self, address: Address) -> IpcacheEntry | None:
        """The entry with the longest prefix that holds ``address``, as the kernel finds it."""
        for length in range(address.max_prefixlen, -1, -1):
            network: Prefix = (
                IPv4Network((address, length), strict=False)
                if isinstance(address, IPv4Address)
                else IPv6Network((address, length), strict=False)
            )
            found = self.table.get(network)
            if found is not None:
                return found
        return None

    def add_world(self, *, ipv4: bool, ipv6: bool) -> None:
        """The defaults: everything unknown is the world of its family."""
        both = ipv4 and ipv6
        if ipv4:
            world = world_identity(4, dual_stack=both)
            self.upsert(IPv4Network("0.0.0.0/0"), world, source="reserved")
        if ipv6:
            world = world_identity(6, dual_stack=both)
            self.upsert(IPv6Network("::/0"), world, source="reserved")
