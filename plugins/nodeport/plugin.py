"""The nodeport plugin: services for who comes from outside the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.nodeport import config as options_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.status import StatusReport

NAME = "nodeport"
API_VERSION = 1
REQUIRES = ("services", "masquerade")
SUMMARY = "Node ports, load balancers' and external addresses for outsiders"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``bpf-lb-dsr-dispatch``, ``bpf-lb-acceleration``, ``bpf-lb-rss-*``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows ``kube-proxy-replacement``."""
    on = bool(config[options_of.KEY])
    return on, f"{options_of.KEY}={str(on).lower()}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """What does not go together."""
    options_of.check(config)


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """Stages of the devices' programs, and one where frames come from the wire."""
    from axoneme.plugins.nodeport.datapath import register, register_xdp

    register(datapath, options_of.constants(config))
    if config[options_of.ACCELERATION] != "disabled":
        register_xdp(datapath)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Where XDP runs."""
    from axoneme.plugins.nodeport.wiring import Acceleration

    agent.services.provide(Acceleration, Acceleration(agent))


@hookimpl
def axoneme_links_changed(agent: Agent) -> None:
    """XDP on the devices of now."""
    from axoneme.plugins.nodeport.wiring import Acceleration

    agent.services.get(Acceleration).follow()


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Detail ``XDP Acceleration``, component ``xdp``."""
    from axoneme.plugins.nodeport.wiring import Acceleration

    agent.services.get(Acceleration).report(report)
