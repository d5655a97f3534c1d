"""The fqdn plugin: DNS rules, and policies about names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.fqdn import config as options_of

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.model.l7 import L7Registry
    from axoneme.core.model.network import NetworkState
    from axoneme.core.status import StatusReport

NAME = "fqdn"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "DNS rules and policies by name, with a proxy in a process of its own"

PRECEDENCE = 255 - 121
"""Of redirects of DNS among others: reference §2.3."""


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-l7-proxy``, ``tofqdns-…``, ``dnsproxy-…``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows ``enable-l7-proxy``."""
    on = bool(config[options_of.SWITCH])
    return on, f"{options_of.SWITCH}: {str(on).lower()}"


@hookimpl
def axoneme_register_l7(protocols: L7Registry, config: Config) -> None:
    """DNS, on egress."""
    from axoneme.core.model.l7 import L7Protocol
    from axoneme.plugins.fqdn.ports import PORTS

    protocols.add(L7Protocol("dns", PRECEDENCE, lambda: PORTS.get(protocols, 0)))


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """The ways to the proxy's sockets."""
    source = Path(__file__).with_name("fqdn.bpf.c")
    datapath.stage("egress_proxy", "fqdn_egress_proxy", source)
    if config.flag(options_of.TRANSPARENT):
        datapath.stage("ingress_proxy", "fqdn_ingress_proxy", source)


@hookimpl
def axoneme_describe_network(state: NetworkState, agent: Agent) -> None:
    """The table in which everything is local."""
    from axoneme.plugins.fqdn.routing import describe

    describe(state, agent)


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``fqdn.cache``, ``fqdn.clean``, ``fqdn.names``; and the start of the plugin's work.

    Here, when every plugin is set up: without one that brings policy there is nothing to do.
    """
    from axoneme.plugins.fqdn.wiring import start

    names = start(agent)
    if names is not None:
        api.add("fqdn.cache", names.entries)
        api.add("fqdn.clean", names.clean)
        api.add("fqdn.names", names.names)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme fqdn``."""
    from axoneme.plugins.fqdn.cli import register

    register(root)


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Those of reference §7."""
    from axoneme.plugins.fqdn.agent import FqdnAgent
    from axoneme.plugins.fqdn.observe import register_metrics

    names = agent.services.find(FqdnAgent)
    if names is not None:
        register_metrics(metrics, names)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Proxy Status``, component ``dns-proxy``."""
    from axoneme.plugins.fqdn.agent import FqdnAgent
    from axoneme.plugins.fqdn.observe import report_status

    names = agent.services.find(FqdnAgent)
    if names is not None:
        report_status(report, names)
