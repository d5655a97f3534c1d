"""Rules compiled for the engine: peers as selectors, ports as prefixes, one number each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

from attrs import frozen

from axoneme.core.model.endpoint import NamedPort
from axoneme.core.model.policy import Direction, PortRange, Rule, Selector
from axoneme.plugins.policy.entries import ALLOW, DENY, EGRESS, INGRESS, Claim
from axoneme.plugins.policy.l4 import ANY, L4, MAX_BITS, PROTOCOLS, WITH_PORTS, prefixes
from axoneme.plugins.policy.selectors import Peer, Prefix

NamedPorts = Mapping[str, frozenset[tuple[int, int]]]
"""Protocol number and port of each name."""

EVERYBODY = Selector()


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

    def claims(self, named: NamedPorts) -> Iterable[Claim]:
        """What the term says about one peer, given what the port names mean there."""
        for l4 in self.l4s:
            yield Claim(l4, self.precedence, self.cookie)
        for ports in self.names:
            for protocol, port in named.get(ports.name, ()):
                wanted = (ports.protocol,) if ports.protocol else WITH_PORTS
                if protocol in wanted:
                    yield Claim(L4(protocol, port, MAX_BITS), self.precedence, self.cookie)


def compile_rule(rule: Rule, cookie: int) -> list[Term]:
    """The terms of a rule; none when it selects no peer or no port."""
    ports = (PortRange(),) if rule.ports is None else rule.ports
    static = [p for p in ports if not p.name]
    l4s = tuple(dict.fromkeys(l4 for p in static for l4 in prefixes(p)))
    names = tuple(p for p in ports if p.name)
    direction = directions(rule.direction)
    precedence = DENY if rule.deny else ALLOW
    peers = _peers(rule)
    if peers == ():
        return []
    if peers is not None or not names or direction == INGRESS:
        return [Term(cookie, direction, precedence, peers, l4s, names)] if l4s or names else []
    terms = [Term(cookie, direction, precedence, None, l4s)] if l4s else []
    return [*terms, Term(cookie, direction, precedence, (EVERYBODY,), (), names)]


def _peers(rule: Rule) -> tuple[Peer, ...] | None:
    if rule.selectors is None and rule.cidrs is None:
        return None
    peers: list[Peer] = [*(rule.selectors or ()), *(rule.cidrs or ())]
    if EVERYBODY in peers:
        return None
    return tuple(dict.fromkeys(peers))


def rule_prefixes(rule: Rule) -> set[Prefix]:
    """Every prefix that must have an identity of its own for the rule to be exact."""
    found: set[Prefix] = set()
    for peer in rule.cidrs or ():
        found.update((peer.cidr, *peer.excepts))
    return found


DEFAULTS = tuple(Term(0, direction, ALLOW, None, (ANY,)) for direction in (INGRESS, EGRESS))
"""What holds in a direction in which nothing is enforced."""

LOCALHOST = Term(0, INGRESS, ALLOW, None, (ANY,))
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
