"""Packets into and out of the tunnel, both families inside, both families outside."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6MLReport2, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath import testrun
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packets import OK, REDIRECT, SHOT, PacketBench
from axoneme.plugins.tunnel.datapath import SOURCE, STAGES

pytestmark = pytest.mark.root

FAMILIES = ("4", "6")
POD = {"4": "10.244.1.5", "6": "fd00:10:244:1::5"}
ROUTER = {"4": "10.244.1.1", "6": "fd00:10:244:1::1"}
REMOTE = {"4": "10.244.2.9", "6": "fd00:10:244:2::9"}
REMOTE_NODE = {"4": "172.18.0.3", "6": "fd00:18::3"}
WORLD = {"4": "198.51.100.1", "6": "2001:db8:51::1"}
BITS = {"4": 32, "6": 128}
LO = 1
DEVICE = 77
MTU = 1450


@pytest.fixture(scope="module")
def loaded() -> Iterator[PacketBench]:
    """The real programs around a tunnel key that tests can see."""
    registry = DatapathRegistry()
    registry.include_dir(PROGRAMS)
    for name in ("test_send", "test_encap", "test_receive"):
        registry.program(name, Path(__file__).with_name("keys.bpf.c"), "tc")
    for point, function in STAGES:
        registry.stage(point, function, SOURCE)
    made = PacketBench(registry, unit="keys")
    yield made
    made.close()


@pytest.fixture
def bench(loaded: PacketBench) -> PacketBench:
    """A pod here, a pod there, behind an IPv4 underlay."""
    return fill(loaded, "4")


def fill(bench: PacketBench, underlay: str) -> PacketBench:
    """The cluster behind an underlay of a family."""
    bench.reset()
    bench.runtime("TUNNEL_IFINDEX", DEVICE)
    bench.runtime("MTU", MTU)
    bench.runtime("WORLD_V4", 9)
    bench.runtime("WORLD_V6", 10)
    bench.endpoint(7, LO, 1000, POD["4"], POD["6"])
    bench.endpoint(0, 0, 1, ROUTER["4"], ROUTER["6"], flags=1)
    for family in FAMILIES:
        bench.prefix(f"{REMOTE[family]}/{BITS[family]}", 2000, REMOTE_NODE[underlay])
        bench.prefix(f"{REMOTE_NODE[family]}/{BITS[family]}", 6)
    return bench


@frozen
class Sent:
    """A verdict and the tunnel key that the packet left with."""

    verdict: int
    vni: int
    remote: int
    underlay: int
    data: bytes


def send(bench: PacketBench, program: str, packet: Packet, **fields: Any) -> Sent:
    """Run a sending program."""
    fd = bench.loaded.programs[program].fd
    done = testrun.run(fd, bytes(packet), ifindex=LO, **fields)
    assert done.ctx is not None
    vni, remote, underlay, *_ = done.ctx.cb
    return Sent(done.verdict, vni, remote, underlay, done.data_out)


def receive(bench: PacketBench, packet: Packet, vni: int, underlay: int = 4) -> tuple[int, int]:
    """Run the receiving program; its verdict and the sender's identity."""
    fd = bench.loaded.programs["test_receive"].fd
    done = testrun.run(fd, bytes(packet), ifindex=LO, cb=(vni, 0, underlay))
    assert done.ctx is not None
    return done.verdict, done.ctx.cb[4]


def ip(family: str, src: str, dst: str, **fields: Any) -> Packet:
    """Ethernet and IP headers."""
    header = IP(src=src, dst=dst, **fields) if family == "4" else IPv6(src=src, dst=dst, **fields)
    return Ether(src="02:00:00:00:01:07", dst="02:00:00:00:02:07") / header


def drop(bench: PacketBench) -> str:
    """The one reason counted since the bench was filled."""
    [number] = bench.drops()
    return bench.drop_reasons[number].name


@pytest.mark.parametrize("underlay", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pods_packet_goes_straight_to_the_tunnel(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """The VNI is the sender's identity, the remote the node behind the ipcache entry."""
    bench = fill(loaded, underlay)
    packet = ip(family, POD[family], REMOTE[family]) / TCP(sport=1, dport=80)
    sent = send(bench, "test_send", packet)
    expected = int(ip_address(REMOTE_NODE[underlay])) & 0xFFFFFFFF
    assert (sent.verdict, sent.vni, sent.remote) == (REDIRECT, 1000, expected)
    assert sent.underlay == int(underlay)
    assert sent.data == bytes(Ether(bytes(packet)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_world_and_nodes_are_not_tunnelled(bench: PacketBench, family: str) -> None:
    """Only what the ipcache puts behind a node goes into the tunnel."""
    for to in (WORLD[family], REMOTE_NODE[family]):
        sent = send(bench, "test_send", ip(family, POD[family], to) / UDP(sport=1, dport=2))
        assert (sent.verdict, sent.underlay) == (OK, 0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "fits"), [(MTU, True), (MTU + 1, False)])
def test_what_does_not_fit_goes_to_the_stack(
    bench: PacketBench, family: str, size: int, fits: bool
) -> None:
    """The stack answers with the path-MTU message."""
    header = 28 if family == "4" else 48
    payload = b"x" * (size - header)
    packet = ip(family, POD[family], REMOTE[family]) / UDP(sport=1, dport=2) / payload
    assert len(packet) == size + 14
    sent = send(bench, "test_send", packet)
    assert sent.verdict == (REDIRECT if fits else OK)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("segment", "fits"), [(1398, True), (1399, False)])
def test_trains_are_measured_by_their_segments(
    bench: PacketBench, family: str, segment: int, fits: bool
) -> None:
    """A GSO packet of any length goes, if each segment fits."""
    more = 0 if family == "4" else -20
    tcp = TCP(sport=1, dport=80, options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)])
    packet = ip(family, POD[family], REMOTE[family]) / tcp / (b"x" * 3000)
    sent = send(bench, "test_send", packet, gso_size=segment + more, gso_segs=3)
    assert sent.verdict == (REDIRECT if fits else OK)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_expiring_packet_goes_to_the_stack(bench: PacketBench, family: str) -> None:
    """The stack says "time exceeded"."""
    ttl = {"ttl": 1} if family == "4" else {"hlim": 1}
    packet = ip(family, POD[family], REMOTE[family], **ttl) / UDP(sport=1, dport=2)
    assert send(bench, "test_send", packet).verdict == OK


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_device_the_stack_has_it(bench: PacketBench, family: str) -> None:
    """Before the tunnel device is there nothing is redirected to device 0."""
    bench.runtime("TUNNEL_IFINDEX", 0)
    packet = ip(family, POD[family], REMOTE[family]) / UDP(sport=1, dport=2)
    assert send(bench, "test_send", packet).verdict == OK


@pytest.mark.parametrize("underlay", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hosts_own_packets_travel_as_remote_node(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """Identity 1 never leaves; the receiver sees 6."""
    bench = fill(loaded, underlay)
    packet = ip(family, ROUTER[family], REMOTE[family]) / TCP(sport=1, dport=80)
    sent = send(bench, "test_encap", packet)
    assert (sent.verdict, sent.vni, sent.underlay) == (OK, 6, int(underlay))


@pytest.mark.parametrize("family", FAMILIES)
def test_packets_that_the_stack_forwards_keep_their_senders_identity(
    bench: PacketBench, family: str
) -> None:
    """A pod's oversized or expired packet, and the world's."""
    tail = UDP(sport=1, dport=2)
    assert send(bench, "test_encap", ip(family, POD[family], REMOTE[family]) / tail).vni == 1000
    assert send(bench, "test_encap", ip(family, WORLD[family], REMOTE[family]) / tail).vni == 2
    bench.prefix(f"{WORLD[family]}/{BITS[family]}", (1 << 24) + 5)
    assert send(bench, "test_encap", ip(family, WORLD[family], REMOTE[family]) / tail).vni == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tunnel_endpoint_is_a_drop(bench: PacketBench, family: str) -> None:
    """A route to the tunnel without an entry in the ipcache."""
    packet = ip(family, ROUTER[family], WORLD[family]) / UDP(sport=1, dport=2)
    assert send(bench, "test_encap", packet).verdict == SHOT
    assert drop(bench) == "NO_TUNNEL_ENDPOINT"


def test_the_devices_own_chatter_ends_quietly(bench: PacketBench) -> None:
    """Router solicitations and listener reports of the tunnel device are no drops of anybody."""
    for packet in (
        ip("6", "fe80::1", "ff02::2") / ICMPv6ND_RS(),
        ip("6", "fe80::1", "ff02::16") / ICMPv6MLReport2(),
    ):
        assert send(bench, "test_encap", packet).verdict == SHOT
    assert bench.drops() == {}


@pytest.mark.parametrize("underlay", [4, 6])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_vni_is_the_senders_identity(bench: PacketBench, family: str, underlay: int) -> None:
    """Whatever the ipcache thinks of the address; and the packet goes to its pod."""
    packet = ip(family, REMOTE[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 3000, underlay) == (REDIRECT, 3000)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("vni", [0, 1])
def test_a_forged_identity_is_refused(bench: PacketBench, family: str, vni: int) -> None:
    """Nobody is our host, nobody is nobody."""
    packet = ip(family, REMOTE[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, vni)[0] == SHOT
    assert drop(bench) == "INVALID_IDENTITY"


@pytest.mark.parametrize(("family", "world"), [("4", 9), ("6", 10)])
@pytest.mark.parametrize("vni", [2, 9, 10])
def test_world_gets_its_family_back(bench: PacketBench, family: str, world: int, vni: int) -> None:
    """The wire knows one world, policy knows one of each family."""
    packet = ip(family, WORLD[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, vni) == (REDIRECT, world)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_remote_node_may_be_more(bench: PacketBench, family: str) -> None:
    """A node that the ipcache knows as kube-apiserver is that."""
    packet = ip(family, REMOTE_NODE[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 6) == (REDIRECT, 6)
    bench.prefix(f"{REMOTE_NODE[family]}/{BITS[family]}", 7)
    assert receive(bench, packet, 6) == (REDIRECT, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_addresses_do_not_come_from_elsewhere(bench: PacketBench, family: str) -> None:
    """Neither a pod's nor the router's."""
    for source in (POD[family], ROUTER[family]):
        packet = ip(family, source, POD[family]) / TCP(sport=1, dport=80)
        assert receive(bench, packet, 1000)[0] == SHOT
    assert drop(bench) == "INVALID_SIP"


@pytest.mark.parametrize("family", FAMILIES)
def test_packets_for_the_host_go_to_the_stack(bench: PacketBench, family: str) -> None:
    """The router address is the host."""
    packet = ip(family, REMOTE[family], ROUTER[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 2000) == (OK, 2000)


@pytest.mark.parametrize("family", FAMILIES)
def test_strangers_are_not_forwarded(bench: PacketBench, family: str) -> None:
    """A pod that is gone, or the world: a tunnel is no way through this node."""
    packet = ip(family, REMOTE[family], WORLD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 2000)[0] == SHOT
    assert drop(bench) == "UNROUTABLE"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_without_a_key_is_dropped(bench: PacketBench, family: str) -> None:
    """Who sent it cannot be known."""
    packet = ip(family, REMOTE[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 0, underlay=0)[0] == SHOT
    assert drop(bench) == "NO_TUNNEL_KEY"


@pytest.fixture(scope="module")
def device() -> Iterator[PacketBench]:
    """The programs of a native device, on a node with a tunnel."""
    registry = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    for point, function in STAGES:
        registry.stage(point, function, SOURCE)
    made = PacketBench(registry, unit="netdev")
    yield made
    made.close()


@pytest.mark.parametrize(("family", "world"), [("4", 9), ("6", 10)])
def test_outside_the_tunnel_nobody_is_a_remote_pod(
    device: PacketBench, family: str, world: int
) -> None:
    """A packet from the network with a remote pod's address is the world's; a node's its own."""
    bench = fill(device, "4")
    tail = TCP(sport=1, dport=80, flags="S")
    for source, identity in ((REMOTE[family], world), (REMOTE_NODE[family], 6)):
        bench.events()
        done = bench.run("from_netdev", ip(family, source, POD[family]) / tail, ifindex=LO)
        assert done.verdict == REDIRECT
        [event] = bench.events()
        assert event.src_identity == identity


def test_encapsulated_packets_leave_unexamined(device: PacketBench) -> None:
    """The mark of the tunnel device spares them everything, even a parse."""
    broken = bytes(Ether(type=0x0800)) + b"\xff" * 30
    assert device.run("to_netdev", broken, ifindex=LO, mark=0x400).verdict == OK
