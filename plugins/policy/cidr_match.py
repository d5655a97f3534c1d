"""``policy-cidr-match-mode``: CIDR rules that also mean nodes or pods.

The identity of a node or a pod says nothing of its addresses. What CIDR rules say of an address
therefore has an identity beside the peer's own: one for each prefix that a rule names, which stands
for that prefix and is selected by nothing else. The packet path finds it by the peer's address in
``axo_policy_cidr`` and weighs its entries with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from attrs import frozen

from axoneme.core.datapath.typed import TypedMap, prefix_bits
from axoneme.core.reconcile.maps import MapTarget
from axoneme.core.state import Table, TableRegistry
from axoneme.plugins.policy.selectors import Prefix

MAP: Final = "axo_policy_cidr"
LOOKS: Final = 3
"""How often the packet path looks for one packet in this mode."""


@frozen
class CidrMatch:
    """Row of table ``policy_cidrs``. Key: ``prefix``."""

    prefix: Prefix
    identity: int


@frozen
class CidrKey:
    """``struct axo_policy_cidr_key``: IPv4 /n has the prefix length 96 + n."""

    prefixlen: int
    ip: IPv4Address | IPv6Address


@frozen
class CidrValue:
    """``struct axo_policy_cidr``."""

    identity: int


def match_table(tables: TableRegistry) -> Table[Prefix, CidrMatch]:
    """Make table ``policy_cidrs``."""
    return tables.create("policy_cidrs", CidrMatch, key=lambda r: r.prefix)


class CidrMatches:
    """The table as what :class:`.cidrs.PrefixIdentities` tells of prefixes."""

    def __init__(self, table: Table[Prefix, CidrMatch]) -> None:
        self._table = table

    def upsert(self, prefix: Prefix, identity: int, *, source: str) -> None:
        """A prefix has an identity."""
        self._table.upsert(CidrMatch(prefix, identity))

    def delete(self, prefix: Prefix, source: str) -> None:
        """It has none any more."""
        self._table.delete(prefix)


class CidrMatchTarget:
    """:class:`axoneme.core.reconcile.Target`; the map is opened when it is first needed."""

    name = MAP

    def __init__(self, typed: Callable[[], TypedMap[Any, Any]], bump: Callable[[], object]) -> None:
        self._typed, self._bump = typed, bump
        self._lazy: MapTarget[Prefix, CidrMatch] | None = None

    def apply(
        self, upserts: Mapping[Prefix, CidrMatch], deletes: Mapping[Prefix, CidrMatch]
    ) -> Mapping[Prefix, Exception]:
        """Additions and changes first, then removals."""
        return self._target.apply(upserts, deletes)

    def resync(self, desired: Mapping[Prefix, CidrMatch]) -> Mapping[Prefix, Exception]:
        """Compare with the kernel, repair, sweep."""
        return self._target.resync(desired)

    @property
    def _target(self) -> MapTarget[Prefix, CidrMatch]:
        if self._lazy is None:
            self._lazy = MapTarget(MAP, self._typed(), encode, after=self._bump)
        return self._lazy


def encode(row: CidrMatch) -> tuple[CidrKey, CidrValue]:
    """The entry of a prefix."""
    key = CidrKey(prefix_bits(row.prefix), row.prefix.network_address)
    return key, CidrValue(row.identity)
