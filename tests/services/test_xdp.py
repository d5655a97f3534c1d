"""What XDP leaves to tc, byte for byte; packets that it serves are in the lives of test_life."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from axoneme.core.datapath import kinds
from axoneme.core.datapath.syscalls import link_create
from axoneme.core.model.balancing import NO_FLAG, Flag, Kind
from tests.services.kit import FAMILIES, backend, service
from tests.services.nodes import Node, registry, space

pytestmark = pytest.mark.root

XDP = "from_netdev_xdp"
PASS, TX = 2, 3
CLIENT = {4: "198.51.100.1", 6: "2001:db8:51::1"}
VIP = {4: "192.0.2.10", 6: "2001:db8:2::10"}
NOWHERE = {4: "172.18.0.99", 6: "fd00:18::99"}
"""On the link, and nobody has asked for its neighbour entry yet."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node, int]]:
    """Two nodes that know each other; frames go to the first one."""
    cache = tmp_path_factory.mktemp("xdp")
    made = registry()
    with space() as device, Node(made, 1, cache) as one, Node(made, 2, cache) as two:
        link = link_create(one.loaded.programs[XDP].fd, device, kinds.XDP)
        yield one, two, device
        os.close(link)


class Wire:
    """The device of a node with a service whose backend is another node's pod."""

    def __init__(self, loaded: tuple[Node, Node, int], version: int) -> None:
        self.node, self.other, self.device = loaded
        self.version = version
        self.serve()

    def serve(
        self, *, tunnel: bool = False, flags: Flag = NO_FLAG, to: str = "", proto: int = 6
    ) -> None:
        """The rows of the nodes and of the service."""
        self.node.fill([self.other], self.device, tunnel=tunnel)
        to = to or self.other.pod(self.version, 5)
        front = [(VIP[self.version], 80, Kind.LOAD_BALANCER)]
        self.node.balancer.put(
            service(1, front, [backend(1, to, 8080, proto)], flags=flags, proto=proto)
        )

    def ip(self, **fields: object) -> Packet:
        """From the client to the service."""
        ends = {"src": CLIENT[self.version], "dst": VIP[self.version], **fields}
        return (IP if self.version == 4 else IPv6)(**ends)

    def verdict(self, *layers: Packet) -> tuple[int, bool]:
        """What XDP says, and whether it has changed anything."""
        packet: Packet = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04")
        for layer in layers:
            packet = packet / layer
        done = self.node.run(XDP, packet, ifindex=self.device, skb=False)
        assert not done.drop
        return done.verdict, done.data != bytes(packet)


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def wire(loaded: tuple[Node, Node, int], request: pytest.FixtureRequest) -> Wire:
    """Of each family."""
    return Wire(loaded, request.param)


SYN = TCP(sport=4000, dport=80, flags="S")


def test_it_serves_what_it_can(wire: Wire) -> None:
    """So that the rest of this file says something."""
    assert wire.verdict(wire.ip(), SYN) == (TX, True)


def test_frames_that_are_no_whole_packets_of_ip_are_tcs(wire: Wire) -> None:
    """ARP, VLAN tags, truncated headers, fragments, options, groups, martians."""
    assert wire.verdict(ARP(pdst="172.18.0.2")) == (PASS, False)
    assert wire.verdict(Dot1Q(vlan=5), wire.ip(), SYN) == (PASS, False)
    assert wire.verdict(Raw(b"\x45")) == (PASS, False)
    assert wire.verdict(wire.ip(), Raw(bytes(SYN)[:10])) == (PASS, False)
    if wire.version == 4:
        assert wire.verdict(wire.ip(flags="MF"), SYN) == (PASS, False)
        assert wire.verdict(wire.ip(options=[IPOption_NOP()] * 4), SYN) == (PASS, False)
        group, martian = "224.0.0.1", "127.0.0.1"
    else:
        assert wire.verdict(wire.ip(), IPv6ExtHdrFragment(m=1, id=7), SYN) == (PASS, False)
        assert wire.verdict(wire.ip(), IPv6ExtHdrDestOpt(), SYN) == (PASS, False)
        group, martian = "ff02::1", "::1"
    assert wire.verdict(wire.ip(dst=group), SYN) == (PASS, False)
    assert wire.verdict(wire.ip(src=martian), SYN) == (PASS, False)
    assert wire.verdict(wire.ip(), ICMP()) == (PASS, False)


def test_what_is_answered_or_refused_is_tcs(wire: Wire) -> None:
    """The last hop, no backend, a ClusterIP, a client outside of the ranges, a forged one."""
    last = {"ttl": 1} if wire.version == 4 else {"hlim": 1}
    assert wire.verdict(wire.ip(**last), SYN) == (PASS, False)
    assert wire.verdict(wire.ip(src=wire.node.address(wire.version)), SYN) == (PASS, False)
    for flags in (Flag.CLUSTER_ONLY, Flag.RANGES):
        wire.serve(flags=flags)
        assert wire.verdict(wire.ip(), SYN) == (PASS, False)
    wire.node.balancer.put(service(1, [(VIP[wire.version], 80, Kind.LOAD_BALANCER)], []))
    assert wire.verdict(wire.ip(), SYN) == (PASS, False)


def test_ways_that_xdp_has_not_are_tcs(wire: Wire) -> None:
    """The tunnel, a pod of this node, a neighbour that nobody has asked for, no route."""
    wire.serve(tunnel=True)
    assert wire.verdict(wire.ip(), SYN) == (PASS, False)
    wire.serve(to=wire.node.pod(wire.version, 5))
    assert wire.verdict(wire.ip(), SYN) == (PASS, False)
    wire.serve(to=NOWHERE[wire.version])
    assert wire.verdict(wire.ip(), SYN) == (PASS, False)


def test_what_the_option_makes_too_long_is_tcs(wire: Wire) -> None:
    """A datagram that just fits, until it carries the service's address."""
    wire.serve(flags=Flag.DSR, proto=17)
    header = 28 if wire.version == 4 else 48
    option = 8 if wire.version == 4 else 24
    fits, grows = (Raw(b"x" * (1500 - header - n)) for n in (option, option - 1))
    assert wire.verdict(wire.ip(), UDP(sport=4000, dport=80), fits) == (TX, True)
    assert wire.verdict(wire.ip(), UDP(sport=4001, dport=80), grows) == (PASS, False)


def test_what_is_no_service_and_no_answer_is_tcs(wire: Wire) -> None:
    """Other ports, other addresses, ports of the range that nobody has."""
    assert wire.verdict(wire.ip(), TCP(sport=1, dport=81, flags="S")) == (PASS, False)
    own = wire.node.address(wire.version)
    for port in (22, 40000):
        assert wire.verdict(wire.ip(dst=own), TCP(sport=1, dport=port)) == (PASS, False)
