"""One full pass over the node's network: read, compare, apply in order, sweep.

Blocking; one thread at a time. Whatever fails is noted under its name and stops nothing else.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from attrs import Factory, define

from axoneme.core.errors import AxonemeError, NetlinkError
from axoneme.core.model.network import LINK_ALIAS, ROUTE_PROTOCOL, Link, NetworkState
from axoneme.core.netlink import addresses, links, neighbors, plan, routes
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.links import LinkInfo
from axoneme.core.netlink.wire import Message, NetlinkSocket

log = logging.getLogger(__name__)

X = TypeVar("X")

GRACE: Final = 2.0
"""Seconds that a thing with our mark, never wanted so far, is left alone: an endpoint in the
making has its routes before anybody's state names them."""


@define
class PassResult:
    """What a pass did: names of what is as wanted, what failed, how many steps it took."""

    done: list[str] = Factory(list)
    failed: dict[str, Exception] = Factory(dict)
    changed: int = 0
    swept: int = 0
    waiting: int = 0
    """Unwanted things that still have their grace."""


class NetworkTarget:
    """Applies states through one :class:`Netlink`."""

    def __init__(self, netlink: Netlink, *, grace: float = GRACE) -> None:
        self.netlink = netlink
        self.grace = grace
        self._wanted_before: set[str] = set()
        self._strangers: dict[str, float] = {}

    def apply(self, state: NetworkState) -> PassResult:
        """Make the kernel hold ``state``."""
        result = PassResult()
        seen: set[str] = set()
        self._links(state, result, seen)
        self._sysctls(state, result)
        with self.netlink.socket() as socket:
            names = {x.index: x for x in links.dump(socket)}
            self._addresses(state, socket, names, result, seen)
            self._routes(state, socket, names, result, seen)
            self._neighbors(state, socket, names, result, seen)
        self._wanted_before = _names(state)
        self._strangers = {k: v for k, v in self._strangers.items() if k in seen}
        result.done = sorted(self._wanted_before - result.failed.keys())
        return result

    # Links

    def _links(self, state: NetworkState, result: PassResult, seen: set[str]) -> None:
        have = {x.name: x for x in self.netlink.links()}
        steps = plan.plan_links(state.links, have)
        for link in steps.foreign:
            name = f"link {link.name}"
            result.failed[name] = NetlinkError(
                f"{name}: there is one that is not ours",
                errno=errno.EEXIST,
                hint=f"remove it, or give it the alias {LINK_ALIAS}",
            )
        makers: list[tuple[list[Link], Callable[[Link], object]]] = [
            (steps.remake, self._remake),
            (steps.missing, lambda x: self.netlink.create_link(x, LINK_ALIAS)),
            (steps.change, self._change),
        ]
        for some, make in makers:
            for link in some:
                result.changed += self._try(f"link {link.name}", result, make, link)
        gone = [x for x in steps.extra if self._may_sweep(f"link {x.name}", result, seen)]
        for info in gone:
            name = f"link {info.name}"
            result.swept += self._try(name, result, self.netlink.delete_link, info.name)

    def _remake(self, link: Link) -> None:
        self.netlink.delete_link(link.name)
        self.netlink.create_link(link, LINK_ALIAS)

    def _change(self, link: Link) -> None:
        self.netlink.set_link(link.name, up=True, mtu=link.mtu, mac=link.mac, arp=link.arp)

    # Sysctls

    def _sysctls(self, state: NetworkState, result: PassResult) -> None:
        for name, value in state.sysctls.items():
            try:
                result.changed += self.netlink.set_sysctl(name, value)
            except AxonemeError as error:
                result.failed[f"sysctl {name}"] = error

    # What hangs on links

    def _addresses(
        self,
        state: NetworkState,
        socket: NetlinkSocket,
        names: dict[int, LinkInfo],
        result: PassResult,
        seen: set[str],
    ) -> None:
        indexes = {x.name: x.index for x in names.values()}
        missing, extra = plan.plan_addresses(state.addresses, addresses.dump(socket), names)
        requests: list[Message] = []
        for address in missing:
            name = f"address {address.address} on {address.link}"
            if _have_link(address.link, indexes, name, result):
                requests.append(addresses.add(indexes[address.link], address.address, name))
        self._send(socket, requests, result)
        sweep = [
            addresses.delete(indexes[x.link], x.address, name)
            for x in extra
            if self._may_sweep(name := f"address {x.address} on {x.link}", result, seen)
        ]
        self._send(socket, sweep, result, fine=(errno.EADDRNOTAVAIL,), sweep=True)

    def _routes(
        self,
        state: NetworkState,
        socket: NetlinkSocket,
        names: dict[int, LinkInfo],
        result: PassResult,
        seen: set[str],
    ) -> None:
        indexes = {x.name: x.index for x in names.values()}
        have = routes.dump(socket, ROUTE_PROTOCOL)
        missing, changed, extra = plan.plan_routes(state.routes, have, names)
        requests = []
        for build, some in ((routes.add, missing), (routes.replace, changed)):
            for route in some:
                name = routes.describe(route)
                try:
                    if _have_link(route.link, indexes, name, result):
                        requests.append(build(route, indexes.get(route.link, 0)))
                except NetlinkError as error:
                    result.failed[name] = error
        self._send(socket, requests, result)
        sweep = [
            routes.delete(route, indexes.get(route.link, 0))
            for route in extra
            if self._may_sweep(routes.describe(route), result, seen)
        ]
        self._send(socket, sweep, result, fine=(errno.ESRCH,), sweep=True)

    def _neighbors(
        self,
        state: NetworkState,
        socket: NetlinkSocket,
        names: dict[int, LinkInfo],
        result: PassResult,
        seen: set[str],
    ) -> None:
        indexes = {x.name: x.index for x in names.values()}
        missing, extra = plan.plan_neighbors(state.neighbors, neighbors.dump(socket), names)
        requests = []
        for neighbor in missing:
            name = f"neighbour {neighbor.address} on {neighbor.link}"
            if _have_link(neighbor.link, indexes, name, result):
                index = indexes[neighbor.link]
                requests.append(neighbors.replace(index, neighbor.address, neighbor.mac, name))
        self._send(socket, requests, result)
        sweep = [
            neighbors.delete(indexes[x.link], x.address, name)
            for x in extra
            if self._may_sweep(name := f"neighbour {x.address} on {x.link}", result, seen)
        ]
        self._send(socket, sweep, result, fine=(errno.ENOENT,), sweep=True)

    # Helpers

    def _send(
        self,
        socket: NetlinkSocket,
        requests: list[Message],
        result: PassResult,
        *,
        fine: Iterable[int] = (),
        sweep: bool = False,
    ) -> None:
        for message, error in zip(requests, socket.pipeline(requests), strict=True):
            if error is not None and error.errno not in fine:
                result.failed[message.what] = error
            elif sweep:
                result.swept += 1
            else:
                result.changed += 1

    def _may_sweep(self, name: str, result: PassResult, seen: set[str]) -> bool:
        """Whether an unwanted thing goes now: at once if it was wanted before, else later."""
        if name in self._wanted_before:
            return True
        seen.add(name)
        now = time.monotonic()
        if now - self._strangers.setdefault(name, now) >= self.grace:
            log.info("swept", extra={"object": name})
            return True
        result.waiting += 1
        return False

    @staticmethod
    def _try(name: str, result: PassResult, step: Callable[[X], object], value: X) -> bool:
        try:
            step(value)
        except AxonemeError as error:
            result.failed[name] = error
            return False
        return True


def _have_link(link: str, indexes: dict[str, int], name: str, result: PassResult) -> bool:
    if not link or link in indexes:
        return True
    result.failed[name] = NetlinkError(f"{name}: no link {link!r}", errno=errno.ENODEV)
    return False


def _names(state: NetworkState) -> set[str]:
    """The names under which a state's items stand in results."""
    return (
        {f"link {x}" for x in state.links}
        | {f"sysctl {x}" for x in state.sysctls}
        | {f"address {x.address} on {x.link}" for x in state.addresses}
        | {routes.describe(x) for x in state.routes}
        | {f"neighbour {x.address} on {x.link}" for x in state.neighbors}
    )
