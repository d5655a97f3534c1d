"""The services plugin: Kubernetes services in BPF, without kube-proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.services import config as options_of

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.operator import Operator
    from axoneme.core.status import StatusReport
    from axoneme.core.sysdump.node import NodeDump

NAME = "services"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Kubernetes services in BPF, without kube-proxy"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``kube-proxy-replacement`` and its relatives."""
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
    """Stages of the pods' programs, maps, algorithms."""
    from axoneme.plugins.services.datapath import register

    register(datapath, config)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Follow Services and EndpointSlices."""
    from axoneme.plugins.services.wiring import Services

    agent.services.provide(Services, Services(agent))


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """Tell services that an older one has their frontend."""
    from axoneme.plugins.services.claims import FrontendClaims

    operator.services.provide(FrontendClaims, FrontendClaims(operator))


@hookimpl
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Addresses of node ports."""
    from axoneme.plugins.services.wiring import Services

    agent.services.get(Services).look_at_node()


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``service.list``, ``bpf.lb``."""
    from axoneme.plugins.services.views import register_api

    register_api(api, agent)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme service``, ``axoneme bpf lb``."""
    from axoneme.plugins.services.cli import register

    register(root)


@hookimpl
def axoneme_collect_sysdump(dump: NodeDump) -> None:
    """The services of a node."""
    dump.ask("services.json", "service.list")


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Counts of services and of what failed."""
    from axoneme.plugins.services.wiring import Services

    agent.services.get(Services).register_metrics(metrics)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``KubeProxyReplacement``, component ``services``."""
    from axoneme.plugins.services.wiring import Services

    agent.services.get(Services).report(report)
