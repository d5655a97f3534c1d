"""``policy-deny-response=icmp``: what goes back to a pod whose own policy refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, INGRESS, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
SOURCE = Path(__file__).parents[2] / "plugins" / "policy" / "deny_response.bpf.c"
ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
AWAY = {4: "203.0.113.9", 6: "2001:db8::9"}


@pytest.fixture(scope="module")
def answering(compile_cache: Path, packet_registry: DatapathRegistry) -> Iterator[PacketBench]:
    """The pods' programs with the key set."""
    registry = packet_registry.copy()
    registry.stage("egress_refused", "policy_egress_refused", SOURCE)
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


@pytest.fixture
def bench(
    answering: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any
) -> PacketBench:
    """Nothing is allowed; the router's addresses are known."""
    populate(answering, a, b)
    answering.runtime("ROUTER_V4", ip_address(ROUTER[4]).packed)
    raw = ip_address(ROUTER[6]).packed
    answering.runtime("ROUTER_V6_HI", raw[:8])
    answering.runtime("ROUTER_V6_LO", raw[8:])
    return answering


def verified(data: bytes, version: int) -> Any:
    """The answer, whose checksums must be what scapy computes for it."""
    answer = Ether(data)
    again = answer.copy()
    for layer in (IP, ICMP, ICMPv6DestUnreach):
        if layer in again:
            field = "cksum" if layer is ICMPv6DestUnreach else "chksum"
            delattr(again[layer], field)
    assert bytes(Ether(bytes(again)))[: len(data)] == data
    assert answer[IP if version == 4 else IPv6].src == ROUTER[version]
    return answer


@FAMILIES
@pytest.mark.parametrize("kind", ["tcp", "udp", "echo"])
def test_the_sender_is_told(bench: PacketBench, a: Any, version: int, kind: str) -> None:
    """Prohibited, by the router, with the start of what was sent; counted as a drop as well."""
    layers = {
        "tcp": TCP(sport=4000, dport=80, flags="S"),
        "udp": UDP(sport=4000, dport=80) / Raw(b"x" * 700),
        "echo": ICMP(id=7) if version == 4 else ICMPv6EchoRequest(id=7),
    }
    sent = Ether(bytes(a.frame(version, AWAY[version]) / layers[kind]))
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "POLICY")
    answer = verified(done.data, version)
    assert (answer.src, answer.dst) == (sent.dst, sent.src)
    quoted = 20 if kind == "tcp" else 8
    header = 20 if version == 4 else 40
    if version == 4:
        assert (answer[ICMP].type, answer[ICMP].code, answer[IP].dst) == (3, 13, a.ip4)
    else:
        error = answer[ICMPv6DestUnreach]
        assert (error.type, error.code, answer[IPv6].dst) == (1, 1, a.ip6)
    assert done.data[14 + header + 8 :] == bytes(sent)[14 : 14 + header + quoted]


@FAMILIES
def test_an_established_flow_that_ends_is_told(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A policy that changes under a connection ends it at once."""
    bench.rule(a.identity, EGRESS)
    bench.rule(b.identity, INGRESS)
    assert bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex).verdict == REDIRECT
    bench.rule(a.identity, EGRESS, deny=True)
    bench.runtime("POLICY_GEN", 5)
    segment = a.tcp(version, b, "A") / Raw(b"y" * 1000)
    done = bench.run("from_container", segment, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "POLICY_DENY")
    verified(done.data, version)


@FAMILIES
def test_who_is_not_told(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """The receiver's refusal, other drops, errors, fragments and what stands behind extensions."""
    unreachable = ICMP(type=3) if version == 4 else ICMPv6DestUnreach()
    inner = bytes(b.udp(version, a))[14:]
    packets = [
        a.frame(version, b, source=AWAY[version]) / TCP(dport=80),
        a.frame(version, AWAY[version]) / unreachable / Raw(inner),
    ]
    if version == 4:
        packets.append(a.frame(4, AWAY[4], frag=10) / Raw(b"z" * 64))
    else:
        packets.append(a.frame(6, AWAY[6]) / IPv6ExtHdrDestOpt() / UDP(dport=80))
    for sent in packets:
        assert bench.run("from_container", sent, ifindex=a.ifindex).verdict == SHOT
    bench.rule(a.identity, EGRESS)
    done = bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


def test_a_flood_is_not_answered_for_ever(bench: PacketBench, a: Any) -> None:
    """So many a second and CPU, then silence."""
    sent = a.udp(4, AWAY[4])
    verdicts = [bench.run("from_container", sent, ifindex=a.ifindex).verdict for _ in range(4000)]
    assert verdicts[0] == REDIRECT and SHOT in verdicts
