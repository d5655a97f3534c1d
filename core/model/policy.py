"""Policy rules as every source delivers them, before selectors meet identities.

This is the common form of Kubernetes NetworkPolicy, CiliumNetworkPolicy and what plugins bring.
``None`` in a list field means "not stated" and an empty tuple means "selects nobody": the
difference decides between allow-all and allow-nothing and must survive every step.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from attrs import frozen

from axoneme.core.model.labels import FQDN, LabelSet
from axoneme.core.model.objects import ObjectKey


class Direction(StrEnum):
    """Seen from the subject."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Tier(IntEnum):
    """What is asked before what; lower first. Reference §2.3."""

    ADMIN = 100
    NORMAL = 200
    BASELINE = 250


class Action(StrEnum):
    """What a rule says of what it matches; ``pass`` leaves it to the next tier."""

    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"  # noqa: S105  # no word of a password


MAX_PRIORITY: Final = 1000
"""Priorities within a tier go from 0, which is asked first, to here."""
MAX_ORDER: Final = 1023
"""Places within a priority go from 0, which is asked first, to here."""


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
class FqdnPeer:
    """Addresses that a DNS answer has named: ``name`` exactly, or ``pattern`` (one of the two).

    Both lower case, without the final dot. Whoever learns names gives addresses the label
    ``fqdn:NAME`` or ``fqdn:PATTERN`` (:attr:`label_key`) for each peer in use that they satisfy.
    """

    name: str = ""
    pattern: str = ""

    @property
    def label_key(self) -> str:
        """Key of the label, of source ``fqdn``, that such addresses carry."""
        return self.name or self.pattern

    @property
    def selector(self) -> Selector:
        """The peer as a selector of labels."""
        return Selector((Requirement(FQDN, self.label_key, Operator.EXISTS),))


@frozen(order=True)
class CidrGroupPeer:
    """The prefixes of CiliumCIDRGroup objects, by ``name`` or by ``selector`` of their labels.

    A reference: it is replaced by :class:`CidrPeer` before selectors meet identities. A group that
    does not exist names nobody.
    """

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[IPv4Network | IPv6Network, ...] = ()


@frozen(order=True)
class ServicePeer:
    """Who is behind Services: pods by the Service's selector, or the addresses of one without.

    A reference, as :class:`CidrGroupPeer` is. ``namespace`` empty: of every namespace (only with
    ``selector``, which is about the Service's labels).
    """

    namespace: str = ""
    name: str = ""
    selector: Selector | None = None


Reference = CidrGroupPeer | ServicePeer


@frozen(order=True)
class L7Rules:
    """What a proxy is to look at: the protocol's name (``dns``), and its rules as text.

    ``rules`` are sorted and in the form that the plugin of the protocol has registered; they
    are alternatives. Empty: everything that is of this protocol.
    """

    protocol: str
    rules: tuple[str, ...] = ()


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

    ``selectors``, ``cidrs``, ``fqdns`` and ``references`` all ``None``: any peer. ``ports``
    ``None``: any port; empty: none. A rule whose peers are all empty only switches the direction
    to default-deny.

    Of two rules that match, the one of the lower ``tier`` decides, then the lower ``priority``,
    then the lower ``order``; of what is equal there, a deny, then one with ``l7``, then an allow,
    then a pass. Rules of Kubernetes and Cilium are all ``NORMAL`` with priority and order 0.
    """

    origin: Origin
    subject: Selector
    direction: Direction
    selectors: tuple[Selector, ...] | None = None
    cidrs: tuple[CidrPeer, ...] | None = None
    ports: tuple[PortRange, ...] | None = None
    action: Action = Action.ALLOW
    default_deny: bool = True
    fqdns: tuple[FqdnPeer, ...] | None = None
    references: tuple[Reference, ...] | None = None
    l7: L7Rules | None = None
    tier: Tier = Tier.NORMAL
    priority: int = 0
    order: int = 0
    log: str = ""
    """``log.value`` of the policy, for who shows verdicts."""

    @property
    def deny(self) -> bool:
        """Whether it refuses."""
        return self.action == Action.DENY

    @property
    def anybody(self) -> bool:
        """Whether no peer is stated."""
        return (
            self.selectors is None
            and self.cidrs is None
            and self.fqdns is None
            and self.references is None
        )
