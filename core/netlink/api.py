"""The one door to netlink for the rest of the program.

Blocking: call it in an executor, never on the loop. Safe in several threads at once: each call
borrows a socket of its own, so that a slow removal (a veth takes 20 ms) delays nobody else.
Names go in and project errors come out: :class:`axoneme.core.errors.NetlinkError` with the
kernel's errno and the object's name.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Final

from attrs import evolve

from axoneme.core.errors import NetlinkError
from axoneme.core.model.network import ROUTE_PROTOCOL, Link, Route
from axoneme.core.netlink import (
    addresses,
    foreign,
    links,
    namespaces,
    neighbors,
    pod,
    routes,
    sysctls,
)
from axoneme.core.netlink.addresses import AddressInfo
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.netlink.neighbors import NeighborInfo
from axoneme.core.netlink.routes import RouteInfo
from axoneme.core.netlink.wire import Message, NetlinkSocket

IPAddress = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

DOOMED_GROUP: Final = 0x61786F64
"""``axod``: links on their way out. Whatever else is in a group of this number goes, too."""


class Netlink:
    """Netlink of one network namespace: the process's own, or the one at ``netns``."""

    def __init__(self, netns: str | Path | None = None) -> None:
        self.netns = None if netns is None else namespaces.netns_path(netns)
        self._idle: list[NetlinkSocket] = []
        self._lock = threading.Lock()
        self._doomed = threading.Lock()

    def close(self) -> None:
        """Close idle sockets. The object stays usable."""
        with self._lock:
            idle, self._idle = self._idle, []
        for netlink in idle:
            netlink.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def socket(self) -> Iterator[NetlinkSocket]:
        """Borrow a socket; one that saw anything but a clean answer is not used again."""
        with self._lock:
            netlink = self._idle.pop() if self._idle else None
        if netlink is None:
            netlink = namespaces.open_socket(self.netns)
        try:
            yield netlink
        except NetlinkError:
            self._give_back(netlink)
            raise
        except BaseException:
            netlink.close()
            raise
        else:
            self._give_back(netlink)

    def _give_back(self, netlink: NetlinkSocket) -> None:
        with self._lock:
            self._idle.append(netlink)

    def request(self, message: Message) -> None:
        """Send one message of this package's builders."""
        with self.socket() as netlink:
            netlink.request(message)

    def pipeline(self, messages: Sequence[Message]) -> list[NetlinkError | None]:
        """Send many; a failed one never stops the others. One result each, in order."""
        with self.socket() as netlink:
            return netlink.pipeline(messages)

    def _request_unless(self, message: Message, *fine: int) -> bool:
        """Send; ``False`` when it fails with an errno that means "nothing to do"."""
        try:
            self.request(message)
        except NetlinkError as error:
            if error.errno in fine:
                return False
            raise
        return True

    # Links

    def links(self) -> list[LinkInfo]:
        """Every link."""
        with self.socket() as netlink:
            return links.dump(netlink)

    def link(self, link: str | int) -> LinkInfo | None:
        """A link by name or index."""
        with self.socket() as netlink:
            try:
                return links.get(netlink, link)
            except NetlinkError as error:
                if error.errno == errno.ENODEV:
                    return None
                raise

    def link_index(self, name: str) -> int:
        """Index of a link; ENODEV if there is none."""
        with self.socket() as netlink:
            return netlink.index(name)

    def create_veth(
        self,
        host_name: str,
        peer_name: str,
        peer_netns_fd: int | None = None,
        *,
        mtu: int = 0,
        mac: str = "",
        peer_mac: str = "",
        alias: str = "",
        gso_max_size: int = 0,
        gro_max_size: int = 0,
    ) -> tuple[int, int]:
        """Make a pair, host end up; (index, peer's index in its namespace). EEXIST if taken.

        A peer in the same namespace is up too; in another it stays down until
        :meth:`configure_pod`.
        """
        message = links.create_veth(
            host_name,
            peer_name,
            peer_netns_fd=peer_netns_fd,
            mtu=mtu,
            mac=mac,
            peer_mac=peer_mac,
            gso_max_size=gso_max_size,
            gro_max_size=gro_max_size,
        )
        ends = [host_name] if peer_netns_fd is not None else [host_name, peer_name]
        made = self._make(message, ends, alias, up=True)
        return made.index, made.peer_index

    def create_link(self, link: Link, alias: str = "") -> int:
        """Make a link of any kind, up; its index.

        Kinds that :mod:`axoneme.core.netlink.links` does not know go through pyroute2, with its
        names for their attributes.
        """
        if link.kind == "veth":
            return self.create_veth(link.name, link.peer, mtu=link.mtu, mac=link.mac, alias=alias)[
                0
            ]
        if link.kind not in links.KINDS:
            foreign.create_link(link, alias, self.netns)
            return self.link_index(link.name)
        message = links.create(
            link.name, link.kind, dict(link.attributes), mtu=link.mtu, mac=link.mac, arp=link.arp
        )
        return self._make(message, [link.name], alias).index

    def _make(
        self, message: Message, names: Sequence[str], alias: str, *, up: bool | None = None
    ) -> LinkInfo:
        """Make a link, mark its ends as ours, and look at it: one send and one question."""
        marks = [links.change(name, alias=alias or None, up=up) for name in names]
        with self.socket() as netlink:
            made, *marked = netlink.pipeline([message, *marks])
            if made is not None:
                raise made
            for error in marked:
                if error is not None:
                    netlink.request(links.delete(names[0]))  # nothing half-made is left
                    raise error
            return links.get(netlink, names[0])

    def set_link(
        self,
        link: str | int,
        *,
        up: bool | None = None,
        arp: bool | None = None,
        mtu: int = 0,
        mac: str = "",
        alias: str | None = None,
        netns_fd: int | None = None,
        name: str = "",
    ) -> None:
        """Change a link; ``name`` renames one that is given by index."""
        self.request(
            links.change(
                link, up=up, arp=arp, mtu=mtu, mac=mac, alias=alias, netns_fd=netns_fd, name=name
            )
        )

    def delete_link(self, link: str | int) -> bool:
        """Remove a link (a veth's peer goes too); ``False`` if there was none. Slow: 20 ms."""
        return self._request_unless(links.delete(link), errno.ENODEV)

    def delete_links(self, names: Sequence[str]) -> None:
        """Remove many links, some of which may be gone already: 20 ms for all together.

        They get a group of their own first; the kernel takes a group down as a whole.
        """
        if len(names) < 2:
            for name in names:
                self.delete_link(name)
            return
        with self.socket() as netlink, self._doomed:
            marked = netlink.pipeline([links.set_group(name, DOOMED_GROUP) for name in names])
            for error in marked:
                if error is not None and error.errno != errno.ENODEV:
                    raise error
            if None in marked:
                netlink.request(links.delete_group(DOOMED_GROUP))

    # Addresses

    def addresses(self, link: str = "") -> list[AddressInfo]:
        """Every address, or those of one link."""
        with self.socket() as netlink:
            index = links.get(netlink, link).index if link else 0
            return [x for x in addresses.dump(netlink) if index in (0, x.index)]

    def add_address(self, link: str, address: Interface) -> None:
        """Put an address on a link (IPv6: usable at once); one that is there already is fine."""
        what = f"address {address} on {link}"
        self.request(addresses.add(self.link_index(link), address, what))

    # Routes

    def routes(self, protocol: int = ROUTE_PROTOCOL, table: int = 0) -> list[Route]:
        """Routes with one protocol number (ours), or all (0), their devices by name."""
        with self.socket() as netlink:
            found = routes.dump(netlink, protocol, table)
            names = {x.index: x.name for x in links.dump(netlink)} if found else {}
        return [evolve(x.route, link=names.get(x.index, "")) for x in found]

    def route_infos(self, protocol: int = 0) -> list[RouteInfo]:
        """The same with device indexes and protocol numbers."""
        with self.socket() as netlink:
            return routes.dump(netlink, protocol)

    def replace_route(self, route: Route) -> None:
        """Put a route of ours in place of whatever has its destination, table and metric."""
        self.request(routes.replace(route, self._route_index(route)))

    def replace_routes(self, wanted: Sequence[Route], index: int) -> None:
        """The same for routes on one device, in one send."""
        for error in self.pipeline([routes.replace(route, index) for route in wanted]):
            if error is not None:
                raise error

    def _route_index(self, route: Route) -> int:
        return self.link_index(route.link) if route.link else 0

    # Neighbours

    def neighbors(self, link: str = "") -> list[NeighborInfo]:
        """Every neighbour entry, or those of one link."""
        with self.socket() as netlink:
            index = links.get(netlink, link).index if link else 0
            return [x for x in neighbors.dump(netlink) if index in (0, x.index)]

    # Sysctls

    def set_sysctl(self, name: str, value: str) -> bool:
        """Set a sysctl of the namespace; ``False`` when it was so already."""
        if self.netns is None:
            return sysctls.write(name, value)
        return namespaces.run_in_netns(self.netns, lambda: sysctls.write(name, value))

    # Pods

    def configure_pod(
        self,
        netns: str | Path,
        ifname: str,
        addresses: Sequence[IPAddress],
        gateways: Sequence[IPAddress],
        *,
        gateway_mac: str = "",
        route_mtu: int = 0,
        sysctls: Mapping[str, str] | None = None,
    ) -> None:
        """Sysctls, addresses, link up and routes of a pod's end, in one go (about 1 ms)."""
        config = pod.PodConfig(
            ifname, tuple(addresses), tuple(gateways), gateway_mac, route_mtu, dict(sysctls or {})
        )
        pod.configure(netns, config)

    # Namespaces

    create_netns = staticmethod(namespaces.create_netns)
    delete_netns = staticmethod(namespaces.delete_netns)
    list_netns = staticmethod(namespaces.list_netns)
    in_netns = staticmethod(namespaces.in_netns)
