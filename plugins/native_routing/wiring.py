"""What the hooks of the native routing plugin do with an agent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from axoneme.core.status import Health
from axoneme.plugins.native_routing.compute import Connected, direct_routes
from axoneme.plugins.native_routing.config import RoutingSettings

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.model.network import NetworkState
    from axoneme.core.status import StatusReport

log = logging.getLogger(__name__)


class NativeRouting:
    """Routes of one agent; lives on the loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self.settings = RoutingSettings.from_config(agent.config)
        self.problems: tuple[str, ...] = ()
        self.routes = 0
        self._agent = agent

    def describe(self, state: NetworkState) -> None:
        """A route to each remote pod CIDR whose node is a neighbour."""
        connected = [
            Connected(device.name, network)
            for device in self._agent.node.devices.devices
            for network in device.networks
        ]
        plan = direct_routes(
            self._agent.tables["nodes"].rows(),
            connected,
            self.settings,
            int(self._agent.config["route-metric"]),
        )
        state.routes.update(plan.routes)
        self.routes = len(plan.routes)
        for problem in plan.problems:
            if problem not in self.problems:
                log.warning("direct route left out", extra={"reason": problem})
        self.problems = plan.problems

    def report(self, report: StatusReport) -> None:
        """One line, and what is wrong."""
        how = "the node's own routes"
        if self.settings.direct_node_routes:
            how = f"{self.routes} direct routes to other nodes"
        report.line("Native routing", how)
        if self.problems:
            report.component("native-routing", Health.WARNING, "; ".join(self.problems))
        else:
            report.component("native-routing", Health.OK)
