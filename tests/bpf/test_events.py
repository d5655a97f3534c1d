"""What events say, how they are aggregated, limited and lost."""

from __future__ import annotations

import struct
import time
from ipaddress import ip_address
from typing import Any

import pytest

from axoneme.core.testing.packets import SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
DROP, TRACE, VERDICT = 1, 4, 5


def lost(bench: PacketBench, slot: int) -> int:
    """Sum over the CPUs of a slot of ``axo_event_loss``."""
    table = bench.maps["axo_event_loss"]
    raw = table.lookup(struct.pack("=I", slot))
    assert raw is not None
    return sum(int.from_bytes(v[:8], "little") for v in table.cpu_values(raw))


@FAMILIES
def test_a_drop_says_who_whom_and_why(closed: PacketBench, a: Any, b: Any, version: int) -> None:
    """All of the record, field by field."""
    closed.rule(a.identity, 1, deny=True, proto=6, port=80, cookie=77)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    sent = a.tcp(version, b)
    closed.run("from_container", sent, ifindex=a.ifindex)
    [event] = closed.events(DROP)
    assert (event.reason, event.dir, event.family, event.ep_id) == (181, 1, version, a.id)
    assert (event.sport, event.dport, event.proto, event.tcp_flags) == (1000, 80, 6, 2)
    assert (event.src_identity, event.dst_identity) == (a.identity, b.identity)
    assert (event.src_id, event.dst_id) == (a.id, b.id)
    assert (event.saddr, event.daddr) == (ip_address(a.ip(version)), ip_address(b.ip(version)))
    assert (event.ifindex, event.len, event.cookie) == (a.ifindex, len(bytes(sent)), 77)
    assert (event.match_type, event.ct_state) == (3, 0)
    assert before <= event.ktime_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@FAMILIES
def test_a_new_flow_tells_both_verdicts_and_one_trace(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Egress by the sender's policy, ingress by the receiver's, then delivery."""
    bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    events = bench.events()
    assert [(e.type, e.dir, e.ep_id, e.verdict) for e in events] == [
        (VERDICT, 1, a.id, 1),
        (VERDICT, 0, b.id, 1),
        (TRACE, 0, b.id, 1),
    ]
    assert events[2].ifindex == b.ifindex


@FAMILIES
def test_a_refusal_is_a_verdict_and_a_drop(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The verdict event carries the reason, and is denied."""
    closed.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    verdict, drop = closed.events()
    assert (verdict.type, verdict.verdict, verdict.reason) == (VERDICT, 0, 133)
    assert (drop.type, drop.reason) == (DROP, 133)


@FAMILIES
def test_an_established_flow_is_silent_until_flags_or_time(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Aggregation: data is not reported, a first FIN is, and each direction by itself."""
    bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    bench.events()
    for _ in range(5):
        bench.run("from_container", a.tcp(version, b, "A"), ifindex=a.ifindex)
    assert bench.events() == []
    answer = b.tcp(version, a, "SA", sport=80, dport=1000)
    bench.run("from_container", answer, ifindex=b.ifindex)
    [event] = bench.events()
    assert (event.type, event.ct_state) == (TRACE, 2)
    assert (event.src_identity, event.dst_identity) == (b.identity, a.identity)
    for _ in range(2):
        bench.run("from_container", a.tcp(version, b, "FA"), ifindex=a.ifindex)
    [event] = bench.events()
    assert event.tcp_flags & 1


def test_a_long_flow_is_reported_every_five_seconds(bench: PacketBench, a: Any, b: Any) -> None:
    """The interval counts from the last report of that direction."""
    for flag in ("S", "A"):
        bench.run("from_container", a.tcp(4, b, flag), ifindex=a.ifindex)
    bench.events()
    reported = bench.flow().reported
    bench.edit_flow(reported=tuple(max(0, r - 5) for r in reported))
    bench.run("from_container", a.tcp(4, b, "A"), ifindex=a.ifindex)
    assert len(bench.events()) == 1


def test_a_storm_is_limited_and_the_rest_is_counted(closed: PacketBench, a: Any, b: Any) -> None:
    """Above the rate events are left out; packets are dropped and counted all the same."""
    closed.runtime("EVENT_RATE", 50)
    before, drops = lost(closed, 1), closed.drops().get(133, 0)
    for port in range(500):
        done = closed.run("from_container", a.tcp(4, b, sport=2000 + port), ifindex=a.ifindex)
        assert done.verdict == SHOT
    told = len(closed.events())
    assert 0 < told < 300
    assert lost(closed, 1) - before == 1000 - told
    assert closed.drops()[133] - drops == 500


def test_a_full_ring_loses_events_and_counts_them(closed: PacketBench, a: Any, b: Any) -> None:
    """Nobody reads: packets go on, the loss is known, and reading makes room again."""
    closed.runtime("EVENT_RATE", 100_000_000)
    before = lost(closed, 0)
    sent = a.tcp(4, b)
    for _ in range(70):
        closed.run("from_container", sent, ifindex=a.ifindex, repeat=100)
    assert lost(closed, 0) > before
    told = len(closed.events())
    while more := len(closed.events()):
        told += more
    assert told + lost(closed, 0) - before == 2 * 7000
    closed.run("from_container", sent, ifindex=a.ifindex)
    assert len(closed.events()) == 2
