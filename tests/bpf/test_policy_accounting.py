"""``policy-accounting``: which entry is counted for a packet, and which packets are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoRequest

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.testing.packets import EGRESS, INGRESS, PacketBench
from axoneme.plugins.policy.cidr_match import CidrKey, CidrMatch, CidrValue, encode
from axoneme.plugins.policy.counters import MAP, Counted, StatKey, StatValue, read
from axoneme.plugins.policy.entries import PolicyKey

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
TCP = 6
UDP = 17
RULED = (1 << 24) + 7


@pytest.fixture(scope="module", params=[0, 2], ids=["plain", "CIDR rules mean pods"])
def programs(
    request: pytest.FixtureRequest,
    compile_cache: Path,
    registry_of: Callable[..., DatapathRegistry],
) -> Iterator[PacketBench]:
    """The programs with accounting."""
    registry = registry_of("source_check", "policy")
    registry.define("AXO_POLICY_ACCOUNTING", 1)
    if request.param:
        registry.define("AXO_POLICY_CIDR_MATCH", request.param)
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


@pytest.fixture
def counted(
    programs: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any
) -> PacketBench:
    """Pods a and b, who gets anything; nothing is counted yet."""
    populate(programs, a, b)
    stats = programs.maps[MAP]
    stats.delete_batch(list(stats.keys()))
    return programs


def counters(bench: PacketBench, subject: int) -> dict[PolicyKey, StatValue]:
    """What has been counted for a subject."""
    found = read(TypedMap(bench.maps[MAP], StatKey, StatValue))
    return {key.entry: value for key, value in found.items() if key.subject == subject}


def send(bench: PacketBench, a: Any, frame: Any, times: int = 1) -> str:
    """Run a packet some times; the last reason for a drop."""
    for _ in range(times):
        done = bench.run("from_container", frame, ifindex=a.ifindex)
    return done.drop


@FAMILIES
def test_the_entry_that_decides_is_counted(
    counted: PacketBench, a: Any, b: Any, version: int
) -> None:
    """On both sides, with the bytes of the frame, under the key that the entry has."""
    counted.rule(a.identity, EGRESS, peer=b.identity, proto=TCP, port=80, cookie=11)
    counted.rule(b.identity, INGRESS, cookie=12)
    frame = a.tcp(version, b, dport=80)
    assert send(counted, a, frame) == ""
    size = len(bytes(frame))
    key = PolicyKey(b.identity, EGRESS, TCP, 80, 24)
    assert counters(counted, a.identity) == {key: StatValue(1, size)}
    assert counters(counted, b.identity) == {PolicyKey(0, INGRESS, 0, 0, 0): StatValue(1, size)}


@FAMILIES
def test_what_conntrack_answers_for_is_not_counted(
    counted: PacketBench, a: Any, b: Any, version: int
) -> None:
    """One packet of a flow, and one more for each change of policy; replies never."""
    counted.rule(a.identity, EGRESS)
    counted.rule(b.identity, INGRESS)
    entry = PolicyKey(0, EGRESS, 0, 0, 0)
    frame = a.udp(version, b, dport=53, sport=1000)
    send(counted, a, frame, 5)
    counted.run("from_container", b.udp(version, a, dport=1000, sport=53), ifindex=b.ifindex)
    assert counters(counted, a.identity)[entry].packets == 1
    assert list(counters(counted, b.identity)) == [PolicyKey(0, INGRESS, 0, 0, 0)]
    counted.runtime("POLICY_GEN", 7)
    send(counted, a, frame, 5)
    assert counters(counted, a.identity)[entry] == StatValue(2, 2 * len(bytes(frame)))


@FAMILIES
def test_each_refused_packet_is_counted(counted: PacketBench, a: Any, b: Any, version: int) -> None:
    """A deny counts all that it drops; where nothing decides, nothing is counted."""
    counted.rule(a.identity, EGRESS, proto=TCP, deny=1, cookie=9)
    assert send(counted, a, a.tcp(version, b, dport=80), 5) == "POLICY_DENY"
    assert counters(counted, a.identity)[PolicyKey(0, EGRESS, TCP, 0, 8)].packets == 5
    assert send(counted, a, a.udp(version, b, dport=80)) == "POLICY"
    assert len(counters(counted, a.identity)) == 1


@FAMILIES
@pytest.mark.parametrize(("bits", "port"), [(9, 32768), (12, 61440), (21, 65528), (24, 65535)])
def test_a_range_is_one_counter(
    counted: PacketBench, a: Any, b: Any, version: int, bits: int, port: int
) -> None:
    """Ports below one prefix are counted together, without the bits that it leaves open."""
    counted.rule(a.identity, EGRESS, proto=UDP, port=port, bits=bits)
    counted.rule(b.identity, INGRESS)
    for dport in {port, 65535}:
        assert send(counted, a, a.udp(version, b, dport=dport)) == ""
    found = counters(counted, a.identity)
    assert [*found] == [PolicyKey(0, EGRESS, UDP, port, bits)]
    assert found[PolicyKey(0, EGRESS, UDP, port, bits)].packets == len({port, 65535})


@FAMILIES
def test_icmp_counts_under_its_type(counted: PacketBench, a: Any, b: Any, version: int) -> None:
    """The type stands where the port does."""
    proto, kind, layer = {4: (1, 8, ICMP(type=8)), 6: (58, 128, ICMPv6EchoRequest())}[version]
    counted.rule(a.identity, EGRESS, proto=proto, port=kind)
    counted.rule(b.identity, INGRESS)
    assert send(counted, a, a.frame(version, b) / layer) == ""
    assert list(counters(counted, a.identity)) == [PolicyKey(0, EGRESS, proto, kind, 24)]


@FAMILIES
def test_another_rule_starts_from_zero(counted: PacketBench, a: Any, b: Any, version: int) -> None:
    """An entry that another rule takes over does not inherit what was counted."""
    for sport, cookie in ((1000, 5), (1001, 6), (1002, 5)):
        counted.rule(a.identity, EGRESS, cookie=cookie)
        counted.rule(b.identity, INGRESS)
        assert send(counted, a, a.tcp(version, b, dport=80, sport=sport)) == ""
    found = read(TypedMap(counted.maps[MAP], StatKey, StatValue))
    entry = PolicyKey(0, EGRESS, 0, 0, 0)
    packets = {c: found[Counted(a.identity, entry, c)].packets for c in (5, 6)}
    assert packets == {5: 2, 6: 1}


@FAMILIES
def test_an_entry_of_a_prefix_counts_under_its_identity(
    counted: PacketBench, a: Any, b: Any, version: int
) -> None:
    """``policy-cidr-match-mode``: what a CIDR rule decides about a pod is the prefix's."""
    if "axo_policy_cidr" not in counted.maps:
        return
    prefix = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}[version]
    key, value = encode(CidrMatch(ip_network(prefix), RULED))
    TypedMap(counted.maps["axo_policy_cidr"], CidrKey, CidrValue)[key] = value
    counted.rule(a.identity, EGRESS, peer=RULED, cookie=3)
    counted.rule(b.identity, INGRESS)
    assert send(counted, a, a.tcp(version, b, dport=80)) == ""
    assert list(counters(counted, a.identity)) == [PolicyKey(RULED, EGRESS, 0, 0, 0)]
