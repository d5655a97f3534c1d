"""ICMP errors follow the flow that they quote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from axoneme.core.datapath.registry import DatapathRegistry
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
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (OK, "")


@FAMILIES
def test_an_error_about_nothing_is_refused(closed: PacketBench, a: Any, version: int) -> None:
    """An error that quotes a packet which the pod never sent meets policy."""
    sent = a.udp(version, WORLD[version])
    error = a.frame(version, a).copy()
    error.remove_payload()
    error = error / unreachable(version, HOP[version], a.ip(version), quote(sent, version))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=1)
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
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (OK, "")


def too_big(a: Any, version: int) -> Any:
    """Fragmentation needed, or packet too big, about a packet of no known flow of ``a``."""
    quoted = quote(a.frame(version, WORLD[version]) / UDP() / Raw(b"x" * 60), version)
    error = a.frame(version, a).copy()
    error.remove_payload()
    if version == 4:
        error = error / IP(src=HOP[4], dst=a.ip4) / ICMP(type=3, code=4, nexthopmtu=1400)
    else:
        error = error / IPv6(src=HOP[6], dst=a.ip6) / ICMPv6PacketTooBig(mtu=1400)
    return error / Raw(quoted)


@FAMILIES
def test_path_mtu_discovery_works_whatever_rules_say(
    closed: PacketBench, a: Any, version: int
) -> None:
    """Packet too big passes (allow-icmp-frag-needed)."""
    sent = too_big(a, version)
    done = closed.run("to_container", sent, ifindex=a.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (OK, "")


@FAMILIES
def test_path_mtu_discovery_is_left_to_rules_where_asked(
    compile_cache: Path,
    packet_registry: DatapathRegistry,
    populate: Callable[..., PacketBench],
    a: Any,
    b: Any,
    version: int,
) -> None:
    """Without allow-icmp-frag-needed it passes by a rule alone."""
    registry = packet_registry.copy()
    registry.define("AXO_POLICY_ALLOW_FRAG_NEEDED", 0)
    with PacketBench(registry, cache_dir=compile_cache) as strict:
        populate(strict, a, b)
        run = {"ifindex": a.ifindex, "ingress_ifindex": 1}
        assert strict.run("to_container", too_big(a, version), **run).drop == "POLICY"
        strict.rule(a.identity, INGRESS, proto=1 if version == 4 else 58)
        assert strict.run("to_container", too_big(a, version), **run).verdict == OK


@FAMILIES
def test_errors_leave_no_flow(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """An error that policy allows opens nothing."""
    sent = b.udp(version, a)
    error = a.frame(version, b).copy()
    error.remove_payload()
    error = error / unreachable(version, a.ip(version), b.ip(version), quote(sent, version))
    assert bench.run("from_container", error, ifindex=a.ifindex).verdict == REDIRECT
    assert list(bench.flows()) == []


def error_from(pod: Any, version: int, source: str, target: str, quoted: bytes) -> Any:
    """Port unreachable in a frame of a pod, with the addresses that it claims."""
    return Ether(src=pod.mac, dst=pod.host_mac) / unreachable(version, source, target, quoted)


@FAMILIES
def test_a_quote_opens_no_way_to_anybody_else(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """An error about a packet of b goes to b; to the world it is what policy says."""
    closed.rule(a.identity, EGRESS, peer=b.identity, proto=17, port=53)
    closed.rule(b.identity, INGRESS, peer=a.identity, proto=17, port=53)
    assert closed.run("from_container", a.udp(version, b), ifindex=a.ifindex).verdict == REDIRECT
    quoted = quote(b.udp(version, a, sport=53, dport=1000), version)
    error = error_from(a, version, a.ip(version), WORLD[version], quoted)
    done = closed.run("from_container", error, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_a_quote_of_a_neighbours_flow_opens_nothing(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The world cannot reach b with an error about what a has sent."""
    closed.rule(a.identity, EGRESS)
    sent = a.udp(version, WORLD[version])
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    error = error_from(b, version, WORLD[version], b.ip(version), quote(sent, version))
    done = closed.run("to_container", error, ifindex=b.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


@FAMILIES
def test_an_error_is_not_related_to_a_former_endpoints_flow(
    closed: PacketBench, a: Any, version: int
) -> None:
    """The pod that has the address now did not send what is quoted."""
    closed.rule(a.identity, EGRESS)
    sent = a.udp(version, WORLD[version])
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    closed.endpoint(99, a.ifindex, 1099, a.ip4, a.ip6)
    closed.subject(1099)
    error = error_from(a, version, HOP[version], a.ip(version), quote(sent, version))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=98)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


def test_a_redirect_is_never_related(closed: PacketBench, a: Any) -> None:
    """It would change the pod's routes."""
    closed.rule(a.identity, EGRESS)
    sent = a.udp(4, WORLD[4])
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    head = Ether(src=a.mac, dst=a.host_mac) / IP(src=HOP[4], dst=a.ip4)
    error = head / ICMP(type=5, code=1, gw="192.0.2.9") / Raw(quote(sent, 4))
    done = closed.run("to_container", error, ifindex=a.ifindex, ingress_ifindex=1)
    assert (done.verdict, done.drop) == (SHOT, "POLICY")


def error_fragments(version: int, target: str, quoted: bytes) -> list[Any]:
    """Port unreachable in two fragments."""
    message = (quoted + b"z" * 64)[:64]
    if version == 4:
        first = IP(src=HOP[4], dst=target, id=9, flags="MF") / ICMP(type=3, code=3) / Raw(message)
        later = IP(src=HOP[4], dst=target, id=9, frag=9, proto=1) / Raw(b"z" * 32)
        return [Ether() / first, Ether() / later]
    head = IPv6(src=HOP[6], dst=target)
    first = head / IPv6ExtHdrFragment(id=9, m=1, nh=58) / ICMPv6DestUnreach(code=4) / Raw(message)
    later = head / IPv6ExtHdrFragment(id=9, offset=9, nh=58) / Raw(b"z" * 32)
    return [Ether() / first, Ether() / later]


@FAMILIES
def test_later_fragments_of_an_error_follow_its_first(
    closed: PacketBench, a: Any, version: int
) -> None:
    """They quote nothing themselves; what was not related stays refused, and nothing is opened."""
    closed.rule(a.identity, EGRESS, proto=17)
    sent = a.udp(version, WORLD[version])
    pieces = error_fragments(version, a.ip(version), quote(sent, version))
    for piece in pieces:
        done = closed.run("to_container", piece, ifindex=a.ifindex, ingress_ifindex=1)
        assert (done.verdict, done.drop) == (SHOT, "POLICY")
    assert closed.run("from_container", sent, ifindex=a.ifindex).verdict == OK
    for piece in pieces:
        done = closed.run("to_container", piece, ifindex=a.ifindex, ingress_ifindex=1)
        assert (done.verdict, done.drop) == (OK, "")
    assert len(list(closed.flows())) == 1
