"""Delivery between two pods of a node, to the node itself, and away from it."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from axoneme.core.testing.packets import OK, REDIRECT, SHOT, PacketBench

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
WORLD = {4: "198.51.100.1", 6: "2001:db8:51::1"}
ROUTER = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}


@FAMILIES
def test_a_neighbour_gets_the_packet_with_its_mac_and_one_hop_less(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The frame leaves with the receiver's MAC addresses, a smaller TTL and right checksums."""
    sent = a.frame(version, b, ttl=64) / TCP(sport=1000, dport=80, flags="S") / Raw(b"x" * 50)
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    got = Ether(done.data)
    assert (got.dst, got.src) == (b.mac, b.host_mac)
    layer = got[IP] if version == 4 else got[IPv6]
    assert (layer.ttl if version == 4 else layer.hlim) == 63
    fresh = Ether(bytes(sent))
    (fresh[IP] if version == 4 else fresh[IPv6]).__setattr__("ttl" if version == 4 else "hlim", 63)
    if version == 4:
        del fresh[IP].chksum
    assert bytes(fresh)[14:] == done.data[14:]


@FAMILIES
def test_a_packet_at_its_last_hop_goes_to_the_stack(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The stack answers with the ICMP error; the packet itself is not delivered nor changed."""
    sent = a.frame(version, b, ttl=1) / TCP(sport=1000, dport=80, flags="S")
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (OK, "")
    assert done.data == bytes(sent)


@FAMILIES
def test_the_nodes_own_address_goes_to_the_stack(bench: PacketBench, a: Any, version: int) -> None:
    """An address with the host flag is the stack's, unchanged, and its identity is host."""
    sent = a.tcp(version, ROUTER[version])
    done = bench.run("from_container", sent, ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (OK, "")
    assert done.data == bytes(sent)
    assert bench.events(4)[0].dst_identity == 1


@FAMILIES
def test_elsewhere_goes_to_the_stack_without_a_forwarding_plugin(
    bench: PacketBench, a: Any, version: int
) -> None:
    """Without tunnel or native routing the node's own routes decide."""
    done = bench.run("from_container", a.tcp(version, WORLD[version]), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (OK, "")
    [event] = bench.events(4)
    assert (event.reason, event.dst_identity) == (3, 9 if version == 4 else 10)


@FAMILIES
def test_the_stack_delivers_to_a_pod(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """What the node's stack sends out to a pod's device passes, untouched, as identity host."""
    sent = Ether(dst=b.mac) / (
        IP(src=ROUTER[4], dst=b.ip4) if version == 4 else IPv6(src=ROUTER[6], dst=b.ip6)
    )
    done = bench.run("to_container", sent / TCP(dport=80), ifindex=b.ifindex)
    assert (done.verdict, done.drop) == (OK, "")
    assert done.data == bytes(sent / TCP(dport=80))
    [event] = bench.events(5)
    assert (event.src_identity, event.dst_identity, event.dir) == (1, b.identity, 0)


@FAMILIES
def test_a_pods_packet_through_the_stack_keeps_its_identity(
    closed: PacketBench, a: Any, b: Any, version: int
) -> None:
    """The device that a packet came in on names its sender, whatever address it carries."""
    closed.rule(b.identity, 0, peer=a.identity)
    for source, verdict in ((a.ip(version), OK), (ROUTER[version], OK)):
        sent = a.frame(version, b, source=source) / TCP(dport=80)
        done = closed.run("to_container", sent, ifindex=b.ifindex, ingress_ifindex=a.ifindex)
        assert (done.verdict, done.drop) == (verdict, "")
        assert closed.events(5)[0].src_identity == a.identity


@FAMILIES
def test_a_pods_address_from_a_foreign_device_is_forged(
    bench: PacketBench, a: Any, b: Any, version: int
) -> None:
    """Neither a pod's nor the node's address may come in on a device that is not its own."""
    for source in (a.ip(version), ROUTER[version]):
        sent = a.frame(version, b, source=source) / TCP(dport=81)
        done = bench.run("to_container", sent, ifindex=b.ifindex, ingress_ifindex=1)
        assert (done.verdict, done.drop) == (SHOT, "INVALID_SIP")


def test_arp_between_pod_and_node_passes(bench: PacketBench, b: Any) -> None:
    """The node resolves its pod: ARP goes in, and what the responder leaves goes to the stack."""
    request = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc=ROUTER[4], pdst=b.ip4)
    assert bench.run("to_container", request, ifindex=b.ifindex).verdict == OK
    reply = Ether(src=b.mac, dst=b.host_mac) / ARP(op=2, psrc=b.ip4, pdst=ROUTER[4])
    assert bench.run("from_container", reply, ifindex=b.ifindex).verdict == OK


@FAMILIES
def test_a_pod_reaches_itself(bench: PacketBench, a: Any, version: int) -> None:
    """A packet to the own address comes back, through both policies."""
    done = bench.run("from_container", a.tcp(version, a.ip(version)), ifindex=a.ifindex)
    assert (done.verdict, done.drop) == (REDIRECT, "")
    assert Ether(done.data).dst == a.mac


@FAMILIES
def test_forwarded_packets_are_counted(bench: PacketBench, a: Any, b: Any, version: int) -> None:
    """Reason 0 counts what went on, with its bytes."""
    sent = bytes(a.tcp(version, b))
    before = {k: v for k, v in bench.metrics.items() if not k.reason}
    bench.run("from_container", sent, ifindex=a.ifindex)
    after = {k: v for k, v in bench.metrics.items() if not k.reason}
    packets = sum(v.packets for v in after.values()) - sum(v.packets for v in before.values())
    size = sum(v.bytes for v in after.values()) - sum(v.bytes for v in before.values())
    assert (packets, size) == (1, len(sent))
