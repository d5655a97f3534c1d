"""``axoneme ip``: which identity stands behind an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("ip", cls=Noun)
def ip() -> None:
    """Show which identity stands behind an address.

    \b
    axoneme ip list
    axoneme ip list 10.244.1.7
    """


@ip.command("list")
@click.argument("address", required=False)
@click.option("--verbose", "-v", is_flag=True, help="Node and labels as well.")
@output_option
@agent_options
def list_ips(address: str | None, *, verbose: bool, agent: AgentHandle, output: Output) -> None:
    """Every known prefix, or those that hold ADDRESS, the widest first.

    \b
    axoneme ip list -v
    axoneme ip list 198.51.100.1
    """
    rows = agent.call("ip.list", {"address": address} if address else {})
    headings = ["IP", "IDENTITY", "SOURCE"] + (["HOST", "LABELS"] if verbose else [])
    cells = [
        [r["prefix"], r["identity"], r["source"]] + ([r["host"], r["labels"]] if verbose else [])
        for r in rows
    ]
    output.emit(rows, lambda: output.table(headings, cells, empty="no prefix"))
