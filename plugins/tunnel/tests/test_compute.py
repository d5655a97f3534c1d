"""Device, routes and MTU of the tunnel without a kernel; the Geneve device as a message."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from axoneme.core.config import Config, OptionRegistry
from axoneme.core.errors import ConfigError
from axoneme.core.model.node import Node
from axoneme.core.netlink.links import GENEVE, VXLAN
from axoneme.core.netlink.wire import attributes
from axoneme.core.options import register as register_core
from axoneme.plugins.tunnel import compute
from axoneme.plugins.tunnel import config as options_of
from axoneme.plugins.tunnel.config import TunnelSettings

VX = TunnelSettings("vxlan", 8472, "ipv4")


def load(**flags: str) -> Config:
    """A configuration of the core's keys and ours."""
    registry = OptionRegistry()
    register_core(registry)
    options_of.register(registry)
    return Config.load(registry, {k.replace("_", "-"): v for k, v in flags.items()}, {}, None, None)


def node(number: int, *, local: bool = False, **changes: Any) -> Node:
    """The n-th node."""
    fields: dict[str, Any] = {
        "name": f"node{number}",
        "ipv4": ip_address(f"172.18.0.{number + 1}"),
        "ipv6": ip_address(f"fd00:18::{number + 1}"),
        "router_ipv4": ip_address(f"10.244.{number}.1"),
        "router_ipv6": ip_address(f"fd00:10:244:{number}::1"),
        "pod_cidrs": (
            ip_network(f"10.244.{number}.0/24"),
            ip_network(f"fd00:10:244:{number}::/64"),
        ),
        "local": local,
    }
    return Node(**{**fields, **changes})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ("vxlan", 8472, "ipv4")),
        ({"tunnel_protocol": "geneve"}, ("geneve", 6081, "ipv4")),
        ({"tunnel_port": "4789"}, ("vxlan", 4789, "ipv4")),
        ({"enable_ipv4": "false"}, ("vxlan", 8472, "ipv6")),
        ({"underlay_protocol": "ipv6"}, ("vxlan", 8472, "ipv6")),
    ],
)
def test_defaults_follow_other_keys(flags: dict[str, str], expected: tuple[str, int, str]) -> None:
    """Port by protocol, underlay by family."""
    settings = TunnelSettings.from_config(load(**flags))
    assert (settings.protocol, settings.port, settings.underlay) == expected


def test_an_underlay_of_a_family_that_is_off_is_refused() -> None:
    """The message names both keys."""
    with pytest.raises(ConfigError, match=r"underlay-protocol.*enable-ipv6"):
        options_of.check(load(underlay_protocol="ipv6", enable_ipv6="false"))


def test_an_unknown_protocol_is_refused() -> None:
    """GRE is none of ours."""
    with pytest.raises(ConfigError, match="tunnel-protocol"):
        load(tunnel_protocol="gre")


@pytest.mark.parametrize(("underlay", "mtu"), [("ipv4", 1450), ("ipv6", 1430)])
def test_the_outer_headers_come_off_the_mtu(underlay: str, mtu: int) -> None:
    """50 bytes over IPv4, 70 over IPv6; never below what IPv6 needs."""
    settings = TunnelSettings("vxlan", 8472, underlay)
    assert compute.pod_mtu(1500, settings) == mtu
    assert compute.pod_mtu(1300, settings) == 1280


def test_each_remote_cidr_has_a_route_from_the_router() -> None:
    """Both families; the local node's own CIDRs are not routed away."""
    plan = compute.tunnel_routes([node(1, local=True), node(2), node(3)], VX, 1450)
    assert plan.problems == ()
    assert {str(r.destination) for r in plan.routes} == {
        "10.244.2.0/24", "fd00:10:244:2::/64", "10.244.3.0/24", "fd00:10:244:3::/64",
    }  # fmt: skip
    for route in plan.routes:
        assert (route.link, route.mtu) == ("axo_vxlan", 1450)
        expected = "10.244.1.1" if route.destination.version == 4 else "fd00:10:244:1::1"
        assert str(route.source) == expected


def test_a_node_without_the_underlays_family_is_named() -> None:
    """The others are not held up."""
    plan = compute.tunnel_routes([node(1, local=True), node(2, ipv4=None), node(3)], VX, 1450)
    assert plan.problems == ("node node2 has no ipv4 underlay address",)
    assert len(plan.routes) == 2


def test_without_the_local_node_there_are_no_routes_yet() -> None:
    """No source address, no route."""
    plan = compute.tunnel_routes([node(2)], VX, 1450)
    assert plan.routes == ()
    assert len(plan.problems) == 1


def test_without_a_router_address_of_a_family_that_family_waits() -> None:
    """IPv4 goes on."""
    plan = compute.tunnel_routes([node(1, local=True, router_ipv6=None), node(2)], VX, 1450)
    assert [r.destination.version for r in plan.routes] == [4]
    assert "IPv6" in plan.problems[0]


def encoded(table: Any, values: tuple[tuple[str, Any], ...]) -> dict[int, bytes]:
    """The attributes of a device's kind as they go to the kernel."""
    raw = b"".join(table[key][1](table[key][0], value) for key, value in values)
    return dict(attributes(raw))


def test_the_vxlan_message() -> None:
    """if_link.h: port 15 in network order, collect-metadata 25, learning 7 off."""
    link = compute.tunnel_link(VX, 1450)
    assert (link.name, link.kind, link.mtu, link.arp) == ("axo_vxlan", "vxlan", 1450, False)
    found = encoded(VXLAN, link.attributes)
    assert found[15][:2] == struct.pack("!H", 8472)
    assert found[25][:1] == b"\1"
    assert found[7][:1] == b"\0"


def test_the_geneve_message() -> None:
    """if_link.h: port 5 in network order, collect-metadata 6 is a flag without a value."""
    link = compute.tunnel_link(TunnelSettings("geneve", 6081, "ipv4"), 1450)
    assert (link.name, link.kind) == ("axo_geneve", "geneve")
    found = encoded(GENEVE, link.attributes)
    assert found[5][:2] == struct.pack("!H", 6081)
    assert found[6] == b""
    assert 1 not in found
    assert 2 not in found
