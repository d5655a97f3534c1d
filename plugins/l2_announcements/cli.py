"""``axoneme l2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the noun."""
    noun(root, "l2", "Show announcements on the link.").add_command(list_announcements)


@click.command("list")
@output_option
@agent_options
def list_announcements(*, agent: AgentHandle, output: Output) -> None:
    """Addresses that this node answers for.

    \b
    axoneme l2 list --node node1
    """
    rows = agent.call("l2.list")
    heads = ["ADDRESS", "INTERFACE", "MAC", "SERVICE"]
    cells = [[r["address"], r["interface"], r["mac"], r["service"]] for r in rows]
    output.emit(rows, lambda: output.table(heads, cells))
