"""ICMP errors follow the flow that they quote."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Raw

from axoneme.core.testing.packets import EGRESS, INGRESS, OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
HOP = {4: "192.0.2.1", 6: "2001:db8:2::1"}


def quote(packet: Any, version: int) -> bytes:
    """What an error message quotes: the IP packet, cut."""
    return bytes(packet[IP] if version == 4 else packet[IPv6])[:68]


def unreachable(version: int, source: str, target: str, quoted: bytes) -> Any:
    """Port unreachable."""
    if version == 4:
        return IP(src=source, dst=target) / ICMP(type=3, code=3) / Raw(quoted)
    return IPv6(src=source, dst=target) / ICMPv6DestUnreach(code=4) / Raw(quoted)


@FAMILIES
def test_an_error_about_an_own_packet_comes_back(closed: PacketBench, a: Any, version: int) -> None:
    """From any router on the way, without a rule for it."""
    closed.rule(a.identity, EGRESS, proto=17, port=53)
    sent = a.udp(version, WORLD[version])
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    closed.events()
    error = a.frame(version, a).copy()
    error.remove_payload()
    error = error / unreachable(version, HOP[version], a.ip(version), quote(sent, version))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=99)
    assert (done.verdict, done.drop) == (OK, "")


@FAMILIES
def test_an_error_about_nothing_is_refused(closed: PacketBench, a: Any, version: int) -> None:
    """An error that quotes a packet which the pod never sent meets policy."""
    sent = a.udp(version, WORLD[version])
    error = a.frame(version, a).copy()
    error.remove_payload()
    error = error / unreachable(version, HOP[version], a.ip(version), quote(sent, version))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=99)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_a_pod_may_refuse_what_it_was_sent(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Port unreachable from the receiver goes back to the sender without rules for it."""
    closed.rule(a.identity, EGRESS, peer=b.identity)
    closed.rule(b.identity, INGRESS, peer=a.identity)
    sent = a.udp(version, b)
    delivered = closed.run("from_container", sent, ifindex=a.ifindex)
    assert delivered.verdict == REDIRECT
    error = b.frame(version, a).copy()
    error.remove_payload()
    error = error / unreachable(version, b.ip(version), a.ip(version), delivered.data[14:82])
    done = closed.run("from_container", error, ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")


@FAMILIES
def test_an_error_does_not_smuggle_past_the_other_end(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """b never accepted a's packet: its error about it is not related, for b's egress policy."""
    closed.rule(a.identity, EGRESS)
    sent = a.udp(version, b)
    assert closed.run("from_container", sent, ifindex=a.ifindex).drop == "POLICY"
    error = b.frame(version, a).copy()
    error.remove_payload()
    error = error / unreachable(version, b.ip(version), a.ip(version), quote(sent, version))
    done = closed.run("from_container", error, ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_an_error_about_an_echo_comes_back(closed: PacketBench, a: Any, version: int) -> None:
    """Time exceeded for an echo request: traceroute works."""
    kind, proto = (8, 1) if version == 4 else (128, 58)
    closed.rule(a.identity, EGRESS, proto=proto, port=kind)
    layer = ICMP(type=8, id=5) if version == 4 else ICMPv6EchoRequest(id=5)
    sent = a.frame(version, WORLD[version]) / layer
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    error = a.frame(version, a).copy()
    error.remove_payload()
    if version == 4:
        error = error / IP(src=HOP[4], dst=a.ip4) / ICMP(type=11) / Raw(quote(sent, 4))
    else:
        error = error / IPv6(src=HOP[6], dst=a.ip6) / ICMPv6TimeExceeded() / Raw(quote(sent, 6))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=99)
    assert (done.verdict, done.drop) == (OK, "")


@FAMILIES
def test_path_mtu_discovery_always_works(closed: PacketBench, a: Any, version: int) -> None:
    """Packet too big passes whatever the rules say (allow-icmp-frag-needed)."""
    quoted = quote(a.frame(version, WORLD[version]) / UDP() / Raw(b"x" * 60), version)
    error = a.frame(version, a).copy()
    error.remove_payload()
    if version == 4:
        error = error / IP(src=HOP[4], dst=a.ip4) / ICMP(type=3, code=4, nexthopmtu=1400)
    else:
        error = error / IPv6(src=HOP[6], dst=a.ip6) / ICMPv6PacketTooBig(mtu=1400)
    done = closed.run("to_container", error / Raw(quoted), ifindex=a.ifindex, ingress_ifindex=99)
    assert (done.verdict, done.drop) == (OK, "")


@FAMILIES
def test_errors_leave_no_flow(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """An error that policy allows opens nothing."""
    sent = b.udp(version, a)
    error = a.frame(version, b).copy()
    error.remove_payload()
    error = error / unreachable(version, a.ip(version), b.ip(version), quote(sent, version))
    assert bench.run("from_container", error, ifindex=a.ifindex).verdict == REDIRECT
    assert list(bench.flows()) == []
