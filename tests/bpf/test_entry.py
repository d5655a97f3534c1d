"""The gates of the packet path: what no policy may ever be asked about, both families."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import EGRESS, OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root

FAMILIES = pytest.mark.parametrize("version", [4, 6])
ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
WORLD_ID = {4: 9, 6: 10}
TAGGED = 4
"""Word of ``cb`` that stands for ``vlan_present``: a test run cannot set the real one."""


def untaggable(text: str) -> str:
    """The programs, with the VLAN tag where a test can put it."""
    assert text.count("skb->vlan_present")
    return text.replace("skb->vlan_present", f"skb->cb[{TAGGED}]")


TAG = (0, 0, 0, 0, 1)


@pytest.fixture(scope="module")
def netdev(compile_cache: Path) -> Iterator[PacketBench]:
    """The programs of a native device."""
    registry = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    with PacketBench(registry, unit="netdev", cache_dir=compile_cache, edit=untaggable) as loaded:
        yield loaded


@pytest.fixture
def device(
    netdev: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any
) -> PacketBench:
    """Two pods and the router behind the device."""
    return populate(netdev, a, b)


@pytest.fixture(scope="module")
def taggable(compile_cache: Path, packet_registry: DatapathRegistry) -> Iterator[PacketBench]:
    """The container programs, with a tag that can be set."""
    with PacketBench(packet_registry, cache_dir=compile_cache, edit=untaggable) as loaded:
        yield loaded


def from_outside(version: int, source: str, to: Any) -> Any:
    """A datagram from the network."""
    head = Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01")
    ip: Any = IP if version == 4 else IPv6
    return head / ip(src=source, dst=to if isinstance(to, str) else to.ip(version)) / UDP()


# VLAN tags


@FAMILIES
def test_a_pods_tagged_frame_is_dropped(
    taggable: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """The tag would leave with the packet; and a tagged ARP is no ARP either."""
    populate(taggable, a, b).rule(a.identity, EGRESS)
    arp = Ether(src=a.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=a.ip4, pdst="10.0.0.1")
    for packet in (a.udp(version, WORLD[version]), a.udp(version, b), arp):
        done = taggable.run("from_container", packet, ifindex=a.ifindex, cb=TAG)
        assert (done.verdict, done.drop) == (SHOT, "VLAN_FILTERED")


@FAMILIES
def test_another_vlans_frames_are_left_alone(device: PacketBench, a: Any, version: int) -> None:
    """A tagged frame for a pod is not delivered: it goes to the stack as it is."""
    packet = from_outside(version, WORLD[version], a)
    done = device.run("from_netdev", packet, ifindex=a.ifindex)
    assert done.verdict == REDIRECT
    tagged = device.run("from_netdev", packet, ifindex=a.ifindex, cb=TAG)
    assert (tagged.verdict, tagged.data) == (OK, bytes(packet))


def test_a_tagged_frame_leaves_unexamined(device: PacketBench, a: Any) -> None:
    """The VLAN's own device has judged it; here even a broken one passes."""
    broken = bytes(a.frame(4, "198.51.100.1", proto=6) / Raw(b"x" * 13))
    assert device.run("to_netdev", broken, ifindex=a.ifindex).drop == "CT_INVALID_HDR"
    assert device.run("to_netdev", broken, ifindex=a.ifindex, cb=TAG).verdict == OK


# Senders that cannot be

IMPOSSIBLE = [
    (4, "127.0.0.1"), (4, "127.9.9.9"), (4, "0.0.0.0"), (4, "0.1.2.3"), (4, "224.0.0.1"),
    (4, "239.1.1.1"), (4, "240.0.0.1"), (4, "255.255.255.255"),
    (6, "::"), (6, "::1"), (6, "ff02::1"), (6, "ff0e::1"), (6, "fe80::9"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "source"), IMPOSSIBLE)
def test_nobody_speaks_from_an_impossible_address(
    device: PacketBench, a: Any, version: int, source: str
) -> None:
    """Dropped before conntrack when a pod would get it; the node's own traffic passes."""
    done = device.run("from_netdev", from_outside(version, source, a), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (SHOT, "INVALID_SIP")
    assert not list(device.flows())
    to_node = from_outside(version, source, ROUTER[version])
    assert device.run("from_netdev", to_node, ifindex=a.ifindex).verdict == OK


@pytest.mark.parametrize(
    ("version", "source"),
    [(4, "1.0.0.1"), (4, "126.0.0.1"), (4, "128.0.0.1"), (4, "223.255.255.254"),
     (4, "169.254.169.254"), (6, "::2"), (6, "fe00::1"), (6, "fd00::1")],
)  # fmt: skip
def test_their_neighbours_may_speak(device: PacketBench, a: Any, version: int, source: str) -> None:
    """The edges of the forbidden ranges."""
    packet = from_outside(version, source, a)
    assert device.run("from_netdev", packet, ifindex=a.ifindex).verdict == REDIRECT


# Broadcast and multicast

GROUPS = [
    (4, "255.255.255.255"), (4, "224.0.0.1"), (4, "224.0.0.251"),
    (6, "ff01::1"), (6, "ff02::1"), (6, "ff02::fb"), (6, "ff12::1"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "group"), GROUPS)
def test_a_group_on_the_link_is_the_node(
    closed: PacketBench, a: Any, version: int, group: str
) -> None:
    """Only the node listens there: leave to talk to the world does not reach it."""
    packet = a.udp(version, group, dport=9999)
    for identity in (2, 9, 10):
        closed.rule(a.identity, EGRESS, peer=identity)
    assert closed.run("from_container", packet, ifindex=a.ifindex).drop == "POLICY"
    closed.rule(a.identity, EGRESS, peer=1)
    assert closed.run("from_container", packet, ifindex=a.ifindex).verdict == OK


@pytest.mark.parametrize(
    ("version", "group"), [(4, "224.0.1.1"), (4, "239.1.1.1"), (6, "ff05::1"), (6, "ff0e::1")]
)
def test_a_wider_group_is_the_world(closed: PacketBench, a: Any, version: int, group: str) -> None:
    """A multicast router may carry it on."""
    packet = a.udp(version, group, dport=9999)
    closed.rule(a.identity, EGRESS, peer=1)
    assert closed.run("from_container", packet, ifindex=a.ifindex).drop == "POLICY"
    closed.rule(a.identity, EGRESS, peer=WORLD_ID[version])
    assert closed.run("from_container", packet, ifindex=a.ifindex).verdict == OK


# Neighbour discovery


def na(pod: Any, to: str) -> Any:
    """An advertisement with something in it."""
    return pod.frame(6, to, ttl=255) / ICMPv6ND_NA(tgt=pod.ip6) / Raw(b"secret")


@pytest.mark.parametrize("to", ["fd00:10:244:2::9", "fd00:10:244:1::12", "2001:db8:51::1"])
def test_neighbour_discovery_goes_no_further_than_the_node(
    closed: PacketBench, a: Any, b: Any, to: str
) -> None:
    """To a pod here, a pod there or the world, it would be forwarded past all policy."""
    for packet in (
        na(a, to),
        a.frame(6, to, ttl=255) / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt=to),
        a.frame(6, to, ttl=1) / ICMPv6MLReport2(),
    ):
        done = closed.run("from_container", packet, ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (SHOT, "FORBIDDEN_ICMP6")


@pytest.mark.parametrize("to", ["fd00:10:244:1::1", "fe80::1", "ff02::1"])
def test_neighbour_discovery_with_the_node_needs_no_policy(
    closed: PacketBench, a: Any, to: str
) -> None:
    """Its addresses, the link's and the link's groups."""
    assert closed.run("from_container", na(a, to), ifindex=a.ifindex).verdict == OK


def test_nothing_fills_the_nodes_neighbour_table(closed: PacketBench, a: Any) -> None:
    """Router solicitations have no answer; a hidden solicitation would pass by the responder."""
    target = ROUTER[6]
    for packet in (
        a.frame(6, "ff02::2", source="fe80::bad:1", ttl=255) / ICMPv6ND_RS(),
        a.frame(6, "ff02::2", ttl=255) / ICMPv6ND_RS(),
        a.frame(6, target, ttl=255) / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt=target),
    ):
        done = closed.run("from_container", packet, ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (SHOT, "FORBIDDEN_ICMP6")


@FAMILIES
def test_the_gates_leave_ordinary_packets_alone(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A connection between two pods."""
    assert bench.run("from_container", a.tcp(version, b), ifindex=a.ifindex).verdict == REDIRECT
    assert bench.run("from_container", a.tcp(version, WORLD[version]), ifindex=a.ifindex).drop == ""
