"""``axoneme portguard list``."""

from __future__ import annotations

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.core.cli.output import Output


@click.group()
def portguard() -> None:
    """Show the ports that pods may not send to."""


@portguard.command("list")
@agent_options
@output_option
def list_ports(agent: AgentHandle, output: Output) -> None:
    """List guarded ports and what was dropped.

    \b
    axoneme portguard list --node node1
    """
    rows = agent.call("portguard.list")
    columns = ("port", "protocol", "packets", "bytes")
    headings = [name.upper() for name in columns]
    output.emit(
        rows, lambda: output.table(headings, [[row[name] for name in columns] for row in rows])
    )
