"""The veth pair of an endpoint: made, set up, found again and removed. Blocking.

The host's end is named after the attachment, so what an unfinished ADD left behind is found
without any record. Both ends get hardware addresses derived from the same text: an interface
that is made again after a crash looks the same to its neighbours.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Final

from attrs import frozen

from axoneme.core.endpoints.request import EndpointRequest
from axoneme.core.errors import NetlinkError, NotFoundError
from axoneme.core.model.endpoint import AddressPair, Endpoint, InterfaceSettings
from axoneme.core.model.network import Route
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.plan import ENDPOINT_ALIAS
from axoneme.core.netlink.pod import delete_in, inspect

log = logging.getLogger(__name__)

PREFIX: Final = "axo"
DIGITS: Final = 10

Address = IPv4Address | IPv6Address


@frozen
class MadeLink:
    """The two ends as the kernel made them."""

    ifname: str
    ifindex: int
    peer_index: int
    mac: str
    """Of the pod's end."""
    host_mac: str


def host_name(attachment_id: str) -> str:
    """Name of the host's end: ``axo`` and ten hexadecimal digits."""
    return PREFIX + hashlib.sha256(attachment_id.encode()).hexdigest()[:DIGITS]


def derived_mac(text: str) -> str:
    """A locally administered unicast address (IEEE 802: second lowest bit of the first octet)."""
    raw = bytearray(hashlib.sha256(text.encode()).digest()[:6])
    raw[0] = raw[0] & 0xFC | 0x02
    return ":".join(f"{octet:02x}" for octet in raw)


def endpoint_routes(endpoint: Endpoint) -> list[Route]:
    """The node's routes to an endpoint: one per address, on the host's end."""
    return [
        _route(address, endpoint.ifname) for address in AddressPair(endpoint.ipv4, endpoint.ipv6)
    ]


@lru_cache(65536)
def _route(address: Address, ifname: str) -> Route:
    """Asked for anew on every pass over the node's network, for every endpoint."""
    return Route(ip_network((address.packed, address.max_prefixlen)), link=ifname)


class EndpointLinks:
    """Makes and removes links through one :class:`Netlink`."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def make(self, request: EndpointRequest, settings: InterfaceSettings) -> MadeLink:
        """The pair, the pod's end in its namespace and still down: no packet can pass yet."""
        name = host_name(request.attachment_id)
        mac = derived_mac(f"{request.attachment_id} pod")
        host_mac = derived_mac(f"{request.attachment_id} host")
        try:
            descriptor = os.open(request.netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(
                f"network namespace {request.netns} of {request.owner}: {error.strerror}"
            ) from error

        def create() -> tuple[int, int]:
            return self._netlink.create_veth(
                name,
                request.ifname,
                peer_netns_fd=descriptor,
                mtu=settings.mtu,
                mac=host_mac,
                peer_mac=mac,
                alias=f"{ENDPOINT_ALIAS}:{request.attachment_id}"[:255],
                gso_max_size=settings.gso_max_size,
                gro_max_size=settings.gro_max_size,
            )

        try:
            try:
                index, peer = create()
            except NetlinkError as error:
                if error.errno != errno.EEXIST:
                    raise
                self._remove_stale(name, request)
                index, peer = create()
        finally:
            os.close(descriptor)
        return MadeLink(name, index, peer, mac, host_mac)

    def set_up(
        self, endpoint: Endpoint, gateways: Sequence[Address], settings: InterfaceSettings
    ) -> None:
        """Routes of the node to the endpoint, then the pod's end: addresses, up, routes."""
        self._netlink.replace_routes(endpoint_routes(endpoint), endpoint.ifindex)
        pair = AddressPair(endpoint.ipv4, endpoint.ipv6)
        self._netlink.configure_pod(
            endpoint.netns,
            endpoint.container_ifname,
            list(pair),
            list(gateways),
            gateway_mac=endpoint.host_mac,
            route_mtu=settings.route_mtu,
            sysctls=settings.sysctls,
        )

    def remove(self, name: str) -> bool:
        """Remove the pair by its host's end; false if there was none. About 20 ms."""
        return self._netlink.delete_link(name)

    def remove_all(self, names: Sequence[str]) -> None:
        """Remove many pairs, some of which may be gone; 20 ms for all together."""
        self._netlink.delete_links(names)

    def find(self, endpoint: Endpoint) -> int:
        """Index of the host's end if it is there and ours, else 0."""
        link = self._netlink.link(endpoint.ifname)
        return link.index if link is not None and link.alias.startswith(ENDPOINT_ALIAS) else 0

    def attachments(self) -> dict[str, str]:
        """Every endpoint link of ours by its name, with the attachment that it was made for."""
        found = {}
        for link in self._netlink.links():
            ours, _, attachment = link.alias.partition(f"{ENDPOINT_ALIAS}:")
            if not ours and attachment and host_name(attachment) == link.name:
                found[link.name] = attachment
        return found

    def check(self, endpoint: Endpoint) -> str:
        """What is wrong with an endpoint's interface; empty when all is well."""
        index = self.find(endpoint)
        if index != endpoint.ifindex:
            return f"link {endpoint.ifname} is gone"
        if not endpoint.netns:  # an endpoint that was rebuilt: nobody knows
            return ""
        if not Path(endpoint.netns).exists():
            return f"network namespace {endpoint.netns} is gone"
        try:
            link, addresses = inspect(endpoint.netns, endpoint.container_ifname)
        except NetlinkError as error:
            return str(error)
        have = {a.ip for a in addresses}
        for address in AddressPair(endpoint.ipv4, endpoint.ipv6):
            if address not in have:
                return f"{endpoint.container_ifname} has lost the address {address}"
        return "" if link.up else f"{endpoint.container_ifname} is down"

    def sweep(self, keep: Iterable[str]) -> list[str]:
        """Remove endpoint links of ours that no endpoint owns: what a killed ADD left."""
        wanted = set(keep)
        stray = [
            link.name
            for link in self._netlink.links()
            if link.alias.startswith(ENDPOINT_ALIAS) and link.name not in wanted
        ]
        try:
            self._netlink.delete_links(stray)
        except NetlinkError as error:
            log.warning("stale links stay", extra={"links": stray, "error": str(error)})
            return []
        return stray

    def _remove_stale(self, name: str, request: EndpointRequest) -> None:
        """What an unfinished ADD of the same attachment left, on either side."""
        old = self._netlink.link(name)
        if old is not None:
            if not old.alias.startswith(ENDPOINT_ALIAS):
                raise NetlinkError(f"link {name} is there and not ours", errno=errno.EEXIST)
            self._netlink.delete_link(name)
        if delete_in(request.netns, request.ifname):
            log.warning(
                "stale interface removed",
                extra={"netns": request.netns, "interface": request.ifname},
            )
