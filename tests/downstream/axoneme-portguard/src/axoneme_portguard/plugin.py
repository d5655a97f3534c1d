"""Wiring: which hook calls what. See README.md, which walks through this file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axoneme.hooks import API_VERSION as CURRENT
from axoneme.hooks import hookimpl
from axoneme_portguard import config as keys

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.metrics import MetricRegistry
    from axoneme_portguard.datapath import PortMap

NAME = "portguard"
API_VERSION = CURRENT
REQUIRES = ()
SUMMARY = "drops what pods send to forbidden ports"

SOURCE = Path(__file__).parent / "portguard.bpf.c"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare ``portguard-ports``."""
    keys.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On as soon as there is a port to guard."""
    ports = config[keys.KEY]
    return bool(ports), f"{keys.KEY} names {len(ports)} ports" if ports else f"no {keys.KEY}"


@hookimpl
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """Run our stage on what a pod sends, after its address has been checked."""
    datapath.stage("from_container_sender", "portguard_egress", SOURCE, order=100)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """Fill the table from the configuration and let a reconciler bring it into the kernel."""
    from axoneme.core.reconcile.reconciler import Reconciler
    from axoneme_portguard.datapath import PortTarget
    from axoneme_portguard.tables import GuardedPort

    table = agent.tables.create("portguard", GuardedPort, key=lambda row: row.key)
    table.replace(keys.guarded(agent.config))
    table.mark_initialized()
    target = PortTarget(lambda: open_map(agent))
    agent.add_reconciler(Reconciler("portguard", table, target))
    agent.live_options.follow(keys.KEY, lambda words: table.replace(keys.parse(words)))


@hookimpl
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """``portguard.list``: the ports and what was dropped."""
    from axoneme_portguard.datapath import counts

    async def rows(params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"port": port, "protocol": protocol, "packets": count.packets, "bytes": count.bytes}
            for (port, protocol), count in counts(open_map(agent))
        ]

    api.add("portguard.list", rows)


@hookimpl
def axoneme_register_metrics(metrics: MetricRegistry, agent: Agent) -> None:
    """``axoneme_portguard_dropped_packets_total``, read from the map when somebody scrapes."""
    from axoneme_portguard.datapath import counts

    metrics.collect_counter(
        "portguard_dropped_packets_total",
        "Packets to guarded ports that were dropped",
        ["port", "protocol"],
        lambda: [
            ((str(port), protocol), count.packets)
            for (port, protocol), count in counts(open_map(agent))
        ],
    )


@hookimpl
def axoneme_register_commands(root: click.Group) -> None:
    """``axoneme portguard list``."""
    from axoneme_portguard.cli import portguard

    root.add_command(portguard)


def open_map(agent: Agent) -> PortMap:
    """The map, bound to our models; raises when a field of the C struct has another name."""
    from axoneme_portguard.datapath import MAP, Count, Key

    return agent.datapath.typed(MAP, Key, Count)
