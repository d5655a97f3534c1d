"""What the hooks of the tunnel plugin do with an agent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.core.nodes.runtime import number_fact
from axoneme.core.status import Health
from axoneme.plugins.tunnel import compute
from axoneme.plugins.tunnel.config import TunnelSettings
from axoneme.plugins.tunnel.datapath import FACT, HOOKS, attachments

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.model.endpoint import InterfaceSettings
    from axoneme.core.model.network import NetworkState
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)


class Tunnel:
    """The tunnel of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.settings = TunnelSettings.from_config(agent.config)
        self.problems: tuple[str, ...] = ()
        self.routes = 0
        self.ifindex = 0
        self._agent = agent
        agent.encapsulation["tunnel"] = self.settings.overhead

    def describe(self, state: NetworkState) -> None:
        """The device, and a route to each remote pod CIDR."""
        mtu = self._agent.pod_mtu()
        link = compute.tunnel_link(self.settings, mtu)
        state.links[link.name] = link
        plan = compute.tunnel_routes(
            self._agent.tables["nodes"].rows(),
            self.settings,
            mtu,
            int(self._agent.config["route-metric"]),
        )
        state.routes.update(plan.routes)
        self.routes = len(plan.routes)
        for problem in plan.problems:
            if problem not in self.problems:
                log.warning("tunnel route left out", extra={"reason": problem})
        self.problems = plan.problems

    def configure(self, settings: InterfaceSettings) -> None:
        """Room for the outer headers in a pod's interface."""
        settings.mtu = compute.pod_mtu(settings.mtu, self.settings)

    def links_changed(self, links: Mapping[str, LinkInfo]) -> None:
        """Attach to the device as it is now, and tell the stages its number."""
        found = links.get(self.settings.device)
        self.ifindex = found.index if found else 0
        wanted = attachments(self.ifindex, self.settings.device) if found else []
        programs = {program for _, program in HOOKS}
        self._agent.datapath.attachments.replace(wanted, where=lambda row: row.program in programs)
        self._agent.tables["runtime"].upsert(number_fact(FACT, self.ifindex))

    def report(self, report: StatusReport) -> None:
        """One line, and what is wrong."""
        settings = self.settings
        text = (
            f"{settings.protocol} on {settings.device}, UDP port {settings.port}, "
            f"{settings.underlay} underlay, {self.routes} remote pod CIDRs"
        )
        report.line("Tunnel", text)
        if not self.ifindex:
            report.component("tunnel", Health.FAILURE, f"device {settings.device} is not there yet")
        elif self.problems:
            report.component("tunnel", Health.WARNING, "; ".join(self.problems))
        else:
            report.component("tunnel", Health.OK)
