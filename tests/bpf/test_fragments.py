"""Fragments follow the ports of the first one."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from axoneme.core.testing.packets import EGRESS, INGRESS, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])


def pieces(pod: Any, version: int, to: Any, dport: int = 53) -> list[Any]:
    """One datagram of 3,000 bytes in fragments, as the sender's kernel makes them."""
    layers = UDP(sport=1000, dport=dport) / Raw(b"y" * 3000)
    head = Ether(src=pod.mac, dst=pod.host_mac)
    if version == 4:
        packets = fragment((pod.frame(4, to, id=99) / layers)["IP"], 1400)
        return [head / p for p in packets]
    whole = IPv6(src=pod.ip6, dst=to.ip6) / IPv6ExtHdrFragment(id=99) / layers
    return [head / p for p in fragment6(whole, 1400)]


@FAMILIES
def test_later_fragments_follow_the_first(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A port rule lets all fragments of a datagram through, and they count for its flow."""
    closed.rule(a.identity, EGRESS, proto=17, port=53)
    closed.rule(b.identity, INGRESS, proto=17, port=53)
    parts = pieces(a, version, b)
    assert len(parts) >= 3
    for part in parts:
        done = closed.run("from_container", part, ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (REDIRECT, "")
    assert sum(closed.flow().packets) == len(parts)


@FAMILIES
def test_a_port_rule_holds_for_all_fragments(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Fragments of a datagram to a port that is not allowed are refused, each of them."""
    closed.rule(a.identity, EGRESS, proto=17, port=53)
    closed.rule(b.identity, INGRESS, proto=17, port=53)
    for part in pieces(a, version, b, dport=54):
        done = closed.run("from_container", part, ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_a_later_fragment_alone_is_dropped(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Before, or without, the first one nobody knows its ports."""
    later = pieces(a, version, b)[1]
    done = bench.run("from_container", later, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "FRAG_NOT_FOUND")


@FAMILIES
def test_fragments_of_two_senders_are_not_mixed_up(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The same identification from another address finds nothing."""
    bench.run("from_container", pieces(a, version, b)[0], ifindex=a.ifindex)
    done = bench.run("from_container", pieces(b, version, a)[1], ifindex=b.ifindex)
    assert done.drop == "FRAG_NOT_FOUND"


def test_a_fragment_header_without_fragments_is_no_fragment(
    bench: PacketBench, a: Any, b: Any
) -> None:
    """RFC 6946: an atomic fragment is judged by its own ports and leaves no trace."""
    sent = a.frame(6, b) / IPv6ExtHdrFragment(id=1) / UDP(sport=1, dport=53) / Raw(b"x")
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    assert list(bench.maps["axo_frag6"].items()) == []


def test_fragments_of_an_echo_follow_its_type(closed: PacketBench, a: Any, b: Any) -> None:
    """The ICMP type that a rule names is remembered too."""
    closed.rule(a.identity, EGRESS, proto=1, port=8)
    closed.rule(b.identity, INGRESS, proto=1, port=8)
    whole = (a.frame(4, b, id=7) / ICMP(type=8, id=3) / Raw(b"z" * 2500))["IP"]
    for part in fragment(whole, 1400):
        sent = Ether(src=a.mac, dst=a.host_mac) / part
        assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == REDIRECT


@FAMILIES
def test_a_forged_first_fragment_gives_no_ports_to_anybody(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """b claims a's address and identification: refused, and a's own fragments keep their ports."""
    first, later = pieces(a, version, b)[:2]
    forged = pieces(a, version, b, dport=6666)[0]
    assert bench.run("from_container", first, ifindex=a.ifindex).verdict == REDIRECT
    assert bench.run("from_container", forged, ifindex=b.ifindex).drop == "INVALID_SIP"
    assert bench.run("from_container", later, ifindex=a.ifindex).verdict == REDIRECT
    assert sum(bench.flow().packets) == 2
