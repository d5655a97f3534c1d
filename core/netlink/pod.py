"""A pod's interface, made and set up in as few kernel calls as there can be.

One message makes the veth pair with the pod's end in its namespace. One thread then enters that
namespace, writes the sysctls while the link is down, and sends addresses, link-up and routes in
a single send.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from typing import Final

from attrs import Factory, frozen

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import Route
from axoneme.core.netlink import addresses, links, neighbors, routes, sysctls
from axoneme.core.netlink.namespaces import run_in_netns
from axoneme.core.netlink.wire import Message, NetlinkSocket

IPV6_SYSCTLS: Final = {"disable_ipv6": "0", "accept_dad": "0", "accept_ra": "0"}

Address = IPv4Address | IPv6Address


@frozen
class PodConfig:
    """What the pod's end shall have."""

    ifname: str
    addresses: tuple[Address, ...]
    gateways: tuple[Address, ...]
    """At most one of each family: routed on the link itself, and the default route's next hop."""
    gateway_mac: str = ""
    """With it the gateways get permanent neighbour entries: no resolution for the first packet."""
    route_mtu: int = 0
    """MTU on the default routes; 0 leaves it to the link."""
    sysctls: Mapping[str, str] = Factory(dict)
    """Dotted names, of the pod's namespace."""


def configure(netns: str | Path, config: PodConfig) -> None:
    """Set up the pod's end. Doing it again changes nothing."""
    run_in_netns(netns, lambda: _configure(config))


def delete_in(netns: str | Path, ifname: str) -> bool:
    """Remove a stale interface from a pod's namespace; ``False`` if there was none."""

    def work() -> bool:
        with NetlinkSocket() as netlink:
            try:
                netlink.request(links.delete(ifname))
            except NetlinkError as error:
                if error.errno == errno.ENODEV:
                    return False
                raise
            return True

    return run_in_netns(netns, work)


def inspect(netns: str | Path, ifname: str) -> tuple[links.LinkInfo, list[addresses.Interface]]:
    """The pod's link and its addresses, for CHECK."""

    def work() -> tuple[links.LinkInfo, list[addresses.Interface]]:
        with NetlinkSocket() as netlink:
            info = links.get(netlink, ifname)
            every = addresses.dump(netlink)
            return info, [x.interface for x in every if x.index == info.index]

    return run_in_netns(netns, work)


def _configure(config: PodConfig) -> None:
    with NetlinkSocket() as netlink:
        index = netlink.index(config.ifname)
        _write_sysctls(config)
        requests = _requests(config, index)
        for error in netlink.pipeline(requests):
            if error is not None:
                raise error


def _write_sysctls(config: PodConfig) -> None:
    if any(x.version == 6 for x in config.addresses):
        base = f"net/ipv6/conf/{config.ifname}/"
        for name, value in IPV6_SYSCTLS.items():
            sysctls.write(base + name, value)
        sysctls.write("net/ipv6/conf/lo/disable_ipv6", "0")
    for name, value in config.sysctls.items():
        sysctls.write(name, value)


def _requests(config: PodConfig, index: int) -> list[Message]:
    requests = [links.change("lo", up=True)]
    for address in config.addresses:
        interface = ip_interface((address.packed, address.max_prefixlen))
        requests.append(addresses.add(index, interface, f"address {interface}"))
    requests.append(links.change(index, up=True))
    for gateway in config.gateways:
        requests += _gateway_requests(config, index, gateway)
    return requests


def _gateway_requests(config: PodConfig, index: int, gateway: Address) -> list[Message]:
    source = next((x for x in config.addresses if x.version == gateway.version), None)
    if source is None:
        return []
    everything = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
    itself = ip_network((gateway.packed, gateway.max_prefixlen))
    found = [
        routes.replace(Route(itself, source=source), index),
        routes.replace(Route(everything, via=gateway, source=source, mtu=config.route_mtu), index),
    ]
    if config.gateway_mac:
        found.append(neighbors.replace(index, gateway, config.gateway_mac))
    return found
