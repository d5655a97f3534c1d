"""Whose answer is it: only a socket of these two very ends gets what comes to a pod."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw

from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.testing.packet_fixtures import container_registry
from axoneme.core.testing.packets import EGRESS, REDIRECT, PacketBench
from axoneme.plugins.fqdn.sockets import borrowing

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("version", [4, 6])
PLUGINS = Path(__file__).parents[2]
GIVEN = "PROXY_SET_FAILED"
"""The socket was found: a test run has no device at whose ingress it could be given to it."""


@pytest.fixture(scope="session")
def packet_registry() -> DatapathRegistry:
    """Policy and this plugin."""
    registry = container_registry()
    policy = PLUGINS / "policy" / "policy.bpf.c"
    registry.stage("egress_policy", "policy_egress", policy)
    registry.stage("ingress_policy", "policy_ingress", policy)
    registry.stage("ingress_proxy", "fqdn_ingress_proxy", PLUGINS / "fqdn" / "fqdn.bpf.c")
    return registry


@pytest.fixture
def server(closed: PacketBench, b: Any) -> Iterator[PacketBench]:
    """Pod b may say what it likes; pod a hears nobody."""
    closed.rule(b.identity, EGRESS)
    yield closed


def answer(bench: PacketBench, a: Any, b: Any, version: int, port: int, sport: int = 53) -> Any:
    sent = b.frame(version, a) / UDP(sport=sport, dport=port) / Raw(b"answer")
    return bench.run("from_container", sent, ifindex=b.ifindex)


@FAMILIES
def test_the_proxys_socket_gets_its_answer(
    server: PacketBench, a: Any, b: Any, version: int
) -> None:
    """From the server that it has asked, on its port; whatever policy says of the pod."""
    with borrowing(ip_address(a.ip(version)), socket.SOCK_DGRAM) as asks:
        asks.connect((b.ip(version), 53))
        port = asks.getsockname()[1]
        assert answer(server, a, b, version, port).drop == GIVEN
        assert answer(server, a, b, version, port + 1).drop == "POLICY"
        assert answer(server, a, b, version, port, 54).drop == "POLICY"
    assert answer(server, a, b, version, port).drop == "POLICY"


@FAMILIES
def test_a_socket_of_everybody_gets_nothing(
    server: PacketBench, a: Any, b: Any, version: int
) -> None:
    """A service of the node that listens on that port is not meant, by UDP or by TCP."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    everybody = "0.0.0.0" if version == 4 else "::"
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as listens:
            listens.bind((everybody, 0))
            if kind == socket.SOCK_STREAM:
                listens.listen()
            port = listens.getsockname()[1]
            layer: Any = UDP(sport=53, dport=port)
            if kind == socket.SOCK_STREAM:
                layer = TCP(sport=53, dport=port, flags="SA")
            done = server.run("from_container", b.frame(version, a) / layer, ifindex=b.ifindex)
            assert done.drop == "POLICY"


@FAMILIES
def test_the_pods_own_flows_are_its_own(server: PacketBench, a: Any, b: Any, version: int) -> None:
    """An answer that conntrack knows never meets a socket."""
    server.rule(a.identity, EGRESS)
    with borrowing(ip_address(a.ip(version)), socket.SOCK_DGRAM) as asks:
        asks.connect((b.ip(version), 53))
        port = asks.getsockname()[1]
        question = a.frame(version, b) / UDP(sport=port, dport=53) / Raw(b"question")
        assert server.run("from_container", question, ifindex=a.ifindex).drop == "POLICY"
        server.rule(b.identity, 0)
        assert server.run("from_container", question, ifindex=a.ifindex).verdict == REDIRECT
        assert answer(server, a, b, version, port).verdict == REDIRECT
