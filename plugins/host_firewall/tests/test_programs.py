"""The node's own packets: policy, flows, and what may never be refused. Both families."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from axoneme.bpf import registration
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.datapath.typed import TypedMap
from axoneme.core.testing.packets import EGRESS, INGRESS, OK, Outcome, PacketBench
from axoneme.plugins.host_firewall import datapath
from axoneme.plugins.host_firewall.datapath import Guarded, GuardKey, GuardValue, encode

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
WORLDS = {4: 9, 6: 10}
HOST = 1
REMOTE_NODE = 6
POD_THERE = 2001
NODE = {4: "172.18.0.2", 6: "fd00:18::2"}
OTHER = {4: "172.18.0.3", 6: "fd00:18::3"}
AWAY = {4: "10.244.2.7", 6: "fd00:10:244:2::7"}
WORLD = {4: "203.0.113.9", 6: "2001:db8::9"}
PLUGINS = Path(__file__).parents[2]


def registry_of(*programs: str, skeleton: str) -> DatapathRegistry:
    """Programs of a file with policy and the host firewall."""
    registry = DatapathRegistry()
    for name in programs:
        registry.program(name, registration.PROGRAMS / skeleton, "tc")
    source = PLUGINS / "policy" / "policy.bpf.c"
    registry.stage("egress_policy", "policy_egress", source)
    registry.stage("ingress_policy", "policy_ingress", source)
    datapath.register(registry)
    registry.define("AXO_TUNNEL_PORT", 8472)
    return registry


@pytest.fixture(scope="module")
def netdev_bench(compile_cache: Path) -> Iterator[PacketBench]:
    """The programs of native devices."""
    registry = registry_of("from_netdev", "to_netdev", skeleton="netdev.bpf.c")
    with PacketBench(registry, unit="netdev", cache_dir=compile_cache) as bench:
        yield bench


@pytest.fixture
def net(netdev_bench: PacketBench) -> PacketBench:
    """This node, another one with a pod, the world; nothing is allowed yet."""
    bench = netdev_bench
    bench.reset()
    bench.runtime("POLICY_GEN", 1)
    bench.runtime("WORLD_V4", WORLDS[4])
    bench.runtime("WORLD_V6", WORLDS[6])
    fill_host(bench)
    for version, bits in ((4, 32), (6, 128)):
        bench.prefix(f"{NODE[version]}/{bits}", HOST)
        bench.prefix(f"{OTHER[version]}/{bits}", REMOTE_NODE, OTHER[version], 1)
        bench.prefix(f"{AWAY[version]}/{bits}", POD_THERE, OTHER[version])
    return bench


@pytest.fixture(scope="module")
def pods_bench(compile_cache: Path) -> Iterator[PacketBench]:
    """The programs of pods."""
    registry = registry_of("from_container", "to_container", skeleton="container.bpf.c")
    with PacketBench(registry, cache_dir=compile_cache) as bench:
        yield bench


def ip(version: int, source: str, target: str, **fields: Any) -> Packet:
    layer = IP if version == 4 else IPv6
    return Ether() / layer(src=source, dst=target, **fields)


def arrive(net: PacketBench, packet: Packet) -> Outcome:
    """A packet comes in from the network."""
    return net.run("from_netdev", packet, ifindex=1, ingress_ifindex=1)


def leave(net: PacketBench, packet: Packet, **fields: int) -> Outcome:
    """The node's stack sends a packet."""
    return net.run("to_netdev", packet, **{"ifindex": 1, **fields})


def tcp(version: int, source: str, target: str, flags: str = "S", **ports: int) -> Packet:
    segment = TCP(flags=flags, sport=ports.get("sport", 4000), dport=ports.get("dport", 22))
    return ip(version, source, target) / segment


@FAMILIES
def test_nothing_enforced_nothing_lost(net: PacketBench, version: int) -> None:
    """A default entry lets everything in and out, and ARP needs none."""
    net.rule(HOST, INGRESS)
    net.rule(HOST, EGRESS)
    assert arrive(net, tcp(version, WORLD[version], NODE[version])).drop == ""
    assert leave(net, tcp(version, NODE[version], WORLD[version])).drop == ""
    assert arrive(net, Ether() / ARP(pdst=NODE[4])).verdict == OK


@FAMILIES
def test_what_comes_in(net: PacketBench, version: int) -> None:
    """Port and sender count; a node, a pod elsewhere and the world are three senders."""
    net.rule(HOST, INGRESS, peer=REMOTE_NODE, proto=6, port=22)
    net.rule(HOST, INGRESS, peer=POD_THERE, proto=6, port=443)
    assert arrive(net, tcp(version, OTHER[version], NODE[version])).drop == ""
    assert arrive(net, tcp(version, OTHER[version], NODE[version], dport=443)).drop == "POLICY"
    assert arrive(net, tcp(version, WORLD[version], NODE[version])).drop == "POLICY"
    assert arrive(net, tcp(version, AWAY[version], NODE[version], dport=443)).drop == ""
    net.rule(HOST, INGRESS, peer=WORLDS[version], deny=True)
    assert arrive(net, tcp(version, WORLD[version], NODE[version])).drop == "POLICY_DENY"


@FAMILIES
def test_what_goes_out(net: PacketBench, version: int) -> None:
    """The node's own is judged; what it forwards, or another address sends, is not."""
    net.rule(HOST, EGRESS, peer=WORLDS[version], proto=6, port=22)
    assert leave(net, tcp(version, NODE[version], WORLD[version])).drop == ""
    assert leave(net, tcp(version, NODE[version], WORLD[version], dport=80)).drop == "POLICY"
    assert leave(net, tcp(version, NODE[version], OTHER[version])).drop == "POLICY"
    assert leave(net, tcp(version, AWAY[version], WORLD[version], dport=80)).drop == ""
    fields = {"ingress_ifindex": 1}
    forwarded = tcp(version, NODE[version], WORLD[version], dport=80)
    assert leave(net, forwarded, **fields).drop == ""
    answer = tcp(version, WORLD[version], NODE[version], "SA", sport=80, dport=4000)
    assert arrive(net, answer).drop == "", "what netfilter gave the node's address gets its answer"


@FAMILIES
def test_answers_need_no_rule(net: PacketBench, version: int) -> None:
    """In both directions, for TCP, UDP and echo; the other direction's questions do."""
    net.rule(HOST, EGRESS, peer=WORLDS[version])
    node, world = NODE[version], WORLD[version]
    assert arrive(net, tcp(version, world, node, "SA", sport=22, dport=4000)).drop == "POLICY"
    assert leave(net, tcp(version, node, world)).drop == ""
    assert arrive(net, tcp(version, world, node, "SA", sport=22, dport=4000)).drop == ""
    assert arrive(net, tcp(version, world, node, sport=22, dport=4001)).drop == "POLICY"
    question = ip(version, node, world) / UDP(sport=5000, dport=53) / Raw(b"q")
    assert leave(net, question).drop == ""
    answer = ip(version, world, node) / UDP(sport=53, dport=5000) / Raw(b"a")
    assert arrive(net, answer).drop == ""
    assert arrive(net, ip(version, world, node) / UDP(sport=53, dport=5001)).drop == "POLICY"
    echo: tuple[Packet, Packet]
    if version == 4:
        echo = ICMP(type=8, id=7), ICMP(type=0, id=7)
    else:
        echo = ICMPv6EchoRequest(id=7), ICMPv6EchoRequest(id=7, type=129)
    assert arrive(net, ip(version, world, node) / echo[1]).drop == "POLICY"
    assert leave(net, ip(version, node, world) / echo[0]).drop == ""
    assert arrive(net, ip(version, world, node) / echo[1]).drop == ""
    assert arrive(net, ip(version, world, node) / echo[0]).drop == "POLICY"


@FAMILIES
def test_a_changed_policy_ends_flows(net: PacketBench, version: int) -> None:
    """The next packet of the side that opened is asked for again; refused, the answers end too."""
    node, world = NODE[version], WORLD[version]
    net.rule(HOST, INGRESS, peer=WORLDS[version], proto=6, port=22)
    assert arrive(net, tcp(version, world, node)).drop == ""
    assert leave(net, tcp(version, node, world, "SA", sport=22, dport=4000)).drop == ""
    net.rule(HOST, INGRESS, peer=WORLDS[version], proto=6, port=22, deny=True)
    assert arrive(net, tcp(version, world, node, "A")).drop == "", "until the generation moves"
    net.runtime("POLICY_GEN", 2)
    assert arrive(net, tcp(version, world, node, "A")).drop == "POLICY_DENY"
    assert leave(net, tcp(version, node, world, "A", sport=22, dport=4000)).drop == "POLICY"


@FAMILIES
def test_a_closed_flow_says_nothing(net: PacketBench, version: int) -> None:
    """A new SYN between the same ports is a new question."""
    node, world = NODE[version], WORLD[version]
    net.rule(HOST, INGRESS, peer=WORLDS[version])
    assert arrive(net, tcp(version, world, node)).drop == ""
    assert arrive(net, tcp(version, world, node, "R")).drop == ""
    assert leave(net, tcp(version, node, world, "S", sport=22, dport=4000)).drop == "POLICY"


@FAMILIES
def test_errors_follow_the_flow_that_they_quote(net: PacketBench, version: int) -> None:
    """From anybody, to the sender of what is quoted; others need a rule."""
    node, world = NODE[version], WORLD[version]
    net.rule(HOST, EGRESS, peer=WORLDS[version])

    def error(sender: str, receiver: str, quoted: Packet) -> Packet:
        inner = bytes(quoted)[14:]
        kind = ICMP(type=3, code=1) if version == 4 else ICMPv6DestUnreach(code=3)
        return ip(version, sender, receiver) / kind / Raw(inner)

    sent = ip(version, node, world) / UDP(sport=5000, dport=53) / Raw(b"12345678")
    assert arrive(net, error(OTHER[version], node, sent)).drop == "POLICY"
    assert leave(net, sent).drop == ""
    assert arrive(net, error(OTHER[version], node, sent)).drop == ""
    other = ip(version, node, world) / UDP(sport=5001, dport=53) / Raw(b"12345678")
    assert arrive(net, error(OTHER[version], node, other)).drop == "POLICY"
    # as a router the node speaks about packets of others, as an end about its own flows alone
    for key in list(dict(net.subject(HOST).items())):
        net.subject(HOST).delete(key)
    passing = ip(version, world, AWAY[version]) / UDP(sport=1, dport=2) / Raw(b"12345678")
    assert leave(net, error(node, world, passing)).drop == ""
    probe = ip(version, world, node) / UDP(sport=1, dport=2) / Raw(b"12345678")
    assert leave(net, error(node, world, probe)).drop == "POLICY"


@FAMILIES
def test_what_keeps_the_link_up_needs_no_rule(net: PacketBench, version: int) -> None:
    """Neighbours, leases and groups."""
    if version == 6:
        asks = ip(6, OTHER[6], NODE[6], hlim=255) / ICMPv6ND_NS(tgt=NODE[6])
        assert arrive(net, asks).drop == ""
        assert leave(net, ip(6, NODE[6], OTHER[6], hlim=255) / ICMPv6ND_NS(tgt=OTHER[6])).drop == ""
        lease = ip(6, "fe80::1", "fe80::2") / UDP(sport=547, dport=546) / Raw(b"x")
    else:
        lease = ip(4, OTHER[4], NODE[4]) / UDP(sport=67, dport=68) / BOOTP()
    assert arrive(net, lease).drop == ""
    group = "224.0.0.251" if version == 4 else "ff02::fb"
    assert arrive(net, ip(version, OTHER[version], group) / UDP(sport=5353, dport=5353)).drop == ""


def test_link_local_senders_meet_policy(net: PacketBench) -> None:
    """Whoever is on the link is the world, and gets no further than that."""
    knock = tcp(6, "fe80::1", "fe80::2")
    assert arrive(net, knock).drop == "POLICY"
    net.rule(HOST, INGRESS, peer=10, proto=6, port=22)
    assert arrive(net, knock).drop == ""


def test_what_nobody_can_read_meets_the_rules_for_everything(net: PacketBench) -> None:
    """Behind more extension headers than the programs follow, no port rule helps."""
    packet = ip(6, WORLD[6], NODE[6]) / IPv6ExtHdrHopByHop()
    for _ in range(12):
        packet = packet / IPv6ExtHdrDestOpt()
    packet = packet / TCP(dport=22)
    net.rule(HOST, INGRESS, peer=10, proto=6, port=22)
    assert arrive(net, packet).drop == "POLICY"
    net.rule(HOST, INGRESS, peer=10)
    assert arrive(net, packet).drop == ""


@FAMILIES
def test_the_way_to_the_api_servers_stays_open(net: PacketBench, version: int) -> None:
    """Its port alone, its answers too, and nobody else at that address."""
    server = WORLD[version]
    key, value = encode(Guarded(ip_address(server), 6443))
    TypedMap(net.maps["axo_host_guard"], GuardKey, GuardValue)[key] = value
    assert leave(net, tcp(version, NODE[version], server, dport=6443)).drop == ""
    answer = tcp(version, server, NODE[version], "SA", sport=6443, dport=4000)
    assert arrive(net, answer).drop == ""
    assert leave(net, tcp(version, NODE[version], server, dport=22)).drop == "POLICY"
    assert arrive(net, tcp(version, server, NODE[version], sport=6443, dport=22)).drop == "POLICY"


@FAMILIES
def test_tunnels_between_nodes_and_own_proxies_stay_open(net: PacketBench, version: int) -> None:
    """From nodes alone; a proxy's mark is the kernel's, never on the wire."""
    tunnel = UDP(sport=1, dport=8472)
    outer = {4: OTHER[4], 6: OTHER[6]}[version]
    assert arrive(net, ip(version, outer, NODE[version]) / tunnel).drop == ""
    assert arrive(net, ip(version, WORLD[version], NODE[version]) / tunnel).drop == "POLICY"
    asks = ip(version, NODE[version], WORLD[version]) / UDP(sport=9, dport=53)
    assert leave(net, asks).drop == "POLICY"
    assert leave(net, asks, mark=0xB00).drop == ""


def test_a_node_without_its_policy_is_not_locked(net: PacketBench) -> None:
    """A map that is not there refuses pods, not the node: somebody has to repair it."""
    net.maps["axo_policy"].delete(struct.pack("=I", HOST))
    assert arrive(net, tcp(4, WORLD[4], NODE[4])).drop == ""


@FAMILIES
def test_pods_and_their_node(
    pods_bench: PacketBench, populate: Callable[..., PacketBench], a: Any, b: Any, version: int
) -> None:
    """A pod reaches the node if both policies say so, and the other way round; answers pass."""
    populate(pods_bench, a, b)
    fill_host(pods_bench)
    node, pod = NODE[version], a.ip(version)
    pods_bench.rule(a.identity, EGRESS)
    pods_bench.rule(a.identity, INGRESS)
    knock = a.tcp(version, node, dport=22)
    sent = {"ifindex": a.ifindex}
    assert pods_bench.run("from_container", knock, **sent).drop == "POLICY"
    pods_bench.rule(HOST, INGRESS, peer=a.identity, proto=6, port=22)
    assert pods_bench.run("from_container", knock, **sent).drop == ""
    answer = tcp(version, node, pod, "SA", sport=22, dport=1000)
    assert pods_bench.run("to_container", answer, **sent).drop == ""
    probe = tcp(version, node, pod, sport=7, dport=80)
    assert pods_bench.run("to_container", probe, **sent).drop == "POLICY"
    pods_bench.rule(HOST, EGRESS, peer=a.identity)
    assert pods_bench.run("to_container", probe, **sent).drop == ""
    reply = a.tcp(version, node, "SA", sport=80, dport=7)
    assert pods_bench.run("from_container", reply, **sent).drop == ""
    if version == 6:
        local = a.tcp(6, "fe80::1", dport=22)
        pods_bench.rule(HOST, INGRESS, peer=a.identity, deny=True, proto=6, port=22)
        assert pods_bench.run("from_container", local, **sent).drop == "POLICY_DENY"


def fill_host(bench: PacketBench) -> None:
    """This node beside the pods."""
    bench.endpoint(0, 0, HOST, *NODE.values(), flags=1)
    bench.subject(HOST)


@FAMILIES
def test_audit_mode_of_the_node_itself(net: PacketBench, version: int) -> None:
    """What is refused is told with verdict 2, and passes."""
    audited = struct.pack("=I", 0xFFFFFFFF)
    net.maps["axo_policy_audit"].update(audited, struct.pack("=I", 1))
    assert arrive(net, tcp(version, WORLD[version], NODE[version])).drop == ""
    assert [(e.verdict, e.reason) for e in net.events(5)] == [(2, 133)]
