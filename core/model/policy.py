"""Policy rules as every source delivers them, before selectors meet identities.

This is the common form of Kubernetes NetworkPolicy, CiliumNetworkPolicy and what plugins bring.
``None`` in a list field means "not stated" and an empty tuple means "selects nobody": the
difference decides between allow-all and allow-nothing and must survive every step.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen

from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey


class Direction(StrEnum):
    """Seen from the subject."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Operator(StrEnum):
    """Operators of Kubernetes label selectors."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@frozen(order=True)
class Requirement:
    """One term of a selector, on the label ``source:key``; ``source`` may be ``any``."""

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: LabelSet) -> bool:
        """Kubernetes semantics: ``NotIn`` also matches when the key is absent."""
        value = labels.get(self.source, self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@frozen(order=True)
class Selector:
    """A conjunction of requirements; without any it matches every label set."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: LabelSet) -> bool:
        """Whether all requirements hold."""
        return all(r.matches(labels) for r in self.requirements)


@frozen(order=True)
class CidrPeer:
    """A prefix without some others inside it. Matches addresses outside the cluster only."""

    cidr: IPv4Network | IPv6Network
    excepts: tuple[IPv4Network | IPv6Network, ...] = ()


@frozen(order=True)
class PortRange:
    """Ports of one protocol. ``protocol`` 0 is any, ``first`` 0 is every port.

    ``name`` is a named port, resolved per subject (ingress) or per peer (egress). For ICMP and
    ICMPv6 ``first`` is the type and ``family_icmp`` is true.
    """

    protocol: int = 0
    first: int = 0
    last: int = 0
    name: str = ""
    family_icmp: bool = False


@frozen
class Origin:
    """Where a rule stands, for explanations: object, path in it, line in its file if known."""

    key: ObjectKey
    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.key} {self.path}"


@frozen
class Rule:
    """One rule item: subject, direction, peers, ports, verdict.

    ``selectors``/``cidrs`` both ``None``: any peer. ``ports`` ``None``: any port; empty: none.
    A rule with ``peers_nobody`` only switches the direction to default-deny.
    """

    origin: Origin
    subject: Selector
    direction: Direction
    selectors: tuple[Selector, ...] | None = None
    cidrs: tuple[CidrPeer, ...] | None = None
    ports: tuple[PortRange, ...] | None = None
    deny: bool = False
    default_deny: bool = True
