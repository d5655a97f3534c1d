"""``axoneme lrp``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the noun."""
    noun(root, "lrp", "Show local redirect policies.").add_command(list_policies)


@click.command("list")
@output_option
@agent_options
def list_policies(*, agent: AgentHandle, output: Output) -> None:
    """Local redirect policies and the pods of this node that they lead to.

    \b
    axoneme lrp list --node node1
    """
    rows = agent.call("lrp.list")
    heads = ["LRP", "TYPE", "FRONTEND", "BACKENDS"]
    cells = [[r["name"], r["type"], r["frontend"], r["backends"] or ["-"]] for r in rows]
    output.emit(rows, lambda: output.table(heads, cells))
