"""What the engine knows: settings, rules in force, subjects, and how they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from attrs import Factory, define, frozen

from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import PortRange, Rule
from axoneme.plugins.policy.entries import ANY_PEER, EGRESS, INGRESS, PolicyKey, PolicyValue
from axoneme.plugins.policy.l4 import L4, PROTOCOL_BITS, WITH_PORTS
from axoneme.plugins.policy.resolve import Decision, Seen, Way
from axoneme.plugins.policy.terms import NamedPorts, Term

Terms = dict[int, dict[Term, None]]
"""Terms by handle of the peer selector; 0 is anybody."""


@frozen
class Settings:
    """What the configuration says: ``mode`` is default, always or never."""

    mode: str = "default"
    allow_localhost: bool = True
    redirects: Mapping[str, int] = MappingProxyType({})
    """Byte of the precedence of each L7 protocol."""
    proxies: Mapping[str, int] = MappingProxyType({})
    """Port of each L7 protocol's proxy; what is not here, or 0, drops."""


@define(eq=False)
class Compiled:
    """A rule in force."""

    key: ObjectKey
    rule: Rule
    cookie: int
    subject: int  # handle of the subject selector
    terms: list[tuple[Term, tuple[int, ...] | None]]  # with the handles of its peers


Place = tuple[int, int]
"""Direction and peer."""
Changing = tuple[
    dict[PolicyKey, PolicyValue], dict[PolicyKey, PolicyValue], dict[Place, tuple[Seen, ...]]
]


@define(eq=False)
class Subject:
    """What is known of one subject identity. Terms by handle of the peer selector, 0 anybody."""

    entries: dict[PolicyKey, PolicyValue] = Factory(dict)
    by_peer: dict[tuple[int, int], list[PolicyKey]] = Factory(dict)
    terms: tuple[Terms, Terms] = Factory(lambda: ({}, {}))
    rules: set[int] = Factory(set)  # cookies
    enforcing: list[int] = Factory(lambda: [0, 0])  # rules that ask for default deny
    selective: list[int] = Factory(lambda: [0, 0])  # terms that take from some, not from anybody
    ways: tuple[Counter[Way], Counter[Way]] = Factory(lambda: (Counter(), Counter()))
    """Redirects of all peers, by direction."""
    common_ways: tuple[Counter[Way], Counter[Way]] = Factory(lambda: (Counter(), Counter()))
    """Redirects of anybody."""
    whole: tuple[set[int], set[int]] = Factory(lambda: (set(), set()))
    """Peers whose entries answer for anybody's rules too."""
    l7: dict[Place, tuple[Seen, ...]] = Factory(dict)
    ports: tuple[NamedPorts, NamedPorts] = ({}, {})
    dirty: tuple[set[int], set[int]] = Factory(lambda: (set(), set()))
    fresh: bool = True

    @classmethod
    def succeeding(cls, left: Subject | None, ports: tuple[NamedPorts, NamedPorts]) -> Subject:
        """A new subject; one that ``left`` since the last flush differs from what was told then."""
        if left is None:
            return cls(ports=ports)
        subject = cls(ports=ports, entries=left.entries, by_peer=left.by_peer, l7=left.l7)
        for direction in (INGRESS, EGRESS):
            subject.touch_all(direction)
        return subject

    def is_touched(self) -> bool:
        """Whether something is to be computed."""
        return self.fresh or any(self.dirty)

    def touch_all(self, direction: int, peers: Iterable[int] = ()) -> None:
        """Have everything in a direction decided again, and the peers that are named."""
        dirty = self.dirty[direction]
        dirty.update(peers)
        dirty.update(peer for d, peer in self.by_peer if d == direction)

    def count_ways(self, term: Term, step: int) -> None:
        """Note where a term redirects; whoever that may catch is decided again."""
        if term.l7 is None:
            return
        direction = term.direction
        # Where a name leads differs between peers: it stands for every port of its protocols.
        named = tuple(L4(n, 0, PROTOCOL_BITS) for p in term.names for n in _protocols(p))
        for l4 in (*term.l4s, *named):
            for counter in (self.ways, self.common_ways)[: 1 if term.peers else 2]:
                way = l4, term.precedence >> 8
                counter[direction][way] += step
                if not counter[direction][way]:
                    del counter[direction][way]
        if term.peers is None:
            self.touch_all(direction)
        self.dirty[direction].add(ANY_PEER)

    def replace(self, place: Place, decision: Decision, delta: Changing) -> None:
        """Put the entries of one (direction, peer) in place and note the difference."""
        upserts, deletes, l7 = delta
        wanted = decision.entries
        if self.l7.get(place, ()) != decision.l7:
            l7[place] = decision.l7
            if decision.l7:
                self.l7[place] = decision.l7
            else:
                del self.l7[place]
        direction, peer = place
        entries = self.entries
        old = self.by_peer.pop(place, ())
        keys = [PolicyKey(peer, direction, *l4) for l4, _ in wanted]
        if old and old != keys:
            for key in set(old).difference(keys):
                deletes[key] = entries.pop(key)
        for key, (_, value) in zip(keys, wanted, strict=True):
            if entries.get(key) != value:
                upserts[key] = value
                entries[key] = value
        if keys:
            self.by_peer[place] = keys


@frozen
class Delta:
    """How one subject changed since the last flush; ``gone`` when it is no subject any more."""

    upserts: Mapping[PolicyKey, PolicyValue] = Factory(dict)
    deletes: Mapping[PolicyKey, PolicyValue] = Factory(dict)
    l7: Mapping[Place, tuple[Seen, ...]] = Factory(dict)
    """What proxies must know, of the peers for which that has changed."""
    gone: bool = False

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes or self.l7 or self.gone)


@frozen
class RuleChange:
    """Cookies of rules that went and came; a cookie may be in both."""

    removed: dict[int, Rule] = Factory(dict)
    added: dict[int, Rule] = Factory(dict)

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def _protocols(ports: PortRange) -> tuple[int, ...]:
    """Protocols that a port name may be of."""
    return (ports.protocol,) if ports.protocol else WITH_PORTS
