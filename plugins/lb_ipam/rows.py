"""Rows of LB-IPAM: pools, what services ask for, and what they get."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from attrs import field, frozen

from axoneme.core.model.selectors import LabelSelector
from axoneme.core.operator.balancers import Address, Name

SATISFIED: Final = "satisfied"


@frozen
class Block:
    """One block of a pool: addresses as numbers, both ends included."""

    version: int
    first: int
    last: int
    text: str
    """As errors name it: ``10.0.0.0/24``, ``10.0.0.1 - 10.0.0.9``."""
    reserved: frozenset[int] = frozenset()
    """First and last address of a CIDR, when the pool keeps them back."""

    @property
    def size(self) -> int:
        """How many addresses it can give."""
        return self.last - self.first + 1 - len(self.reserved)

    def address(self, number: int) -> Address:
        """A number as an address."""
        return IPv4Address(number) if self.version == 4 else IPv6Address(number)


@frozen
class Pool:
    """Row of table ``balancer_pools``, decoded from CiliumLoadBalancerIPPool. Key: ``name``."""

    name: str
    created: str = "~"
    generation: int | None = None
    disabled: bool = False
    selector: LabelSelector = field(factory=LabelSelector)
    blocks: tuple[Block, ...] = ()
    problem: str = ""
    """A field that cannot be read, and why; then the rest is empty."""
    status: Mapping[str, Any] = field(factory=dict, hash=False)
    version: str = ""

    @property
    def age(self) -> tuple[str, str]:
        """Sorts older pools first."""
        return self.created, self.name


@frozen
class Request:
    """What a service asks for, and what it has."""

    name: Name
    created: str = "~"
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    """With the two that stand for its namespace and name."""
    families: tuple[int, ...] = (4,)
    lacking: tuple[int, ...] = ()
    """Families that it requires and that are switched off."""
    requested: tuple[Address, ...] = ()
    sharing_key: str = ""
    namespaces: frozenset[str] = frozenset()
    """With which of them it shares; ``*`` for all."""
    ports: frozenset[tuple[int, str]] = frozenset()
    local: bool = False
    selector: Mapping[str, str] = field(factory=dict, hash=False)
    present: tuple[Address, ...] = ()
    """Addresses in its status."""
    given: frozenset[Address] = frozenset()
    """Those of them that are surely ours."""
    problem: tuple[str, str] | None = None
    """Reason and message when what it asks for cannot be read: it keeps what it has."""

    @property
    def terms(self) -> tuple[Any, ...]:
        """All that decides who may share an address with it."""
        words = (self.sharing_key, self.namespaces, self.ports, self.local, self.problem)
        return *words, self.selector

    @property
    def order(self) -> tuple[bool, str, Name]:
        """Who is served first: who wants a certain address, then who is older."""
        return not self.requested, self.created, self.name


@frozen
class Outcome:
    """What a service gets, and the condition that says so."""

    addresses: tuple[Address, ...] = ()
    reason: str = SATISFIED
    message: str = ""

    @property
    def satisfied(self) -> bool:
        """Whether it has all that it asked for."""
        return self.reason == SATISFIED
