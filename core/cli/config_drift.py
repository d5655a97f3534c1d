"""``axoneme config drift``: keys that run with another value than the configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.command("drift")
@output_option
@agent_options
def drift(*, agent: AgentHandle, output: Output) -> None:
    """Show the keys that wait for a restart of the agent.

    The agent compares what it runs with to the ConfigMap and the
    CiliumNodeConfigs, or to its files. Keys that can change while it runs
    have been applied, and are not here.

    \b
    axoneme config drift
    axoneme config drift --node node1 -o json
    """
    rows = agent.call("config.drift")
    notes = any(row["problem"] for row in rows)
    output.emit(
        rows,
        lambda: output.table(
            ["Key", "Running", "Wanted", "Source", *(["Problem"] if notes else [])],
            [
                (
                    r["key"],
                    r["running"],
                    r["wanted"],
                    r["source"],
                    *([r["problem"]] if notes else []),
                )
                for r in rows
            ],
            empty="the agent runs with what the configuration says",
        ),
    )
