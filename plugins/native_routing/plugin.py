"""The native routing plugin: pods' packets leave by the node's own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.native_routing import config as options_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.model.network import NetworkState
    from axoneme.core.status import StatusReport

NAME = "native-routing"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Pods of other nodes by plain routing; direct node routes where asked"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``auto-direct-node-routes`` and its relative."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On in routing mode native."""
    return config["routing-mode"] == "native", f"routing-mode={config['routing-mode']}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """The forwarding stage."""
    from axoneme.plugins.native_routing.datapath import register_stages

    register_stages(datapath)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """The routes of this agent."""
    from axoneme.plugins.native_routing.wiring import NativeRouting

    agent.services.provide(NativeRouting, NativeRouting(agent))


@hookimpl
def axoneme_describe_network(state: NetworkState, agent: Agent) -> None:
    """Direct routes."""
    from axoneme.plugins.native_routing.wiring import NativeRouting

    agent.services.get(NativeRouting).describe(state)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Native routing``, component ``native-routing``."""
    from axoneme.plugins.native_routing.wiring import NativeRouting

    agent.services.get(NativeRouting).report(report)
