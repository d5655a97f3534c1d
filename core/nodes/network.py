"""What the core itself wants of the node's network.

The pair ``axo_host``/``axo_net`` holds the router addresses; each endpoint has a route; addresses
of the node's pod CIDRs that nobody has are unreachable, so that packets for them never circle
between nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Final

from axoneme.core.endpoints.links import derived_mac, endpoint_routes
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.network import Address, Link, NetworkState, Route
from axoneme.core.nodes.local import LocalNode

HOST: Final = "axo_host"
HOST_PEER: Final = "axo_net"
LAST_METRIC: Final = 4278198272
"""Higher than any other route's: the unreachable route is only for what nobody else serves."""


def describe(
    state: NetworkState, node: LocalNode, endpoints: Iterable[Endpoint], *, ipv4: bool, ipv6: bool
) -> None:
    """Add links, addresses, routes and sysctls of the core."""
    mtu = node.devices.mtu
    mac = derived_mac(f"{node.name} {HOST}")
    state.links[HOST] = Link(HOST, "veth", mtu=mtu, mac=mac, peer=HOST_PEER)
    for router in node.routers:
        state.addresses.add(Address(HOST, ip_interface((router.packed, router.max_prefixlen))))
    for prefix in node.pod_cidrs:
        state.routes.add(Route(prefix, kind="unreachable", metric=LAST_METRIC))
    for endpoint in endpoints:
        if endpoint.ifindex and endpoint.state != EndpointState.DISCONNECTING:
            state.routes.update(endpoint_routes(endpoint))
    _sysctls(state, ipv4=ipv4, ipv6=ipv6)


def _sysctls(state: NetworkState, *, ipv4: bool, ipv6: bool) -> None:
    """Forwarding on; reverse-path filter off where the packet path decides."""
    if ipv4:
        state.sysctls["net.ipv4.ip_forward"] = "1"
        # The strictest of "all" and the device's own value counts, hence both.
        for name in ("all", "default", HOST, HOST_PEER):
            state.sysctls[f"net.ipv4.conf.{name}.rp_filter"] = "0"
    if ipv6:
        state.sysctls["net.ipv6.conf.all.forwarding"] = "1"
        state.sysctls["net.ipv6.conf.all.disable_ipv6"] = "0"
