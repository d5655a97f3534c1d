"""A packet's life through a service, there and back: every way, family, protocol, mode and routing.

Each step's output is the next one's input. At the end of each way: whom the backend has seen, and
that the client hears the service.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.core.datapath import kinds
from axoneme.core.datapath.syscalls import link_create
from axoneme.core.model.balancing import NO_FLAG, Flag, Kind
from axoneme.core.testing.packets import OK, REDIRECT
from tests.services.kit import backend, ends, service, sums_are_right
from tests.services.nodes import Node, registry, space

pytestmark = pytest.mark.root

CLIENT: Final = {4: "198.51.100.1", 6: "2001:db8:51::1"}
VIP: Final = {4: "192.0.2.10", 6: "2001:db8:2::10"}
PROTOS: Final = {"tcp": 6, "udp": 17}
XDP: Final = "from_netdev_xdp"
XDP_PASS, XDP_TX = 2, 3


@frozen
class Way:
    """One of the ways."""

    name: str
    mode: str = "-"
    routing: str = "-"


WAYS: Final = [
    Way("pod to a pod of its node"),
    *(Way("pod to a pod of another node", routing=r) for r in ("native", "tunnel")),
    Way("pod to itself"),
    Way("outsider to a pod of the node"),
    Way("outsider to the node itself"),
    *(
        Way("outsider to a pod of another node", m, r)
        for m, r in product(("snat", "dsr"), ("native", "tunnel"))
    ),
    *(Way("outsider to a pod of another node, by XDP", m, "native") for m in ("snat", "dsr")),
    Way("outsider to a pod of the node, by XDP"),
]
CASES: Final = [(w, v, p) for w in WAYS for v in (4, 6) for p in PROTOS]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node, int]]:
    """Two nodes and the device of both."""
    cache = tmp_path_factory.mktemp("life")
    made = registry()
    with space() as device, Node(made, 1, cache) as one, Node(made, 2, cache) as two:
        link = link_create(one.loaded.programs[XDP].fd, device, kinds.XDP)
        yield one, two, device
        os.close(link)


class Life:
    """A packet on its way; remembers what was sent where."""

    def __init__(self, nodes: tuple[Node, Node, int], way: Way, version: int, proto: str) -> None:
        self.one, self.two, self.device = nodes
        self.version, self.proto, self.way = version, proto, way
        tunnel = way.routing == "tunnel"
        self.one.fill([self.two], self.device, tunnel=tunnel)
        self.two.fill([self.one], self.device, tunnel=tunnel)

    def serve(self, address: str, port: int) -> None:
        """Both nodes know the service; this is its backend."""
        flags = Flag.DSR if self.way.mode == "dsr" else NO_FLAG
        local = {n: address in (n.pod(self.version, 5), n.pod(self.version, 6))
                 for n in (self.one, self.two)}  # fmt: skip
        for node in (self.one, self.two):
            row = service(
                1,
                [(VIP[self.version], 80, Kind.LOAD_BALANCER)],
                [backend(1, address, port, PROTOS[self.proto], local=local[node])],
                proto=PROTOS[self.proto],
                flags=flags,
            )
            node.balancer.put(row)

    def packet(self, src: str, sport: int, dst: str, dport: int, flags: str = "S") -> Packet:
        """The first packet of an end."""
        ip = IP(src=src, dst=dst) if self.version == 4 else IPv6(src=src, dst=dst)
        l4 = (
            TCP(sport=sport, dport=dport, flags=flags)
            if self.proto == "tcp"
            else UDP(sport=sport, dport=dport) / b"hello"
        )
        return Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:04") / ip / l4

    def step(self, node: Node, program: str, packet: Any, verdict: int = REDIRECT) -> Packet:
        """Through one program."""
        done = node.run(program, packet, ifindex=self.device, skb=program != XDP)
        assert (done.drop, done.verdict) == ("", verdict), (program, done)
        return sums_are_right(done.data)

    def arrive(self, node: Node, packet: Any) -> Packet:
        """At another node, by the way that its routing has."""
        program = "from_overlay" if self.way.routing == "tunnel" else "from_netdev"
        return self.step(node, program, packet)

    def leave(self, node: Node, packet: Any) -> Packet:
        """From a pod towards another machine: the way there changes no inner byte."""
        return self.step(node, "from_container", packet, OK)

    def answer(self, asked: Packet) -> Packet:
        """What the backend says to what it has got."""
        src, sport, dst, dport = ends(asked)
        return self.packet(dst, dport, src, sport, "SA")


def walk(life: Life) -> tuple[Packet, Packet]:
    """What the backend has got, and what the client gets."""
    return _BY_NAME[life.way.name](life)


def _same_node(life: Life) -> tuple[Packet, Packet]:
    one, v = life.one, life.version
    life.serve(one.pod(v, 6), 8080)
    sent = _from(one, 5, life.packet(one.pod(v, 5), 4000, VIP[v], 80))
    asked = life.step(one, "from_container", sent)
    return asked, life.step(one, "from_container", _from(one, 6, life.answer(asked)))


def _from(node: Node, last: int, packet: Packet) -> Packet:
    """The bench has one device for all pods: tell it whose the packet is."""
    node.endpoint(last, node_device(node), 1000 + last, node.pod(4, last), node.pod(6, last))
    return packet


def node_device(node: Node) -> int:
    """The device of a node's pods."""
    return next(k.ifindex for k, _ in node.devices.items())


def _other_node(life: Life) -> tuple[Packet, Packet]:
    one, two, v = life.one, life.two, life.version
    life.serve(two.pod(v, 5), 8080)
    sent = life.leave(one, _from(one, 5, life.packet(one.pod(v, 5), 4000, VIP[v], 80)))
    asked = life.arrive(two, sent)
    back = life.leave(two, _from(two, 5, life.answer(asked)))
    return asked, life.arrive(one, back)


def _itself(life: Life) -> tuple[Packet, Packet]:
    one, v = life.one, life.version
    life.serve(one.pod(v, 5), 8080)
    sent = _from(one, 5, life.packet(one.pod(v, 5), 4000, VIP[v], 80))
    asked = life.step(one, "from_container", sent)
    return asked, life.step(one, "from_container", life.answer(asked))


def _outside_local(life: Life) -> tuple[Packet, Packet]:
    one, v = life.one, life.version
    life.serve(one.pod(v, 5), 8080)
    asked = life.step(one, "from_netdev", life.packet(CLIENT[v], 4000, VIP[v], 80))
    back = life.step(one, "from_container", _from(one, 5, life.answer(asked)))
    return asked, back


def _outside_host(life: Life) -> tuple[Packet, Packet]:
    one, v = life.one, life.version
    life.serve(one.address(v), 8080)
    asked = life.step(one, "from_netdev", life.packet(CLIENT[v], 4000, VIP[v], 80), OK)
    return asked, life.step(one, "to_netdev", life.answer(asked), OK)


def _outside_away(life: Life) -> tuple[Packet, Packet]:
    one, two, v = life.one, life.two, life.version
    life.serve(two.pod(v, 5), 8080)
    sent = life.step(one, "from_netdev", life.packet(CLIENT[v], 4000, VIP[v], 80))
    asked = life.arrive(two, sent)
    answer = _from(two, 5, life.answer(asked))
    if life.way.mode == "dsr":  # straight to the client
        return asked, life.step(two, "from_container", answer)
    return asked, life.arrive(one, life.leave(two, answer))


def _xdp_away(life: Life) -> tuple[Packet, Packet]:
    one, two, v = life.one, life.two, life.version
    life.serve(two.pod(v, 5), 8080)
    sent = life.step(one, XDP, life.packet(CLIENT[v], 4000, VIP[v], 80), XDP_TX)
    assert sent.dst == "02:00:00:00:00:02"
    asked = life.arrive(two, sent)
    answer = _from(two, 5, life.answer(asked))
    if life.way.mode == "dsr":
        return asked, life.step(two, "from_container", answer)
    heard = life.step(one, XDP, life.leave(two, answer), XDP_TX)
    assert heard.dst == "02:00:00:00:00:fe"
    return asked, heard


def _xdp_local(life: Life) -> tuple[Packet, Packet]:
    one, v = life.one, life.version
    life.serve(one.pod(v, 5), 8080)
    packet = life.packet(CLIENT[v], 4000, VIP[v], 80)
    untouched = life.step(one, XDP, packet, XDP_PASS)
    assert bytes(untouched) == bytes(packet)
    asked = life.step(one, "from_netdev", untouched)
    return asked, life.step(one, "from_container", _from(one, 5, life.answer(asked)))


_BY_NAME: Final = {
    "pod to a pod of its node": _same_node,
    "pod to a pod of another node": _other_node,
    "pod to itself": _itself,
    "outsider to a pod of the node": _outside_local,
    "outsider to the node itself": _outside_host,
    "outsider to a pod of another node": _outside_away,
    "outsider to a pod of another node, by XDP": _xdp_away,
    "outsider to a pod of the node, by XDP": _xdp_local,
}


def seen(life: Life) -> str:
    """Whom the backend must have seen."""
    one, v = life.one, life.version
    if life.way.name == "pod to itself":
        return "169.254.42.1" if v == 4 else "fe80::1"
    if life.way.name.startswith("pod"):
        return one.pod(v, 5)
    if life.way.mode == "snat":
        return one.router(v) if life.way.routing == "tunnel" else one.address(v)
    return CLIENT[v]


def asker(life: Life) -> str:
    """Who has asked."""
    pod = life.way.name.startswith("pod")
    return life.one.pod(life.version, 5) if pod else CLIENT[life.version]


@pytest.mark.parametrize(
    ("way", "version", "proto"),
    CASES,
    ids=[f"{w.name}, {w.mode}, {w.routing}, IPv{v}, {p}" for w, v, p in CASES],
)
def test_there_and_back(nodes: tuple[Node, Node, int], way: Way, version: int, proto: str) -> None:
    """The backend sees whom it should, the client hears the service, all sums are right."""
    life = Life(nodes, way, version, proto)
    asked, heard = walk(life)
    assert ends(asked)[0] == seen(life)
    assert ends(asked)[3] == 8080
    assert ends(heard) == (VIP[version], 80, asker(life), 4000)


def test_every_way_is_in_the_list() -> None:
    """The file's promise: nothing is left out by accident."""
    assert len(CASES) == len(set(map(str, CASES))) == 4 * len(WAYS)
    assert {w.name for w in WAYS} == set(_BY_NAME)
    assert Path(__file__).exists()
