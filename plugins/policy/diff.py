"""What would change if some policies were others: verdicts now against verdicts then.

Pure, and made to run in a thread on a copy of the engine's inputs. One scratch engine computes the
present, then takes the change; what its flush reports as different is all that needs a look. Flows
are judged at both ends. Pairs are judged on the ports where something differs and on the named
ports of who receives, so the answer does not grow with the cluster but with the change.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from attrs import Factory, define, field, frozen

from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.model.policy import Rule
from axoneme.plugins.policy.engine import PolicyEngine
from axoneme.plugins.policy.entries import ANY_PEER, EGRESS, INGRESS, Entries, PolicyKey, lookup
from axoneme.plugins.policy.explain import (
    ALLOWED,
    DENIED,
    REDIRECTED,
    Answer,
    InForce,
    Packet,
    Party,
    explain,
    verdict_of,
)
from axoneme.plugins.policy.l4 import L4, PROTOCOL_BITS, PROTOCOLS, TCP
from axoneme.plugins.policy.subjects import Settings

SECONDS: Final = 10.0
"""How long a comparison may take; what it has by then is the answer, and says so."""
MAX_ROWS: Final = 1000
"""Pairs, and flows, in one answer."""
MAX_REASONS: Final = 200
"""Rows of each that are told a reason: it costs a millisecond each."""

_SELDOM: Final = (61999, 50021, 40009, 30011, 20011, 11003, 2, 7, 33)
"""Ports to stand for "any other", tried until one is named by no rule."""
_ORDER: Final = (ALLOWED, REDIRECTED, DENIED)

Judge = tuple[int, int]
"""A subject and a direction."""


@frozen
class Snapshot:
    """The inputs of an engine, copied."""

    rules: InForce
    settings: Settings
    parties: Mapping[int, Party]
    """Every identity, as a peer."""
    subjects: Mapping[int, Party]
    """Identities whose policy is computed, with the port names of their own pods."""
    inhabited: frozenset[int] = frozenset()
    """Identities that somebody has: pods, nodes, the world."""


@frozen
class Change:
    """An object and the rules that it would have; none: it would be gone."""

    key: ObjectKey
    rules: tuple[Rule, ...]


@frozen
class Tip:
    """One end of a flow. ``then``: the identity that the address would have."""

    address: str
    port: int
    identity: int
    then: int
    name: str = ""


@frozen
class Flow:
    """A connection that somebody has seen. ``packet`` is what the opener sends."""

    source: Tip
    destination: Tip
    packet: Packet
    state: str
    """``open``, ``closing``, ``ended`` or ``dropped``."""
    seconds: float = 0.0
    """Since it was last seen, where that is known."""


@frozen
class FlowChange:
    """A flow whose verdict changes. ``direction`` is the one that does it."""

    flow: Flow
    now: str
    then: str
    direction: int
    why: tuple[Answer, Answer] | None = None
    """Explained, now and then."""


@frozen
class PairChange:
    """Two identities between which a verdict changes, on some ports."""

    source: int
    destination: int
    ports: tuple[str, ...]
    now: str
    then: str
    direction: int
    why: tuple[Answer, Answer] | None = None


@define
class Difference:
    """The answer."""

    flows: list[FlowChange] = Factory(list)
    pairs: list[PairChange] = Factory(list)
    judged: int = 0
    """Flows that were judged."""
    truncated: bool = False
    seconds: float = 0.0


class Probe(NamedTuple):
    """A packet that stands for some ports, and the words for them."""

    packet: Packet
    words: str


@define(eq=False)
class _State:
    """Entries of every subject at one moment, and the rules behind them."""

    entries: dict[int, Entries]
    rules: InForce


@define(eq=False)
class Comparison:
    """One run; ``now`` and ``then`` are filled by :meth:`compute`."""

    snapshot: Snapshot
    changes: Sequence[Change]
    added: Mapping[int, Party]
    """Identities that the change would bring: prefixes that no rule names yet."""
    deadline: float
    _states: list[_State] = field(factory=list, init=False)
    _touched: dict[Judge, set[PolicyKey]] = field(factory=dict, init=False)
    _seldom: dict[Judge, int] = field(factory=dict, init=False)
    _parties: dict[int, Party] = field(factory=dict, init=False)

    def compute(self) -> None:
        """Both states, and where they differ."""
        engine = PolicyEngine(self.snapshot.settings)
        self._parties = {**self.snapshot.parties, **self.added}
        for party in self._parties.values():
            engine.upsert_identity(party.identity, party.labels, party.prefixes)
            engine.set_peer_ports(party.identity, party.pods)
        by_object: dict[ObjectKey, list[Rule]] = {}
        for _, key, rule in self.snapshot.rules:
            by_object.setdefault(key, []).append(rule)
        for key, rules in by_object.items():
            engine.set_rules(key, rules)
        for subject in self.snapshot.subjects.values():
            engine.set_subject(subject.identity, subject.pods)
        engine.flush()
        self._states.append(self._state(engine))
        for change in self.changes:
            engine.set_rules(change.key, change.rules)
        for identity, delta in engine.flush().items():
            for entry in (*delta.upserts, *delta.deletes):
                self._touched.setdefault((identity, entry.direction), set()).add(entry)
        self._states.append(self._state(engine))

    def _state(self, engine: PolicyEngine) -> _State:
        entries: dict[int, Entries] = {i: dict(engine.entries(i)) for i in engine.subjects()}
        return _State(entries, engine.rules())

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    # Verdicts

    def verdict(self, state: int, source: int, destination: int, packet: Packet) -> tuple[str, str]:
        """Of egress and ingress; an end without policy here lets everything pass."""
        return (
            self._one(state, source, destination, EGRESS, packet),
            self._one(state, destination, source, INGRESS, packet),
        )

    def _one(self, state: int, own: int, peer: int, direction: int, packet: Packet) -> str:
        entries = self._states[state].entries.get(own)
        if entries is None:
            return ALLOWED
        known = peer in self._parties
        found = lookup(entries, peer, direction, packet.protocol, packet.port, known=known)
        return verdict_of(found)

    def judged(self, now: tuple[str, str], then: tuple[str, str]) -> tuple[str, str, int] | None:
        """Both verdicts and the direction that changes; ``None`` when they are the same."""
        before, after = (max(pair, key=_ORDER.index) for pair in (now, then))
        if before == after:
            return None
        return before, after, EGRESS if now[0] != then[0] else INGRESS

    def why(self, source: int, destination: int, ends: tuple[int, int], direction: int,
            packet: Packet) -> tuple[Answer, Answer] | None:  # fmt: skip
        """The explanations of one direction; ``ends``: the identities then."""
        answers = []
        for state, (a, b) in enumerate(((source, destination), ends)):
            own, peer = (a, b) if direction == EGRESS else (b, a)
            subject = self.snapshot.subjects.get(own)
            if subject is None:
                return None
            other = self._parties.get(peer) or Party(peer, LabelSet(), known=False)
            answers.append(
                explain(
                    self._states[state].rules,
                    self.snapshot.settings,
                    subject,
                    other,
                    direction,
                    packet,
                )
            )
        return answers[0], answers[1]

    # Pairs

    def pairs(self) -> Iterator[tuple[int, int, list[Probe]]]:
        """Sender, receiver and what to try, wherever entries differ."""
        tries: dict[tuple[int, int], dict[Packet, Probe]] = {}
        for (subject, direction), keys in self._touched.items():
            for peer, l4s in self._peers(keys).items():
                ends = (subject, peer) if direction == EGRESS else (peer, subject)
                probes = tries.setdefault(ends, {})
                for probe in self._probes((subject, direction), ends, l4s):
                    probes.setdefault(probe.packet, probe)
            if self.late:
                break
        for (source, destination), found in tries.items():
            yield source, destination, list(found.values())

    def _peers(self, keys: Iterable[PolicyKey]) -> dict[int, set[L4]]:
        """Whom changed entries are about; anybody's are about everybody there is."""
        found: dict[int, set[L4]] = {}
        for key in keys:
            for peer in self.snapshot.inhabited if key.peer == ANY_PEER else (key.peer,):
                if peer in self.snapshot.inhabited or peer in self.added:
                    found.setdefault(peer, set()).add(key.l4)
        return found

    def _probes(self, judge: Judge, ends: tuple[int, int], l4s: set[L4]) -> Iterator[Probe]:
        receiver = self.snapshot.subjects.get(ends[1]) or self._parties.get(ends[1])
        for ports in receiver.pods if receiver is not None else ():
            for port in ports:
                number = PROTOCOLS.get(port.protocol.upper(), 0)
                if any(l4.covers(number, port.port) for l4 in l4s):
                    yield Probe(Packet(number, port.port), f"{port.port}/{port.protocol.upper()}")
        for l4 in sorted(l4s, key=lambda x: -x.bits):
            if l4.bits > PROTOCOL_BITS:
                yield Probe(Packet(l4.protocol, l4.port), str(l4))
            else:
                yield Probe(Packet(l4.protocol or TCP, self._other(judge)), str(l4))

    def _other(self, judge: Judge) -> int:
        """A port that no entry of the subject names."""
        if judge not in self._seldom:
            subject, direction = judge
            named = {
                key.l4
                for state in self._states
                for key in state.entries.get(subject, ())
                if key.direction == direction and key.bits > PROTOCOL_BITS
            }
            free = (p for p in _SELDOM if not any(x.covers(x.protocol, p) for x in named))
            self._seldom[judge] = next(free, _SELDOM[0])
        return self._seldom[judge]


def compare(
    snapshot: Snapshot,
    changes: Sequence[Change],
    flows: Sequence[Flow],
    added: Mapping[int, Party],
    *,
    seconds: float = SECONDS,
) -> Difference:
    """What the changes do to flows and pairs. Blocking; at most about ``seconds``."""
    began = time.monotonic()
    run = Comparison(snapshot, changes, added, began + seconds)
    run.compute()
    difference = Difference()
    _judge_flows(run, flows, difference)
    _judge_pairs(run, difference)
    difference.truncated |= run.late
    difference.seconds = time.monotonic() - began
    return difference


def _judge_flows(run: Comparison, flows: Sequence[Flow], difference: Difference) -> None:
    for flow in flows:
        a, b = flow.source, flow.destination
        now = run.verdict(0, a.identity, b.identity, flow.packet)
        then = run.verdict(1, a.then, b.then, flow.packet)
        difference.judged += 1
        found = run.judged(now, then)
        if found is None:
            continue
        if run.late or len(difference.flows) >= MAX_ROWS:
            difference.truncated = True
            return
        why = None
        if len(difference.flows) < MAX_REASONS:
            why = run.why(a.identity, b.identity, (a.then, b.then), found[2], flow.packet)
        difference.flows.append(FlowChange(flow, *found, why))


def _judge_pairs(run: Comparison, difference: Difference) -> None:
    for source, destination, probes in run.pairs():
        groups: dict[tuple[str, str, int], list[Probe]] = {}
        for probe in probes:
            now, then = (run.verdict(s, source, destination, probe.packet) for s in (0, 1))
            found = run.judged(now, then)
            if found is not None:
                groups.setdefault(found, []).append(probe)
        for found, same in groups.items():
            if run.late or len(difference.pairs) >= MAX_ROWS:
                difference.truncated = True
                return
            why = None
            if len(difference.pairs) < MAX_REASONS:
                ends = (source, destination)
                why = run.why(*ends, ends, found[2], same[0].packet)
            words = tuple(dict.fromkeys(p.words for p in same))
            difference.pairs.append(PairChange(source, destination, words, *found, why))
