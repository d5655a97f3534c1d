"""Packets that nobody should send: the programs always answer, and account for what they drop."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NS,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from axoneme.core.datapath import testrun
from axoneme.core.testing.packets import EGRESS, INGRESS, OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}


def seeds(a: Any, b: Any) -> list[bytes]:
    """Well-formed packets of every kind that the programs look into."""
    inner = bytes(a.udp(4, b))[14:]
    inner6 = bytes(a.udp(6, b))[14:]
    packets = [
        a.tcp(4, b), a.tcp(6, b), a.udp(4, WORLD[4]), a.udp(6, WORLD[6]),
        a.frame(4, b) / ICMP() / Raw(b"ping"),
        a.frame(4, b) / ICMP(type=3, code=1) / Raw(inner),
        a.frame(6, b) / ICMPv6DestUnreach() / Raw(inner6),
        a.frame(4, b, flags="MF", id=3) / UDP() / Raw(b"x" * 24),
        a.frame(6, b) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1) / UDP() / Raw(b"x" * 24),
        a.frame(6, "fd00::1", ttl=255) / ICMPv6ND_NS(tgt="fd00::1"),
        Ether(src=a.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=a.ip4, pdst="10.0.0.1"),
    ]  # fmt: skip
    return [bytes(p) for p in packets]


def mutate(packet: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, perhaps cut, perhaps longer."""
    data = bytearray(packet)
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(12, len(data))] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
    if rng.random() < 0.3:
        data = data[: rng.randint(54, max(54, len(data)))]
    return bytes(data) + bytes(rng.randrange(256) for _ in range(rng.choice((0, 0, 40))))


@pytest.mark.parametrize("program", ["from_container", "to_container"])
def test_every_packet_gets_an_answer_and_every_drop_a_reason(
    bench: PacketBench, a: Any, b: Any, program: str
) -> None:
    """Thousands of mutated packets: pass, redirect or drop, and as many counted as dropped."""
    rng = random.Random(20)
    samples = seeds(a, b)
    fd = bench.loaded.programs[program].fd
    before = sum(bench.drops().values())
    shot = 0
    for number in range(4000):
        packet = mutate(samples[number % len(samples)], rng)
        if len(packet) < 54 and packet[12:14] in (b"\x08\x00", b"\x86\xdd"):
            continue
        done = testrun.run(fd, packet, ifindex=a.ifindex)
        assert done.verdict in (OK, SHOT, REDIRECT), packet.hex()
        shot += done.verdict == SHOT
    assert shot > 500
    assert sum(bench.drops().values()) - before == shot


PEERS = (0, 1002, 4242)
PORTS = (0, 64, 80, 81, 8000)
entries = st.lists(
    st.tuples(
        st.sampled_from(PEERS),
        st.sampled_from((6, 17)),
        st.sampled_from(PORTS),
        st.sampled_from((0, 8, 12, 16, 20, 22, 23, 24)),
        st.sampled_from((1, 2, 200, 255)),
    ),
    max_size=8,
)


def expected(rules: list[Any], peer: int, proto: int, port: int) -> str:
    """The verdict as the documents define it: best entry of the peer, best of anybody, then
    precedence, then the longer prefix, then the specific one."""

    def best(who: int) -> tuple[int, int] | None:
        key = proto << 16 | port
        fits = {
            bits: precedence
            for entry_peer, p, at, bits, precedence in rules
            if entry_peer == who and (p << 16 | at) >> (24 - bits) == key >> (24 - bits)
        }
        return (fits[max(fits)], max(fits)) if fits else None

    own, anybody = best(peer), best(0)
    found = [x for x in (own, anybody) if x is not None]
    if not found:
        return "POLICY"
    return "POLICY_DENY" if max(found)[0] == 255 else ""


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rules=entries,
    direction=st.sampled_from((INGRESS, EGRESS)),
    version=st.sampled_from((4, 6)),
    proto=st.sampled_from((6, 17)),
    port=st.sampled_from((64, 79, 80, 81, 8000, 8007)),
)
def test_the_program_decides_as_the_documents_say(
    closed: PacketBench, a: Any, b: Any, rules: list[Any], direction: int, version: int,
    proto: int, port: int,
) -> None:  # fmt: skip
    """Random entries, random packets: C and a ten-line model agree."""
    subject, peer = (b, a) if direction == INGRESS else (a, b)
    identity = {a.identity: 1001, b.identity: 1002}[peer.identity]
    for pod in (a, b):
        table = closed.subject(pod.identity)
        table.delete_batch([key for key, _ in table.items()])
    for name in ("axo_ct4", "axo_ct6", "axo_ct_any4", "axo_ct_any6"):
        for key in list(closed.maps[name].keys()):
            closed.maps[name].delete(key)
    closed.rule(peer.identity, 1 - direction)
    cleaned: dict[tuple[int, int, int], Any] = {}
    for who, p, at, bits, precedence in rules:
        whom = identity if who == 1002 else who
        key = p << 16 | at
        masked = key >> (24 - bits) << (24 - bits)
        cleaned[whom, masked, bits] = (whom, masked >> 16, masked & 0xFFFF, bits, precedence)
    for who, p, at, bits, precedence in cleaned.values():
        closed.rule(
            subject.identity, direction, peer=who, proto=p, port=at, bits=bits,
            precedence=precedence, deny=precedence == 255,
        )  # fmt: skip
    layer = TCP(sport=999, dport=port) if proto == 6 else UDP(sport=999, dport=port)
    done = closed.run("from_container", a.frame(version, b) / layer, ifindex=a.ifindex)
    assert done.drop == expected(list(cleaned.values()), identity, proto, port)
