"""What counts as the node itself."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from axoneme.core.agent.facts import broadcasts
from axoneme.core.devices import Device, NodeDevices


def test_the_broadcast_of_a_connected_network_is_the_node() -> None:
    """Else leave to talk to the world would reach the node's own sockets by it."""
    networks = (
        IPv4Network("172.18.0.0/16"),
        IPv4Network("192.0.2.0/31"),
        IPv4Network("192.0.2.9/32"),
        IPv6Network("fd00:18::/64"),
    )
    device = Device("eth0", 2, 1500, "02:00:00:00:00:01", networks=networks)
    assert broadcasts(NodeDevices((device,))) == {IPv4Address("172.18.255.255")}
