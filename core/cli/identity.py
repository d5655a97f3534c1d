"""``axoneme identity``: numbers and the labels that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("identity", cls=Noun)
def identity() -> None:
    """Show security identities.

    \b
    axoneme identity list
    axoneme identity get 16530
    """


@identity.command("list")
@click.option("--endpoints", is_flag=True, help="Only those of this node's endpoints.")
@output_option
@agent_options
def list_identities(*, endpoints: bool, agent: AgentHandle, output: Output) -> None:
    """Every identity that the node knows.

    \b
    axoneme identity list
    axoneme identity list --endpoints --node node1
    """
    rows = [r for r in agent.call("identity.list") if r["refcount"] or not endpoints]
    output.emit(rows, lambda: _table(rows, output))


@identity.command("get")
@click.argument("number")
@output_option
@agent_options
def get_identity(number: str, *, agent: AgentHandle, output: Output) -> None:
    """One identity by its number.

    \b
    axoneme identity get 16530
    """
    row = agent.call("identity.get", {"id": number})
    output.emit(row, lambda: _table([row], output))


def _table(rows: list[dict[str, Any]], output: Output) -> None:
    output.table(
        ["ID", "LABELS", "REFCOUNT"],
        [(r["id"], r["labels"], r["refcount"]) for r in rows],
        empty="no identity",
    )
