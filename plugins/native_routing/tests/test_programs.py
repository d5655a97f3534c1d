"""Packets by the node's own routes: real routes in a namespace, both families."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from axoneme.bpf.registration import PROGRAMS
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.netlink.namespaces import in_netns
from axoneme.core.testing.packets import OK, REDIRECT, Outcome, PacketBench
from axoneme.plugins.native_routing.datapath import register_stages

pytestmark = pytest.mark.root

FAMILIES = ("4", "6")
POD = {"4": "10.244.1.5", "6": "fd00:10:244:1::5"}
REMOTE = {"4": "10.244.2.9", "6": "fd00:10:244:2::9"}
NEAR = {"4": "172.18.0.9", "6": "fd00:18::9"}
NARROW = {"4": "10.244.3.9", "6": "fd00:10:244:3::9"}
NOWHERE = {"4": "198.51.100.1", "6": "2001:db8:51::1"}
LOCAL = {"4": "172.18.0.2", "6": "fd00:18::2"}

SETUP = """
link set lo up
link add axotpod type veth peer name axotpodp
link add axoteth type veth peer name axotethp
link set axotpod up
link set axotpodp up
link set axotethp up
link set axoteth up
addr add 172.18.0.2/24 dev axoteth
addr add fd00:18::2/64 dev axoteth nodad
route add 10.244.2.0/24 via 172.18.0.3
route add fd00:10:244:2::/64 via fd00:18::3
route add 10.244.3.0/24 via 172.18.0.3 mtu lock 1280
route add fd00:10:244:3::/64 via fd00:18::3 mtu lock 1280
route add 10.244.1.5/32 dev axotpod
route add fd00:10:244:1::5/128 dev axotpod
"""


@frozen
class Node:
    """A namespace with routes."""

    name: str
    pod: int
    """Index of the pod's device."""

    def run(self, bench: PacketBench, packet: Packet, **fields: int) -> Outcome:
        """What becomes of a packet of the pod."""
        with in_netns(self.name):
            return bench.run("from_container", packet, ifindex=self.pod, **fields)


@pytest.fixture
def node(axoneme_netns: Callable[[], str]) -> Node:
    """A node on a network, with routes to two other nodes' pods, one of them narrow."""
    name = axoneme_netns()
    for command in SETUP.strip().splitlines():
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    with in_netns(name):
        for path, value in (
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
        ):
            Path(f"/proc/sys/net/{path}").write_text(value)
    return Node(name, _index(name))


def _index(name: str) -> int:
    said = subprocess.run(
        ["ip", "-n", name, "-o", "link", "show", "axotpod"], check=True, capture_output=True
    )
    return int(said.stdout.split(b":")[0])


@pytest.fixture(scope="module")
def loaded() -> Iterator[PacketBench]:
    """The container programs with native routing."""
    registry = DatapathRegistry()
    for name in ("from_container", "to_container"):
        registry.program(name, PROGRAMS / "container.bpf.c", "tc")
    register_stages(registry)
    made = PacketBench(registry)
    yield made
    made.close()


@pytest.fixture
def bench(loaded: PacketBench, node: Node) -> PacketBench:
    """The pod."""
    loaded.reset()
    loaded.endpoint(7, node.pod, 1000, POD["4"], POD["6"])
    return loaded


def packet(family: str, dst: str, *, ttl: int = 64, size: int = 0) -> Packet:
    """UDP from the pod."""
    header: Any = (
        IP(src=POD["4"], dst=dst, ttl=ttl)
        if family == "4"
        else IPv6(src=POD["6"], dst=dst, hlim=ttl)
    )
    frame = Ether(src="02:00:00:00:01:07", dst="02:00:00:00:02:07") / header
    made: Packet = frame / UDP(sport=1000, dport=2000)
    return made / (b"x" * max(size - (len(made) - 14), 0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_route_is_taken_with_one_hop_less(bench: PacketBench, node: Node, family: str) -> None:
    """TTL goes down by one, the IPv4 checksum follows, nothing else changes."""
    for to in (REMOTE[family], NEAR[family]):
        sent = packet(family, to)
        done = node.run(bench, sent)
        expected = Ether(bytes(packet(family, to, ttl=63)))
        assert done.verdict == REDIRECT
        assert done.data == bytes(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_a_plain_route_is_the_stacks(
    bench: PacketBench, node: Node, family: str
) -> None:
    """No route, the node itself: untouched, to the stack."""
    for to in (NOWHERE[family], LOCAL[family]):
        sent = packet(family, to)
        done = node.run(bench, sent)
        assert (done.verdict, done.data) == (OK, bytes(Ether(bytes(sent))))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_hop_is_the_stacks(bench: PacketBench, node: Node, family: str) -> None:
    """TTL 1: "time exceeded" is the stack's answer."""
    assert node.run(bench, packet(family, REMOTE[family], ttl=1)).verdict == OK
    assert node.run(bench, packet(family, REMOTE[family], ttl=2)).verdict == REDIRECT


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrow_route_is_left_to_the_stack(bench: PacketBench, node: Node, family: str) -> None:
    """Frag-needed and packet-too-big are the stack's answer, at the byte."""
    fits = node.run(bench, packet(family, NARROW[family], size=1280))
    over = node.run(bench, packet(family, NARROW[family], size=1281))
    assert (fits.verdict, over.verdict) == (REDIRECT, OK)


@pytest.mark.parametrize("family", FAMILIES)
def test_trains_are_measured_by_their_segments(bench: PacketBench, node: Node, family: str) -> None:
    """GSO: the whole may be longer than the MTU, a segment not."""
    header: Any = (
        IP(src=POD["4"], dst=NARROW["4"]) if family == "4" else IPv6(src=POD["6"], dst=NARROW["6"])
    )
    train = Ether() / header / TCP(sport=1, dport=2) / (b"x" * 3000)
    room = 1280 - (40 if family == "4" else 60)
    fits = node.run(bench, train, gso_size=room, gso_segs=3)
    over = node.run(bench, train, gso_size=room + 1, gso_segs=3)
    assert (fits.verdict, over.verdict) == (REDIRECT, OK)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_forwarding_the_stack_decides(bench: PacketBench, node: Node, family: str) -> None:
    """Forwarding switched off by the administrator is respected."""
    keys = {"4": ("ipv4/conf/axotpod/forwarding",), "6": ("ipv6/conf/axotpod/forwarding",)}
    with in_netns(node.name):
        for key in keys[family]:
            Path(f"/proc/sys/net/{key}").write_text("0")
    assert node.run(bench, packet(family, REMOTE[family])).verdict == OK


@pytest.mark.parametrize("family", FAMILIES)
def test_broadcast_and_multicast_stay(bench: PacketBench, node: Node, family: str) -> None:
    """They are never routed on."""
    to = "224.0.0.251" if family == "4" else "ff02::fb"
    assert node.run(bench, packet(family, to)).verdict == OK
