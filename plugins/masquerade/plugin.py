"""The masquerade plugin: pods reach the world with the address of their node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.masquerade import config as options_of

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.status import StatusReport

NAME = "masquerade"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Source NAT in BPF for pods that talk to the world"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-ipv4-masquerade`` and its relatives."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On when a family that is on is to be masqueraded, or services need the tables."""
    on = [
        f"enable-ipv{family}-masquerade=true"
        for family in (4, 6)
        if config[f"enable-ipv{family}-masquerade"] and config[f"enable-ipv{family}"]
    ]
    if not on and config["kube-proxy-replacement"]:
        on = ["kube-proxy-replacement=true"]
    return bool(on), ", ".join(on) or "no family is masqueraded"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """Native routing needs a native-routing CIDR."""
    options_of.check(config)


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """Stages of the device programs."""
    from axoneme.plugins.masquerade.config import MasqueradeSettings
    from axoneme.plugins.masquerade.datapath import register_constants, register_stages

    register_stages(datapath)
    datapath.define("AXO_MASQ_AGENT", bool(config["enable-ip-masq-agent"]))
    register_constants(datapath, MasqueradeSettings.from_config(config))


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Addresses and garbage collection of this agent."""
    from axoneme.plugins.masquerade.wiring import Masquerade

    agent.services.provide(Masquerade, Masquerade(agent))


@hookimpl
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Addresses of the native devices."""
    from axoneme.plugins.masquerade.wiring import Masquerade

    agent.services.get(Masquerade).links_changed()


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``bpf.nat``, ``bpf.ipmasq``."""
    from axoneme.plugins.masquerade.wiring import Masquerade

    api.add("bpf.nat", agent.services.get(Masquerade).mappings)
    api.add("bpf.ipmasq", agent.services.get(Masquerade).kept)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme bpf nat``, ``axoneme bpf ipmasq``."""
    from axoneme.plugins.masquerade.cli import register

    register(root)


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """Sizes of the NAT tables."""
    from axoneme.plugins.masquerade.wiring import Masquerade

    agent.services.get(Masquerade).register_metrics(metrics)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``Masquerading``, component ``masquerade``."""
    from axoneme.plugins.masquerade.wiring import Masquerade

    agent.services.get(Masquerade).report(report)
