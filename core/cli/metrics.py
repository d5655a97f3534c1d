"""``axoneme metrics``: the agent's metrics without a scraper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("metrics", cls=Noun)
def metrics() -> None:
    """Show metrics.

    \b
    axoneme metrics list
    axoneme metrics list drop
    """


@metrics.command("list")
@click.argument("pattern", required=False)
@output_option
@agent_options
def list_metrics(pattern: str | None, *, agent: AgentHandle, output: Output) -> None:
    """Current values, of all metrics or those with PATTERN in their name.

    \b
    axoneme metrics list
    axoneme metrics list drop_count -o json
    """
    rows = agent.call("metrics.list", {"pattern": pattern or ""})
    output.emit(
        rows,
        lambda: output.table(
            ["Metric", "Labels", "Value"],
            [
                (
                    r["name"],
                    " ".join(f'{key}="{value}"' for key, value in sorted(r["labels"].items())),
                    f"{r['value']:.6f}",
                )
                for r in rows
            ],
            empty="no such metric",
        ),
    )
