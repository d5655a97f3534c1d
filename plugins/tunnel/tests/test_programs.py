"""Packets into and out of the tunnel, both families inside, both families outside."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6MLReport2, ICMPv6ND_RS, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath import testrun
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.ipcache.maps import DIRECT
from axoneme.core.testing.packets import OK, REDIRECT, SHOT, PacketBench
from axoneme.plugins.tunnel.datapath import SOURCE, STAGES

pytestmark = pytest.mark.root

NODE_SCOPE = 2 << 24
FAMILIES = ("4", "6")
POD = {"4": "10.244.1.5", "6": "fd00:10:244:1::5"}
ROUTER = {"4": "10.244.1.1", "6": "fd00:10:244:1::1"}
REMOTE = {"4": "10.244.2.9", "6": "fd00:10:244:2::9"}
NODE = {"4": "172.18.0.2", "6": "fd00:18::2"}
REMOTE_NODE = {"4": "172.18.0.3", "6": "fd00:18::3"}
THIRD_NODE = {"4": "172.18.0.4", "6": "fd00:18::4"}
STRANGER = {"4": "172.18.0.99", "6": "fd00:18::99"}
REMOTE_ROUTER = {"4": "10.244.2.1", "6": "fd00:10:244:2::1"}
REMOTE_CIDR = {"4": "10.244.2.0/24", "6": "fd00:10:244:2::/64"}
UNKNOWN_POD = {"4": "10.244.2.77", "6": "fd00:10:244:2::77"}
THIRD_POD = {"4": "10.244.3.9", "6": "fd00:10:244:3::9"}
WORLD = {"4": "198.51.100.1", "6": "2001:db8:51::1"}
BITS = {"4": 32, "6": 128}
LO = 1
DEVICE = 77
MTU = 1450


def add_stages(registry: DatapathRegistry) -> None:
    """The plugin's stages around the skeletons that a test has chosen."""
    for point, function, order in STAGES:
        registry.stage(point, function, SOURCE, order=order)


@pytest.fixture(scope="module")
def loaded() -> Iterator[PacketBench]:
    """The real programs around a tunnel key that tests can see."""
    registry = DatapathRegistry()
    registry.include_dir(PROGRAMS)
    for name in ("test_send", "test_encap", "test_receive"):
        registry.program(name, Path(__file__).with_name("keys.bpf.c"), "tc")
    add_stages(registry)
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
    bench.endpoint(0, 0, 1, ROUTER["4"], ROUTER["6"], NODE["4"], NODE["6"], flags=1)
    own = ip_address(NODE["6"]).packed
    bench.runtime("NODE_V4", ip_address(NODE["4"]).packed)
    bench.runtime("NODE_V6_HI", own[:8])
    bench.runtime("NODE_V6_LO", own[8:])
    for family in FAMILIES:
        host = BITS[family]
        bench.prefix(f"{REMOTE[family]}/{host}", 2000, REMOTE_NODE[underlay])
        bench.prefix(f"{REMOTE_ROUTER[family]}/{host}", 6, REMOTE_NODE[underlay])
        bench.prefix(REMOTE_CIDR[family], 9, REMOTE_NODE[underlay])
        bench.prefix(f"{REMOTE_NODE[family]}/{host}", 6, REMOTE_NODE[underlay], DIRECT)
        bench.prefix(f"{THIRD_POD[family]}/{host}", 3000, THIRD_NODE[underlay])
        bench.prefix(f"{THIRD_NODE[family]}/{host}", 6, THIRD_NODE[underlay], DIRECT)
    return bench


@frozen
class Sent:
    """A verdict and the tunnel key that the packet left with."""

    verdict: int
    vni: int
    remote: int
    underlay: int
    local: int
    data: bytes


def send(bench: PacketBench, program: str, packet: Packet, **fields: Any) -> Sent:
    """Run a sending program."""
    fd = bench.loaded.programs[program].fd
    done = testrun.run(fd, bytes(packet), ifindex=LO, **fields)
    assert done.ctx is not None
    vni, remote, underlay, local, _ = done.ctx.cb
    return Sent(done.verdict, vni, remote, underlay, local, done.data_out)


def receive(
    bench: PacketBench,
    packet: Packet,
    vni: int,
    underlay: str = "4",
    *,
    source: dict[str, str] = REMOTE_NODE,
    to: dict[str, str] = NODE,
) -> tuple[int, int]:
    """Run the receiving program; its verdict and the sender's identity.

    ``source`` and ``to`` are the ends of the outer header; underlay ``""`` is no tunnel at all.
    """
    fd = bench.loaded.programs["test_receive"].fd
    outer = int(underlay or 0)
    ends = [tail(each[underlay]) if underlay else 0 for each in (source, to)]
    done = testrun.run(fd, bytes(packet), ifindex=LO, cb=(vni, ends[0], outer, ends[1]))
    assert done.ctx is not None
    return done.verdict, done.ctx.cb[4]


def tail(address: str) -> int:
    """The last four bytes."""
    return int(ip_address(address)) & 0xFFFFFFFF


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
    expected = (tail(REMOTE_NODE[underlay]), tail(NODE[underlay]))
    assert (sent.verdict, sent.vni, sent.remote, sent.local) == (REDIRECT, 1000, *expected)
    assert sent.underlay == int(underlay)
    assert sent.data == bytes(Ether(bytes(packet)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pod_not_known_yet_is_tunnelled(bench: PacketBench, family: str) -> None:
    """The node of its pod CIDR is known, whoever it is: from pods and from the node."""
    prefix = "10.244.9.0/24" if family == "4" else "fd00:10:244:9::/64"
    bench.prefix(prefix, 3, REMOTE_NODE["4"])
    to = "10.244.9.7" if family == "4" else "fd00:10:244:9::7"
    remote = int(ip_address(REMOTE_NODE["4"]))
    sent = send(bench, "test_send", ip(family, POD[family], to) / TCP(sport=1, dport=80))
    assert (sent.verdict, sent.vni, sent.remote) == (REDIRECT, 1000, remote)
    sent = send(bench, "test_encap", ip(family, ROUTER[family], to) / TCP(sport=1, dport=80))
    assert (sent.verdict, sent.vni, sent.remote) == (OK, 6, remote)


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
    assert sent.local == tail(NODE[underlay])


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


@pytest.mark.parametrize("underlay", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_vni_is_the_senders_identity(loaded: PacketBench, family: str, underlay: str) -> None:
    """Whatever the ipcache thinks of the address; and the packet goes to its pod."""
    bench = fill(loaded, underlay)
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
    """A node that the ipcache knows as kube-apiserver, or by its labels, is that; whoever is no
    node is not, whatever another one says."""
    packet = ip(family, REMOTE_NODE[family], POD[family]) / TCP(sport=1, dport=80)
    assert receive(bench, packet, 6) == (REDIRECT, 6)
    for known in (7, NODE_SCOPE + 5):
        bench.prefix(f"{REMOTE_NODE[family]}/{BITS[family]}", known, REMOTE_NODE["4"], DIRECT)
        assert receive(bench, packet, 6) == (REDIRECT, known)
        assert receive(bench, packet, 7) == (REDIRECT, known)
    assert receive(bench, packet, NODE_SCOPE + 5)[0] == SHOT
    assert drop(bench) == "INVALID_IDENTITY"


@pytest.mark.parametrize("family", FAMILIES)
def test_our_own_addresses_do_not_come_from_elsewhere(bench: PacketBench, family: str) -> None:
    """Neither a pod's nor the router's, nor those that are nobody's."""
    nobody = "127.0.0.1" if family == "4" else "::1"
    for source in (POD[family], ROUTER[family], nobody):
        packet = ip(family, source, POD[family]) / TCP(sport=1, dport=80)
        for vni in (2, 1000):
            assert receive(bench, packet, vni)[0] == SHOT
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
    assert receive(bench, packet, 0, underlay="")[0] == SHOT
    assert drop(bench) == "NO_TUNNEL_KEY"


# Who may speak for an address

BOTH = pytest.mark.parametrize("underlay", FAMILIES)
EITHER = pytest.mark.parametrize("family", FAMILIES)


def syn(family: str, source: dict[str, str]) -> Packet:
    """To our pod."""
    return ip(family, source[family], POD[family]) / TCP(sport=1, dport=80, flags="S")


@BOTH
@EITHER
@pytest.mark.parametrize("source", [REMOTE, THIRD_POD, REMOTE_NODE, WORLD])
@pytest.mark.parametrize("vni", [2, 6, 2000, 3000])
def test_only_nodes_speak_in_the_tunnel(
    loaded: PacketBench, family: str, underlay: str, source: dict[str, str], vni: int
) -> None:
    """A pod, or anybody else who reaches the port, is no node whatever it says."""
    for sender in (STRANGER, POD, REMOTE):
        bench = fill(loaded, underlay)
        if sender is not STRANGER and underlay == "6":
            continue  # not an address that the programs of the test can make
        packet = syn(family, source)
        assert receive(bench, packet, vni, underlay, source=sender)[0] == SHOT
        assert drop(bench) in ("NO_NODE_ID", "INVALID_SIP")
        assert not list(bench.flows())


@BOTH
@EITHER
def test_a_node_speaks_for_its_own_only(loaded: PacketBench, family: str, underlay: str) -> None:
    """Not for a pod or an address of another node, under no identity."""
    for source in (THIRD_POD, THIRD_NODE):
        for vni in (2, 6, 2000, 3000):
            bench = fill(loaded, underlay)
            assert receive(bench, syn(family, source), vni, underlay)[0] == SHOT
            assert drop(bench) == "INVALID_SIP"


@BOTH
@EITHER
def test_a_pod_is_believed_before_it_is_known(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """Its first packet may be faster than its object: the node's pod CIDR vouches for it."""
    bench = fill(loaded, underlay)
    assert receive(bench, syn(family, UNKNOWN_POD), 2500, underlay) == (REDIRECT, 2500)


@BOTH
@EITHER
def test_a_node_speaks_from_all_its_addresses(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """Router and underlay, also of the family that the underlay is not."""
    for source in (REMOTE_ROUTER, REMOTE_NODE):
        bench = fill(loaded, underlay)
        assert receive(bench, syn(family, source), 6, underlay) == (REDIRECT, 6)


@BOTH
@pytest.mark.parametrize(("family", "world"), [("4", 9), ("6", 10)])
def test_from_outside_nobody_is_of_the_cluster(
    loaded: PacketBench, family: str, world: int, underlay: str
) -> None:
    """A node brings the world, or speaks from an address nobody knows; both are the world."""
    for vni in (2, 6):
        bench = fill(loaded, underlay)
        assert receive(bench, syn(family, WORLD), vni, underlay) == (REDIRECT, world)
    bench = fill(loaded, underlay)
    assert receive(bench, syn(family, WORLD), 2000, underlay)[0] == SHOT
    assert drop(bench) == "INVALID_SIP"


@BOTH
@EITHER
def test_the_tunnel_ends_at_the_address_that_nodes_know(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """Pods are kept from known addresses of nodes; by another one nobody gets in."""
    bench = fill(loaded, underlay)
    assert receive(bench, syn(family, REMOTE), 2000, underlay, to=STRANGER)[0] == SHOT
    assert drop(bench) == "ENCAP_PROHIBITED"
    bench.runtime("NODE_V4", 0)
    bench.runtime("NODE_V6_HI", 0)
    bench.runtime("NODE_V6_LO", 0)
    assert receive(bench, syn(family, REMOTE), 2000, underlay, to=STRANGER) == (REDIRECT, 2000)


@BOTH
@EITHER
def test_an_answer_is_kept_until_the_ipcache_changes(
    loaded: PacketBench, family: str, underlay: str
) -> None:
    """Asked once for a sender and its node; never mixed up, and asked again after a change."""
    bench = fill(loaded, underlay)
    bench.runtime("IPCACHE_GEN", 5)
    packet = syn(family, REMOTE)
    for _ in range(2):
        assert receive(bench, packet, 2000, underlay) == (REDIRECT, 2000)
        assert receive(bench, packet, 2000, underlay, source=THIRD_NODE)[0] == SHOT
    assert receive(bench, packet, 2000, underlay) == (REDIRECT, 2000)
    bench.prefix(f"{REMOTE[family]}/{BITS[family]}", 2000, THIRD_NODE[underlay])
    bench.runtime("IPCACHE_GEN", 6)
    assert receive(bench, packet, 2000, underlay)[0] == SHOT
    assert receive(bench, packet, 2000, underlay, source=THIRD_NODE) == (REDIRECT, 2000)


# The tunnel's port is not for pods


def to_port(family: str, to: str, **fields: Any) -> Packet:
    """A pod's datagram to the tunnel's port."""
    return ip(family, POD[family], to, **fields) / UDP(sport=1, dport=8472) / (b"x" * 32)


@EITHER
def test_pods_do_not_speak_to_nodes_in_the_tunnels_protocol(
    bench: PacketBench, family: str
) -> None:
    """To this node or another, by any of its addresses; the kube-apiserver's node is one too."""
    nodes = (NODE, ROUTER, REMOTE_NODE, REMOTE_ROUTER)
    for to in nodes:
        assert send(bench, "test_send", to_port(family, to[family])).verdict == SHOT
        assert drop(bench) == "ENCAP_PROHIBITED"
    bench.prefix(f"{STRANGER[family]}/{BITS[family]}", 7)
    assert send(bench, "test_send", to_port(family, STRANGER[family])).verdict == SHOT
    assert not list(bench.flows())


@EITHER
def test_pods_may_use_the_port_among_themselves(bench: PacketBench, family: str) -> None:
    """A tunnel between pods, or into the world, is their own business; so is TCP."""
    assert send(bench, "test_send", to_port(family, REMOTE[family])).verdict == REDIRECT
    assert send(bench, "test_send", to_port(family, WORLD[family])).verdict == OK
    tcp = ip(family, POD[family], REMOTE_NODE[family]) / TCP(sport=1, dport=8472)
    assert send(bench, "test_send", tcp).verdict == OK


@EITHER
def test_no_fragment_gets_to_the_port(bench: PacketBench, family: str) -> None:
    """Neither the first one nor those that follow."""
    body = UDP(sport=1, dport=8472) / (b"x" * 64)
    to = REMOTE_NODE[family]
    if family == "4":
        first = ip(family, POD[family], to, flags="MF", id=7) / body
        later = ip(family, POD[family], to, frag=9, id=7, proto=17) / (b"x" * 32)
    else:
        first = ip(family, POD[family], to) / IPv6ExtHdrFragment(m=1, id=7) / body
        rest = IPv6ExtHdrFragment(offset=9, id=7, nh=17)
        later = ip(family, POD[family], to) / rest / (b"x" * 32)
    for packet in (first, later):
        before = sum(bench.drops().values())
        assert send(bench, "test_send", packet).verdict == SHOT
        assert sum(bench.drops().values()) == before + 1


@pytest.fixture(scope="module")
def device() -> Iterator[PacketBench]:
    """The programs of a native device, on a node with a tunnel."""
    registry = DatapathRegistry()
    for name in ("from_netdev", "to_netdev"):
        registry.program(name, PROGRAMS / "netdev.bpf.c", "tc")
    add_stages(registry)
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


@EITHER
def test_no_service_leads_a_pod_to_the_port(device: PacketBench, family: str) -> None:
    """Netfilter may have changed both addresses: a pod's packet came in by the pod's device."""
    bench = fill(device, "4")
    packet = ip(family, NODE[family], REMOTE_NODE[family]) / UDP(sport=1, dport=8472)
    assert bench.run("to_netdev", packet, ifindex=LO).verdict == OK
    done = bench.run("to_netdev", packet, ifindex=LO, ingress_ifindex=LO)
    assert (done.verdict, done.drop) == (SHOT, "ENCAP_PROHIBITED")
    to_world = ip(family, NODE[family], WORLD[family]) / UDP(sport=1, dport=8472)
    assert bench.run("to_netdev", to_world, ifindex=LO, ingress_ifindex=LO).verdict == OK


def test_encapsulated_packets_leave_unexamined(device: PacketBench) -> None:
    """The mark of the tunnel device spares them everything, even a parse."""
    broken = bytes(Ether(type=0x0800)) + b"\xff" * 30
    assert device.run("to_netdev", broken, ifindex=LO, mark=0x400).verdict == OK


def test_the_nodes_tunnel_packets_go_straight_up(device: PacketBench) -> None:
    """Only those to this node's own address and the tunnel's port; a pod's are judged as ever."""
    bench = fill(device, "4")
    frame = ip("4", REMOTE_NODE["4"], NODE["4"]) / UDP(sport=1, dport=8472) / (b"x" * 60)
    done = bench.run("from_netdev", frame, ifindex=LO)
    assert (done.verdict, done.data) == (OK, bytes(frame))
    to_pod = ip("4", REMOTE_NODE["4"], POD["4"]) / UDP(sport=1, dport=8472)
    assert bench.run("from_netdev", to_pod, ifindex=LO).verdict == REDIRECT
    forged = ip("4", POD["4"], NODE["4"]) / UDP(sport=1, dport=8473)
    assert bench.run("from_netdev", forged, ifindex=LO).drop == "INVALID_SIP"
