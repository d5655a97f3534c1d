"""Rules compiled for the engine: peers as selectors, ports as prefixes, one number each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import frozen

from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.policy import Action, Direction, L7Rules, PortRange, Rule, Selector, Tier
from axoneme.plugins.policy.entries import (
    DEFAULT,
    EGRESS,
    INGRESS,
    precedence_of,
    rank_of,
)
from axoneme.plugins.policy.l4 import ANY, L4, MAX_BITS, PROTOCOLS, WITH_PORTS, prefixes
from axoneme.plugins.policy.resolve import Claim
from axoneme.plugins.policy.selectors import Peer, Prefix

NamedPorts = Mapping[str, frozenset[tuple[int, int]]]
"""Protocol number and port of each name."""

EVERYBODY = Selector()

UNKNOWN_REDIRECT = 129
"""Byte of an L7 protocol that nobody has registered: its traffic is dropped."""


def directions(direction: Direction) -> int:
    """Number of a direction in keys."""
    return INGRESS if direction == Direction.INGRESS else EGRESS


@frozen(eq=False)
class Term:
    """A part of one rule with one way of finding its peers.

    ``peers`` ``None`` stands for anybody, programmed once under peer 0. A port name is looked
    up per peer on egress, so a rule for anybody with a port name has two terms.
    """

    cookie: int
    direction: int
    precedence: int
    peers: tuple[Peer, ...] | None
    l4s: tuple[L4, ...]
    names: tuple[PortRange, ...] = ()
    action: Action = Action.ALLOW
    l7: L7Rules | None = None
    is_baseline: bool = False
    """Of the last tier: counts only where no policy of a namespace enforces the direction."""

    @property
    def is_selective(self) -> bool:
        """Whether it may take something from some peers that anybody has."""
        return self.action != Action.ALLOW and self.peers is not None

    def claims(self, named: NamedPorts) -> Iterable[Claim]:
        """What the term says about one peer, given what the port names mean there."""
        for l4 in self.l4s:
            yield Claim(l4, self.precedence, self.cookie, self.l7)
        for ports in self.names:
            for protocol, port in named.get(ports.name, ()):
                wanted = (ports.protocol,) if ports.protocol else WITH_PORTS
                if protocol in wanted:
                    l4 = L4(protocol, port, MAX_BITS)
                    yield Claim(l4, self.precedence, self.cookie, self.l7)


def compile_rule(
    rule: Rule, cookie: int, redirects: Mapping[str, int] = MappingProxyType({})
) -> list[Term]:
    """The terms of a rule; none when it selects no peer or no port.

    ``redirects``: the byte of a precedence of each L7 protocol.
    """
    ports = (PortRange(),) if rule.ports is None else rule.ports
    static = [p for p in ports if not p.name]
    l4s = tuple(dict.fromkeys(l4 for p in static for l4 in prefixes(p)))
    names = tuple(p for p in ports if p.name)
    peers = _peers(rule)
    if peers == () or not (l4s or names):
        return []
    rank = rank_of(rule.tier, rule.priority, rule.order)
    byte = redirects.get(rule.l7.protocol, UNKNOWN_REDIRECT) if rule.l7 is not None else 0
    precedence = precedence_of(rank, rule.action, byte)
    direction = directions(rule.direction)

    def term(
        peers: tuple[Peer, ...] | None, l4s: tuple[L4, ...], names: tuple[PortRange, ...]
    ) -> Term:
        return Term(
            *(cookie, direction, precedence, peers, l4s, names, rule.action, rule.l7),
            is_baseline=rule.tier == Tier.BASELINE,
        )

    if peers is not None:
        return [term(peers, l4s, names)]
    everybody = (EVERYBODY,)
    if rule.action == Action.PASS:  # what is passed over may be anybody's: each peer is asked
        return [term(None, l4s, names if direction == INGRESS else ()), term(everybody, l4s, names)]
    if not names or direction == INGRESS:
        return [term(None, l4s, names)]
    return [*([term(None, l4s, ())] if l4s else []), term(everybody, (), names)]


def _peers(rule: Rule) -> tuple[Peer, ...] | None:
    if rule.anybody:
        return None
    peers: list[Peer] = [*(rule.selectors or ()), *(rule.cidrs or ())]
    peers += [f.selector for f in rule.fqdns or ()]
    if EVERYBODY in peers:
        return None
    return tuple(dict.fromkeys(peers))


def rule_prefixes(rule: Rule) -> set[Prefix]:
    """Every prefix that must have an identity of its own for the rule to be exact."""
    found: set[Prefix] = set()
    for peer in rule.cidrs or ():
        found.update((peer.cidr, *peer.excepts))
    return found


DEFAULTS = tuple(Term(0, direction, DEFAULT, None, (ANY,)) for direction in (INGRESS, EGRESS))
"""What holds in a direction in which nothing is enforced."""

LOCALHOST = Term(0, INGRESS, DEFAULT, None, (ANY,))
"""What holds for the node's own traffic to its pods."""


class Cookies:
    """Numbers of rules: a hash of where the rule stands, so a restart gives the same ones."""

    def __init__(self) -> None:
        self._taken: dict[int, str] = {}

    def take(self, name: str) -> int:
        """A free number for ``name``, never 0."""
        number = zlib.crc32(name.encode()) or 1
        while number in self._taken:
            number = number % 0xFFFFFFFF + 1
        self._taken[number] = name
        return number

    def give_back(self, number: int) -> None:
        """Free a number."""
        del self._taken[number]


def named_ports(pods: Iterable[Iterable[NamedPort]]) -> tuple[NamedPorts, NamedPorts]:
    """What names mean for pods that share an identity: (on every pod, on any pod).

    An allow uses the first, a deny the second, so pods of one identity that disagree about a
    name are never opened wider than each of them asked for.
    """
    every: dict[str, frozenset[tuple[int, int]]] | None = None
    some: dict[str, frozenset[tuple[int, int]]] = {}
    for pod in pods:
        own: dict[str, frozenset[tuple[int, int]]] = {}
        for port in pod:
            number = PROTOCOLS.get(port.protocol.upper(), 0)
            if number in WITH_PORTS:
                own[port.name] = own.get(port.name, frozenset()) | {(number, port.port)}
        every = own if every is None else {n: every[n] & own[n] for n in every if n in own}
        for name, meant in own.items():
            some[name] = some.get(name, frozenset()) | meant
    return every or {}, some
