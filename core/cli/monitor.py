"""``axoneme monitor``: drops, verdicts and traces as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from axoneme.core.cli.options import AgentHandle, agent_options


@click.command("monitor")
@click.option(
    "-t",
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="drop, trace, policy-verdict, agent, or a plugin's type. Repeat for more.",
)
@click.option("--from", "sources", multiple=True, metavar="WHO", help="Only from this sender.")
@click.option("--to", "destinations", multiple=True, metavar="WHO", help="Only to this receiver.")
@click.option("--related-to", "related", multiple=True, metavar="WHO", help="Either of both.")
@click.option("-n", "--numeric", is_flag=True, help="Numbers and addresses instead of names.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: one object a line.",
)
@click.option("--recent", is_flag=True, help="The last drops and verdicts, and no new ones.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@agent_options
def monitor(
    *,
    types: tuple[str, ...],
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    related: tuple[str, ...],
    numeric: bool,
    form: str,
    count: int | None,
    recent: bool,
    agent: AgentHandle,
) -> None:
    """Show what happens to packets on a node: drops, policy verdicts, traces.

    WHO is an endpoint id, NAMESPACE/POD or an address.

    \b
    axoneme monitor -t drop
    axoneme monitor --node node1 --related-to shop/web-1
    axoneme monitor --recent -t drop
    axoneme monitor -t drop -t policy-verdict -o json
    """
    import json

    from axoneme.core.events.text import line

    params = {
        "types": list(types),
        "from": list(sources),
        "to": list(destinations),
        "related_to": list(related),
    }
    if recent:
        stream: Iterator[Any] = iter(agent.call("monitor.recent", params)[-(count or 0) :])
    else:
        stream = agent.stream("monitor.events", params)
    shown = 0
    try:
        for event in stream:
            if form == "json":
                click.echo(json.dumps(event))
            else:
                text, colour = line(event, numeric=numeric)
                click.echo(click.style(text, fg=colour) if colour else text)
            shown += "lost" not in event
            if count is not None and shown >= count:
                return
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
