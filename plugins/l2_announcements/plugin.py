"""The l2_announcements plugin: services' addresses, answered for on the link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from axoneme.hooks import hookimpl
from axoneme.plugins.l2_announcements import config as options_of

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.netlink.links import LinkInfo
    from axoneme.core.status import StatusReport

NAME = "l2-announcements"
API_VERSION = 1
REQUIRES = ("services",)
SUMMARY = "Services' addresses, answered for on the link by one node"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-l2-announcements`` and its times."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows its switch."""
    on = bool(config[options_of.KEY])
    return on, f"{options_of.KEY}={str(on).lower()}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """Times that fit."""
    options_of.check(config)


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry) -> None:
    """The stage that answers."""
    from axoneme.plugins.l2_announcements.datapath import register

    register(datapath)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Follow policies and services."""
    from axoneme.plugins.l2_announcements.wiring import L2Announcer

    agent.services.provide(L2Announcer, L2Announcer(agent))


@hookimpl
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Devices and their MAC addresses."""
    from axoneme.plugins.l2_announcements.wiring import L2Announcer

    agent.services.get(L2Announcer).look()


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``l2.list``."""
    from axoneme.plugins.l2_announcements.wiring import L2Announcer

    async def rows(params: Mapping[str, Any]) -> Any:
        return agent.services.get(L2Announcer).rows()

    api.add("l2.list", rows)


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme l2``."""
    from axoneme.plugins.l2_announcements.cli import register

    register(root)


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """How much is announced."""
    from axoneme.plugins.l2_announcements.wiring import L2Announcer

    agent.services.get(L2Announcer).register_metrics(metrics)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """Line ``L2 Announcements``."""
    from axoneme.plugins.l2_announcements.wiring import L2Announcer

    agent.services.get(L2Announcer).report(report)
