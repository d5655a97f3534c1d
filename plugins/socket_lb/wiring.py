"""What the hooks of the plugin do with an agent."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from attrs import frozen

from axoneme.core.datapath.typed import network
from axoneme.core.errors import AxonemeError
from axoneme.core.model.balancing import TCP, UDP, Backend, GoneBackends
from axoneme.core.netlink.namespaces import run_in_netns
from axoneme.core.netlink.sockets import connected, destroy
from axoneme.core.status import Health
from axoneme.plugins.socket_lb.config import cgroup_root
from axoneme.plugins.socket_lb.datapath import HOST, PROGRAMS, SOCKETS, attachments
from axoneme.plugins.socket_lb.netns import cookie

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address
_U32: Final = struct.Struct("=I")
_U64: Final = struct.Struct("=Q")


@frozen
class SocketKey:
    """``struct axo_socket_key``."""

    cookie: int
    addr: Address
    port: int = network()


@frozen
class SocketName:
    """``struct axo_lb_name``."""

    addr: Address
    port: int = network()


def end_sockets(cookies: set[int], ends: set[tuple[Address, int]], protos: Iterable[int]) -> int:
    """End those of this network namespace that are connected to one of ``ends``."""
    return sum(
        destroy(
            s for s in list(connected(proto)) if s.cookie in cookies and (s.remote, s.port) in ends
        )
        for proto in protos
        if proto in (TCP, UDP)
    )


class SocketBalancer:
    """Socket programs of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.root = cgroup_root(agent.config)
        self.hosts_only = bool(agent.config["bpf-lb-sock-hostns-only"])
        self.ended = 0
        """Sockets ended because their backend was gone."""
        self._agent = agent
        self._gone: list[Backend] = []
        self._news = asyncio.Event()
        if self.root is not None and agent.config["bpf-lb-sock-terminate-pod-connections"]:
            loop = asyncio.get_running_loop()
            gone = agent.services.get(GoneBackends)
            gone.listen(lambda found: loop.call_soon_threadsafe(self._hear, found))
            agent.tasks.spawn("sockets of gone backends", self._follow)

    def _hear(self, found: list[Backend]) -> None:
        self._gone += found
        self._news.set()

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            gone, self._gone = self._gone, []
            places = [e.netns for e in self._agent.endpoints.table.rows() if e.netns]
            spaces = [] if self.hosts_only else places
            ended = await asyncio.to_thread(self._end, gone, spaces)
            self.ended += ended
            if ended:
                log.info("sockets ended", extra={"sockets": ended, "backends": len(gone)})

    def _end(self, gone: list[Backend], spaces: list[str]) -> int:
        """End the sockets that were translated to these backends; blocking."""
        ends = {(b.address, b.port) for b in gone}
        typed = self._agent.datapath.typed(SOCKETS, SocketKey, SocketName)
        cookies = {key.cookie for key, _ in typed.items() if (key.addr, key.port) in ends}
        if not cookies:
            return 0
        work = partial(end_sockets, cookies, ends, {b.proto for b in gone})
        ended = work()
        for space in spaces:
            try:
                ended += run_in_netns(space, work)
            except AxonemeError as error:  # a pod that goes meanwhile takes its sockets along
                log.debug("sockets not ended", extra={"netns": space, "error": str(error)})
        return ended

    def links_changed(self) -> None:
        """Attach; say which network namespace is the node's."""
        if self.root is None:
            return
        self._agent.datapath.map(HOST).update(_U32.pack(0), _U64.pack(cookie()))
        self._agent.datapath.attachments.replace(
            attachments(self.root), where=lambda row: row.program in PROGRAMS
        )

    def report(self, report: StatusReport) -> None:
        """Line ``Socket LB``."""
        if self.root is None:
            report.line("Socket LB", "Disabled   [no cgroup v2 on this machine]")
            report.component(
                "socket-lb", Health.FAILURE, "no cgroup v2: the node's own sockets are not served"
            )
            return
        coverage = "Hostns-only" if self.hosts_only else "Full"
        report.line("Socket LB", f"Enabled   [{coverage}]   {self.root}")
        report.component("socket-lb", Health.OK)

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """What became of sockets whose backend was gone."""
        metrics.collect_counter(
            "service_sockets_ended_total", "Sockets ended because their backend was gone", (),
            lambda: [((), float(self.ended))],
        )  # fmt: skip
