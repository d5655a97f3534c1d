"""Direct routes without a kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from axoneme.core.model.node import Node
from axoneme.plugins.native_routing.compute import Connected, direct_routes
from axoneme.plugins.native_routing.config import RoutingSettings

ON = RoutingSettings(direct_node_routes=True, skip_unreachable=False)
CONNECTED = (
    Connected("eth0", ip_network("172.18.0.0/24")),
    Connected("eth0", ip_network("fd00:18::/64")),
)


def node(number: int, *, local: bool = False, **changes: Any) -> Node:
    """The n-th node."""
    fields: dict[str, Any] = {
        "name": f"node{number}",
        "ipv4": ip_address(f"172.18.0.{number + 1}"),
        "ipv6": ip_address(f"fd00:18::{number + 1}"),
        "pod_cidrs": (
            ip_network(f"10.244.{number}.0/24"),
            ip_network(f"fd00:10:244:{number}::/64"),
        ),
        "local": local,
    }
    return Node(**{**fields, **changes})


def test_each_remote_cidr_goes_through_its_node() -> None:
    """Both families, by the device that the node is a neighbour on."""
    plan = direct_routes([node(1, local=True), node(2)], CONNECTED, ON, metric=7)
    assert plan.problems == ()
    assert {(str(r.destination), str(r.via), r.link, r.metric) for r in plan.routes} == {
        ("10.244.2.0/24", "172.18.0.3", "eth0", 7),
        ("fd00:10:244:2::/64", "fd00:18::3", "eth0", 7),
    }


def test_routes_are_made_only_when_asked_for() -> None:
    """Without auto-direct-node-routes somebody else makes them."""
    off = RoutingSettings(direct_node_routes=False, skip_unreachable=False)
    assert direct_routes([node(1, local=True), node(2)], CONNECTED, off).routes == ()


@pytest.mark.parametrize("skip", [False, True])
def test_a_node_behind_a_router_is_named_or_skipped(skip: bool) -> None:
    """As direct-routing-skip-unreachable says; its neighbours are served either way."""
    settings = RoutingSettings(direct_node_routes=True, skip_unreachable=skip)
    far = node(3, ipv4=ip_address("192.0.2.3"))
    plan = direct_routes([node(1, local=True), node(2), far], CONNECTED, settings)
    assert len(plan.routes) == 3
    assert len(plan.problems) == (0 if skip else 1)
    assert skip or "node3 (192.0.2.3)" in plan.problems[0]


def test_a_node_without_an_address_of_the_family_is_named() -> None:
    """Pods of a family whose underlay the node does not have."""
    plan = direct_routes([node(1, local=True), node(2, ipv6=None)], CONNECTED, ON)
    assert [r.destination.version for r in plan.routes] == [4]
    assert "node2" in plan.problems[0]
