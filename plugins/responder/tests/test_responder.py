"""Neighbour requests of pods are answered by the program."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.inet6 import ICMPv6NDOptSrcLLAddr as SourceMac
from scapy.layers.l2 import ARP, Ether

from axoneme.core.testing.packets import OK, REDIRECT, PacketBench

pytestmark = pytest.mark.root
BROADCAST = "ff:ff:ff:ff:ff:ff"


def arp(pod: Any, target: str, source: str = "", op: int = 1) -> Any:
    """What the pod's kernel asks."""
    return Ether(src=pod.mac, dst=BROADCAST) / ARP(
        op=op, hwsrc=pod.mac, psrc=source or pod.ip4, pdst=target
    )


def solicitation(pod: Any, target: str, source: str = "", *, option: bool = True) -> Any:
    """The same for IPv6."""
    head = Ether(src=pod.mac, dst="33:33:ff:00:00:01")
    message = head / IPv6(src=source or pod.ip6, dst=target, hlim=255) / ICMPv6ND_NS(tgt=target)
    return message / SourceMac(lladdr=pod.mac) if option else message


@pytest.mark.parametrize("target", ["10.244.1.1", "10.244.1.12", "169.254.1.1"])
def test_arp_for_any_other_address_is_answered(bench: PacketBench, a: Any, target: str) -> None:
    """The answer names the host's end of the veth pair, back to who asked."""
    done = bench.run("from_container", arp(a, target), ifindex=a.ifindex)
    assert done.verdict == REDIRECT
    answer = Ether(done.data)
    assert (answer.dst, answer.src) == (a.mac, a.host_mac)
    assert (answer[ARP].op, answer[ARP].hwsrc, answer[ARP].psrc) == (2, a.host_mac, target)
    assert (answer[ARP].hwdst, answer[ARP].pdst) == (a.mac, a.ip4)
    assert len(done.data) == 42


def test_arp_for_the_own_address_is_not_answered(bench: PacketBench, a: Any) -> None:
    """Conflict detection and announcements: nobody else has the address."""
    for request in (arp(a, a.ip4, "0.0.0.0"), arp(a, a.ip4), arp(a, "10.9.9.9", op=2)):
        done = bench.run("from_container", request, ifindex=a.ifindex)
        assert (done.verdict, done.data) == (OK, bytes(request))


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("target", ["fd00:10:244:1::1", "fe80::1", "fd00:10:244:1::12"])
def test_a_solicitation_is_answered(bench: PacketBench, a: Any, target: str, option: bool) -> None:
    """Router, solicited, override; the host's MAC as option; a right checksum."""
    request = solicitation(a, target, option=option)
    done = bench.run("from_container", request, ifindex=a.ifindex)
    assert done.verdict == REDIRECT
    answer = Ether(done.data)
    assert (answer.dst, answer.src) == (a.mac, a.host_mac)
    assert (answer[IPv6].src, answer[IPv6].dst, answer[IPv6].hlim) == (target, a.ip6, 255)
    body = answer[ICMPv6ND_NA]
    assert (body.R, body.S, body.O, body.tgt) == (1, 1, 1, target)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == a.host_mac
    checksum = body.cksum
    fresh = Ether(done.data)
    del fresh[ICMPv6ND_NA].cksum
    assert Ether(bytes(fresh))[ICMPv6ND_NA].cksum == checksum


def test_duplicate_address_detection_is_not_answered(bench: PacketBench, a: Any) -> None:
    """From the unspecified address, and for the own address from anywhere; it goes to a group."""
    for request in (
        solicitation(a, a.ip6, "::", option=False),
        solicitation(a, "fe80::b", "::", option=False),
        solicitation(a, a.ip6),
    ):
        request[IPv6].dst = "ff02::1:ff00:11"
        done = bench.run("from_container", request, ifindex=a.ifindex)
        assert (done.verdict, done.data) == (OK, bytes(request))


def test_a_solicitation_through_a_router_is_not_answered(bench: PacketBench, a: Any) -> None:
    """RFC 4861: a hop limit below 255 is forged, or from afar."""
    request = solicitation(a, "fd00:10:244:1::1")
    request[IPv6].hlim = 254
    done = bench.run("from_container", request, ifindex=a.ifindex)
    assert done.drop == "FORBIDDEN_ICMP6"
