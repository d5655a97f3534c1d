"""Packets through the real program while the maps change: no moment may be wrong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from axoneme.core.datapath import testrun
from axoneme.core.model.policy import PortRange
from axoneme.core.testing.packets import OK, SHOT, PacketBench
from axoneme.plugins.policy.datapath import PolicyMaps
from axoneme.plugins.policy.entries import (
    ALLOW,
    ANY_PEER,
    DENY,
    EGRESS,
    PolicyKey,
    PolicyValue,
    lookup,
)
from axoneme.plugins.policy.known import KnownPeers
from axoneme.plugins.policy.l4 import prefixes
from axoneme.plugins.policy.resolve import Claim, decide
from axoneme.plugins.policy.tables import KNOWN, SubjectPolicy

pytestmark = pytest.mark.root

SUBJECT, PEER, OTHER = 700, 300, 301
RANGES = [PortRange(), PortRange(6), PortRange(17), PortRange(6, 8, 15), PortRange(6, 9, 12)]
RANGES += [PortRange(6, 9, 9), PortRange(17, 8, 8)]
PACKETS = [(6, 7), (6, 8), (6, 9), (6, 13), (17, 8), (17, 9)]
FILLER = [(OTHER, PortRange(6, 1000 + i, 1000 + i), False) for i in range(400)]


def entries_of(rules: list[tuple[int, PortRange, bool]]) -> dict[PolicyKey, PolicyValue]:
    """Entries of some (peer, ports, deny)."""
    found = {}
    for peer in {who for who, _, _ in rules}:
        claims = [
            Claim(l4, DENY if deny else ALLOW, 1)
            for who, ports, deny in rules
            if who == peer
            for l4 in prefixes(ports)
        ]
        for l4, value in decide(claims, {}):
            found[PolicyKey(peer, EGRESS, *l4)] = value
    return found


def passes(entries: Any, packet: tuple[int, int]) -> bool:
    found = lookup(entries, PEER, EGRESS, *packet)
    return found is not None and not found.deny


def frame(proto: int, port: int) -> bytes:
    """What the pod sends to its peer."""
    layer = TCP(sport=1000, dport=port, flags="S") if proto == 6 else UDP(sport=1000, dport=port)
    head = Ether(src="02:00:00:00:01:0b", dst="02:00:00:00:02:0b")
    return bytes(head / IP(src="10.244.1.11", dst="10.244.9.1") / layer)


def test_no_packet_meets_a_wrong_moment(bench: PacketBench, device: int) -> None:
    """Denied before and after: never passes meanwhile. Allowed in both: never drops.

    Established flows as well: each packet is sent again and again over the same tuple.
    """
    bench.reset()
    bench.endpoint(11, device, SUBJECT, "10.244.1.11", "fd00:10:244:1::11")
    bench.runtime("WORLD_V4", 9)
    bench.prefix("10.244.9.1/32", PEER)
    generation = count(1)
    definition = bench.maps["axoscratch_policy"].definition
    assert definition is not None
    target = PolicyMaps(
        lambda: bench.maps["axo_policy"],
        lambda: (definition.key, definition.value),
        lambda: bench.runtime("POLICY_GEN", next(generation)),
        16384,
    )
    program = bench.loaded.programs["from_container"].fd
    frames = {packet: frame(*packet) for packet in PACKETS}
    chance = random.Random(1)
    state: dict[PolicyKey, PolicyValue] = {}
    probes = 0
    with ThreadPoolExecutor(1) as other:
        for revision in range(1, 120):
            rules = [
                (chance.choice((ANY_PEER, PEER)), chance.choice(RANGES), chance.random() < 0.4)
                for _ in range(chance.randint(0, 5))
            ]
            new = entries_of(rules + chance.sample(FILLER, chance.choice((0, 50, 400))))
            sure = {p: passes(new, p) for p in PACKETS if passes(state, p) == passes(new, p)}
            row = SubjectPolicy(SUBJECT, revision, False, True, len(new), False, new)
            work = other.submit(target.apply, {SUBJECT: row}, {})
            while not work.done():
                for packet, allowed in sure.items():
                    verdict = testrun.run(program, frames[packet], ifindex=device).verdict
                    assert verdict == (OK if allowed else SHOT), (revision, packet, rules)
                    probes += 1
            assert work.result() == {}
            state = new
            for packet in PACKETS:
                verdict = testrun.run(program, frames[packet], ifindex=device).verdict
                assert verdict == (OK if passes(state, packet) else SHOT), (revision, packet)
    assert probes > 1000
    assert target.swaps > 5 and target.patches > 5
    target.resync({})


def test_a_new_peer_that_is_denied_never_passes(bench: PacketBench, device: int) -> None:
    """Anybody may, but for some: one of these comes and goes, as its identity does. Whoever is
    known and allowed in both states is never held up by that."""
    bench.reset()
    bench.endpoint(11, device, SUBJECT, "10.244.1.11", "fd00:10:244:1::11")
    bench.runtime("WORLD_V4", 9)
    bench.prefix("10.244.9.1/32", PEER)
    bench.prefix("10.244.9.2/32", OTHER)
    generation = count(1)
    definition = bench.maps["axoscratch_policy"].definition
    assert definition is not None
    target = PolicyMaps(
        lambda: bench.maps["axo_policy"],
        lambda: (definition.key, definition.value),
        lambda: bench.runtime("POLICY_GEN", next(generation)),
        16384,
    )
    program = bench.loaded.programs["from_container"].fd
    head = Ether(src="02:00:00:00:01:0b", dst="02:00:00:00:02:0b")
    denied, allowed = (
        bytes(head / IP(src="10.244.1.11", dst=to) / TCP(sport=1000, dport=80, flags="S"))
        for to in ("10.244.9.1", "10.244.9.2")
    )
    anybody = {
        PolicyKey(ANY_PEER, EGRESS, 0, 0, 0): PolicyValue(ALLOW, False, 1, 0, known_only=True)
    }
    with_deny = {**anybody, PolicyKey(PEER, EGRESS, 0, 0, 0): PolicyValue(DENY, True, 2, 0)}
    known = KnownPeers()
    known.add(OTHER)
    probes = 0

    def change(revision: int) -> Mapping[int, Exception]:
        """An identity comes, as a manager tells of it, or goes."""
        comes = revision % 2 == 0
        (known.add if comes else known.remove)(PEER)
        entries = with_deny if comes else anybody
        row = SubjectPolicy(SUBJECT, revision, False, True, len(entries), False, entries)
        mark = known.take(complete=True)
        rows = {SUBJECT: row} | ({KNOWN: mark} if mark is not None else {})
        return target.apply(rows, {})

    assert change(1) == {}
    with ThreadPoolExecutor(1) as other:
        for revision in range(2, 400):
            work = other.submit(change, revision)
            while not work.done():
                verdict = testrun.run(program, denied, ifindex=device).verdict
                assert verdict == SHOT, revision
                assert testrun.run(program, allowed, ifindex=device).verdict == OK, revision
                probes += 1
            assert work.result() == {}
    assert probes > 400
    target.resync({})
