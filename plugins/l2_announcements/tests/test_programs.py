"""Frames at a device: what is asked for is answered, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.testing.packets import OK, REDIRECT, PacketBench
from axoneme.plugins.l2_announcements.datapath import L2Key, L2Value, register

pytestmark = pytest.mark.root

LO = 1
MAC = "02:00:00:00:00:aa"
ASKER = "02:00:00:00:00:03"


@pytest.fixture(scope="module")
def bench() -> Iterator[PacketBench]:
    """The device programs with the responder and two announced addresses."""
    registry = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    register(registry)
    with PacketBench(registry, unit="netdev") as made:
        for text in ("192.0.2.1", "2001:db8::1"):
            answers(made)[L2Key(ip_address(text), LO)] = L2Value(MAC)
        yield made


def answers(bench: PacketBench) -> TypedMap[L2Key, L2Value]:
    """The map."""
    return TypedMap(bench.maps["axo_l2"], L2Key, L2Value)


def arp(target: str, op: int = 1) -> Packet:
    """Who has it?"""
    said = ARP(op=op, hwsrc=ASKER, psrc="192.0.2.9", pdst=target)
    return Ether(src=ASKER, dst="ff:ff:ff:ff:ff:ff") / said


def solicit(target: str, source: str = "2001:db8::9") -> Packet:
    """Who has it?"""
    header = IPv6(src=source, dst="ff02::1:ff00:1", hlim=255)
    return Ether(src=ASKER, dst="33:33:ff:00:00:01") / header / ICMPv6ND_NS(tgt=target)


def test_arp_is_answered(bench: PacketBench) -> None:
    """With the device's address, to who has asked."""
    done = bench.run("from_netdev", arp("192.0.2.1"), ifindex=LO)
    assert done.verdict == REDIRECT
    answer = Ether(done.data)
    assert (answer.src, answer.dst) == (MAC, ASKER)
    said = answer[ARP]
    assert (said.op, said.hwsrc, said.psrc, said.pdst) == (2, MAC, "192.0.2.1", "192.0.2.9")


def test_a_solicitation_is_answered(bench: PacketBench) -> None:
    """With a right sum and the device's address in the option."""
    done = bench.run("from_netdev", solicit("2001:db8::1"), ifindex=LO)
    assert done.verdict == REDIRECT
    answer = Ether(done.data)
    said = answer[ICMPv6ND_NA]
    assert (answer.src, answer.dst, answer[IPv6].dst) == (MAC, ASKER, "2001:db8::9")
    assert (said.tgt, said.R, said.S) == ("2001:db8::1", 0, 1)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == MAC
    fresh = Ether(done.data)
    del fresh[ICMPv6ND_NA].cksum
    assert Ether(bytes(fresh))[ICMPv6ND_NA].cksum == said.cksum


ALONE = [
    arp("192.0.2.2"),
    arp("192.0.2.1", op=2),
    bytes(arp("192.0.2.1"))[:30],
    solicit("2001:db8::2"),
    solicit("2001:db8::1", source="::"),
    bytes(solicit("2001:db8::1"))[:60],
]


@pytest.mark.parametrize("number", range(len(ALONE)))
def test_all_else_is_left_alone(bench: PacketBench, number: int) -> None:
    """Other addresses, answers, detection of duplicates, stumps."""
    assert bench.run("from_netdev", ALONE[number], ifindex=LO).verdict == OK


def test_another_device_is_another_link(bench: PacketBench) -> None:
    """The address is announced on one device."""
    answers(bench)[L2Key(ip_address("192.0.2.77"), LO + 1)] = L2Value(MAC)
    assert bench.run("from_netdev", arp("192.0.2.77"), ifindex=LO).verdict == OK
