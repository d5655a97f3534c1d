"""Direct server return in a packet to the backend (bpf-lb-dsr-dispatch: ipip), at tc and XDP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.core.datapath import kinds
from axoneme.core.datapath.syscalls import link_create
from axoneme.core.model.balancing import Flag, Kind
from axoneme.core.testing.packets import REDIRECT, Outcome
from axoneme.plugins.nodeport.config import constants
from tests.services.kit import FAMILIES, backend, service, sums_are_right
from tests.services.nodes import Node, registry, space

pytestmark = pytest.mark.root

CLIENT = {4: "198.51.100.1", 6: "2001:db8:51::1"}
VIP = {4: "192.0.2.10", 6: "2001:db8:2::10"}
SOURCES = {4: ip_network("10.99.0.0/16"), 6: ip_network("fd99::/112")}
GIVEN = {
    "bpf-lb-dsr-dispatch": "ipip",
    "bpf-lb-rss-ipv4-src-cidr": SOURCES[4],
    "bpf-lb-rss-ipv6-src-cidr": SOURCES[6],
}
XDP = "from_netdev_xdp"
PASS, TX = 2, 3
PROGRAMS = pytest.mark.parametrize("program", ["from_netdev", XDP])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node, int]]:
    """Two nodes; the first one balances."""
    cache = tmp_path_factory.mktemp("ipip")
    made = registry(constants(GIVEN))  # type: ignore[arg-type]
    with space() as device, Node(made, 1, cache) as one, Node(made, 2, cache) as two:
        link = link_create(one.loaded.programs[XDP].fd, device, kinds.XDP)
        yield one, two, device
        os.close(link)


class Balancing:
    """A service with a port that its backend has, and one that it has not."""

    def __init__(self, loaded: tuple[Node, Node, int], version: int) -> None:
        self.node, other, self.device = loaded
        self.version = version
        self.backend = other.pod(version, 5)
        self.node.fill([other], self.device, tunnel=False)
        far = [backend(1, self.backend, 80)]
        self.node.balancer.put(
            service(1, [(VIP[version], 80, Kind.LOAD_BALANCER)], far, flags=Flag.DSR),
            service(2, [(VIP[version], 81, Kind.LOAD_BALANCER)], far, flags=Flag.DSR),
        )

    def ask(self, program: str, port: int, sport: int, size: int = 0) -> tuple[Packet, Outcome]:
        """What a client sends, and what becomes of it."""
        ends = {"src": CLIENT[self.version], "dst": VIP[self.version]}
        ip = IP(**ends) if self.version == 4 else IPv6(**ends)
        packet = Ether(dst="02:00:00:00:00:04") / ip / TCP(sport=sport, dport=port, flags="S")
        packet = packet / bytes(size)
        done = self.node.run(program, packet, ifindex=self.device, skb=program != XDP)
        return Ether(bytes(packet)), done


@PROGRAMS
@pytest.mark.parametrize("version", FAMILIES)
def test_a_packet_travels_as_it_is_in_another(
    loaded: tuple[Node, Node, int], version: int, program: str
) -> None:
    """One hop less to live; flows have sources of their own, of the network that the key names."""
    lb = Balancing(loaded, version)
    layer, sources = IP if version == 4 else IPv6, set()
    for sport in range(4000, 4010):
        sent, done = lb.ask(program, 80, sport)
        assert (done.verdict, done.drop) == (TX if program == XDP else REDIRECT, "")
        outer = sums_are_right(done.data)
        inner = outer[layer].payload
        assert (outer[layer].dst, inner.src, inner.dst) == (
            lb.backend, CLIENT[version], VIP[version],
        )  # fmt: skip
        assert bytes(inner.payload) == bytes(sent[layer].payload)
        assert [x.ttl if version == 4 else x.hlim for x in (outer[layer], inner)] == [64, 63]
        assert len(done.data) == len(sent) + (20 if version == 4 else 40)
        sources.add(ip_address(outer[layer].src))
    assert len(sources) > 5
    assert all(a in SOURCES[version] for a in sources)


@PROGRAMS
@pytest.mark.parametrize("version", FAMILIES)
def test_a_port_cannot_change_inside(
    loaded: tuple[Node, Node, int], version: int, program: str
) -> None:
    """The backend listens on the service's own."""
    lb = Balancing(loaded, version)
    assert lb.ask(program, 81, 4000)[1].drop == "UNSUPP_SERVICE_PROTO"


@pytest.mark.parametrize("version", FAMILIES)
def test_the_outer_header_counts_for_what_fits(
    loaded: tuple[Node, Node, int], version: int
) -> None:
    """The client is told what does; XDP leaves that to tc."""
    lb = Balancing(loaded, version)
    most = 1500 - (20 if version == 4 else 40)
    headers = 40 if version == 4 else 60
    assert not lb.ask("from_netdev", 80, 4000, most - headers)[1].drop
    assert lb.ask("from_netdev", 80, 4000, most - headers + 1)[1].drop == "FRAG_NEEDED"
    assert lb.ask(XDP, 80, 4000, most - headers + 1)[1].verdict == PASS
