"""The tunnel plugin: VXLAN or Geneve between nodes, the source identity in the VNI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.tunnel import config as options_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.model.endpoint import Endpoint, InterfaceSettings
    from axoneme.core.model.network import NetworkState
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.status import StatusReport

NAME = "tunnel"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "VXLAN or Geneve between nodes, the source identity in the VNI"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``tunnel-protocol`` and its relatives."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On in routing mode tunnel."""
    return config["routing-mode"] == "tunnel", f"routing-mode={config['routing-mode']}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """The underlay's family must be on."""
    options_of.check(config)


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """Programs of the tunnel device, forwarding stages."""
    from axoneme.plugins.tunnel.datapath import register_stages

    register_stages(datapath, options_of.TunnelSettings.from_config(config).port)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """The tunnel of this agent."""
    from axoneme.plugins.tunnel.wiring import Tunnel

    agent.services.provide(Tunnel, Tunnel(agent))


@hookimpl
def axoneme_describe_network(state: NetworkState, agent: Agent) -> None:
    """Device and routes."""
    from axoneme.plugins.tunnel.wiring import Tunnel

    agent.services.get(Tunnel).describe(state)


@hookimpl
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Attachments of the device."""
    from axoneme.plugins.tunnel.wiring import Tunnel

    agent.services.get(Tunnel).links_changed(links)


@hookimpl
def axoneme_configure_interface(
    endpoint: Endpoint, settings: InterfaceSettings, agent: Agent
) -> None:
    """Room for the outer headers."""
    from axoneme.plugins.tunnel.wiring import Tunnel

    agent.services.get(Tunnel).configure(settings)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Tunnel``, component ``tunnel``."""
    from axoneme.plugins.tunnel.wiring import Tunnel

    agent.services.get(Tunnel).report(report)
