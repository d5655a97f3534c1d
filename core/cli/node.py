"""``axoneme node``: the nodes of the cluster as this agent knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("node", cls=Noun)
def node() -> None:
    """Show the nodes of the cluster.

    \b
    axoneme node list
    """


@node.command("list")
@output_option
@agent_options
def list_nodes(*, agent: AgentHandle, output: Output) -> None:
    """Every node: addresses and pod CIDRs. A * marks the agent's own.

    \b
    axoneme node list
    axoneme node list -o json
    """
    rows = agent.call("node.list")
    output.emit(
        rows,
        lambda: output.table(
            ["Name", "IPv4 Address", "IPv6 Address", "Router", "Pod CIDRs"],
            [
                (
                    r["name"] + (" *" if r["local"] else ""),
                    r["ipv4"],
                    r["ipv6"],
                    [x for x in (r["router-ipv4"], r["router-ipv6"]) if x],
                    r["pod-cidrs"],
                )
                for r in rows
            ],
            empty="no node",
        ),
    )
