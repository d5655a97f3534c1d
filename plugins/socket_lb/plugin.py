"""The socket_lb plugin: services where programs connect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.socket_lb import config as options_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.status import StatusReport

NAME = "socket-lb"
API_VERSION = 1
REQUIRES = ("services",)
SUMMARY = "Services where programs connect: no packet is changed"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``bpf-lb-sock`` and its relatives."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows ``kube-proxy-replacement``, which the node's own sockets depend on."""
    on = bool(config["kube-proxy-replacement"])
    return on, f"kube-proxy-replacement={str(on).lower()}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """The socket programs."""
    from axoneme.plugins.socket_lb.datapath import register

    register(datapath, config)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Socket programs of this agent."""
    from axoneme.plugins.socket_lb.wiring import SocketBalancer

    agent.services.provide(SocketBalancer, SocketBalancer(agent))


@hookimpl
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Attach."""
    from axoneme.plugins.socket_lb.wiring import SocketBalancer

    agent.services.get(SocketBalancer).links_changed()


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Sockets that were ended."""
    from axoneme.plugins.socket_lb.wiring import SocketBalancer

    agent.services.get(SocketBalancer).register_metrics(metrics)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Socket LB``, component ``socket-lb``."""
    from axoneme.plugins.socket_lb.wiring import SocketBalancer

    agent.services.get(SocketBalancer).report(report)
