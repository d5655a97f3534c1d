"""What the kernel tells about changes: only to know when a pass is worth it.

Nothing is computed from a notice; the pass reads everything anew. So a lost notice (the
receive buffer overflowed) costs a pass, not correctness.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final

from axoneme.core.model.network import LINK_ALIAS, ROUTE_PROTOCOL
from axoneme.core.netlink import addresses, links, namespaces, routes, wire
from axoneme.core.netlink.api import Netlink
from axoneme.core.netlink.wire import NetlinkSocket

GROUPS: Final = (1, 5, 7, 9, 11)  # RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
QUIET: Final = 0.5
"""Seconds between the first notice and the request, so that a burst makes one."""


class NoticeReader:
    """Make it in any thread, start it on the loop."""

    def __init__(self, netlink: Netlink) -> None:
        def subscribe() -> NetlinkSocket:
            return NetlinkSocket(GROUPS)

        if netlink.netns is None:
            self.netlink = subscribe()
        else:
            self.netlink = namespaces.run_in_netns(netlink.netns, subscribe)
        self.netlink.socket.setblocking(False)
        self._names: dict[int, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._request: Callable[[], None] = lambda: None

    def start(self, loop: asyncio.AbstractEventLoop, request: Callable[[], None]) -> None:
        """Call ``request`` on ``loop`` after something of ours changed."""
        self._loop = loop
        self._request = request
        loop.add_reader(self.netlink.socket.fileno(), self._read)

    def stop(self) -> None:
        """Stop and close."""
        if self._loop is not None:
            self._loop.remove_reader(self.netlink.socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.netlink.close()

    def _read(self) -> None:
        for _ in range(64):  # leave the loop to others after so many
            try:
                data = self.netlink.socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._ask()
                    continue
                raise
            if any(concerns_us(kind, body) for kind, _, _, body in wire.messages(data)):
                self._ask()

    def _ask(self) -> None:
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(QUIET, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._request()


def concerns_us(kind: int, body: bytes) -> bool:
    """Whether a notice may mean that something we want is gone, or that it can now be made."""
    if kind == routes.RTM_DELROUTE and len(body) >= routes.RTMSG.size:
        return bool(body[5] == ROUTE_PROTOCOL)
    if kind == links.RTM_DELLINK and len(body) >= links.IFINFO.size:
        return links.decode(body).alias == LINK_ALIAS
    return kind == addresses.RTM_DELADDR
