"""The host firewall plugin: policies with a nodeSelector, for the node's own traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.status import StatusReport

NAME = "host-firewall"
API_VERSION = 1
REQUIRES = ("policy",)
SUMMARY = "Policies with a nodeSelector, for the node's own traffic"

KEY = "enable-host-firewall"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-host-firewall``."""
    options.add(
        KEY,
        "bool",
        False,
        "Enforce policies with a nodeSelector for the node's own traffic",
        helm="hostFirewall.enabled",
    )


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows its switch."""
    return bool(config[KEY]), f"{KEY}: {str(bool(config[KEY])).lower()}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry) -> None:
    """Stages where packets come to this node or leave it."""
    from axoneme.plugins.host_firewall.datapath import register

    register(datapath)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Policy of the node's identity, and what may never be refused."""
    from axoneme.plugins.host_firewall.wiring import HostFirewall

    agent.services.provide(HostFirewall, HostFirewall(agent))


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Host firewall``."""
    from axoneme.plugins.host_firewall.wiring import HostFirewall

    agent.services.get(HostFirewall).report(report)
