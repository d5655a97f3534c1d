"""``axoneme policy explain``: why a packet of the recent past was refused."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.plugins.policy.cli_diff import agents
from axoneme.plugins.policy.cli_trace import show_side

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.command("explain")
@click.argument("event_id", metavar="EVENT-ID")
@output_option
@agent_options
def explain(event_id: str, *, agent: AgentHandle, output: Output) -> None:
    """Say why a recorded packet was dropped, by which rule, and what of it now.

    axoneme monitor shows the id of each event; the last ones are kept. In a
    lab, without --node, all nodes are asked.

    \b
    axoneme monitor --recent -t drop
    axoneme policy explain 5f2c01a9e3b4
    """
    answer = _ask(event_id, agent)
    output.emit(answer, lambda: _show(answer, output))


def _ask(event_id: str, agent: AgentHandle) -> dict[str, Any]:
    from axoneme.core.errors import NotFoundError

    handles = agents(agent)
    for number, handle in enumerate(handles, 1):
        try:
            answer: dict[str, Any] = handle.call("policy.explain", {"id": event_id})
            return answer
        except NotFoundError:
            if number == len(handles):
                raise
    raise AssertionError("there is always an agent to ask")


def _show(answer: dict[str, Any], output: Output) -> None:
    from axoneme.core.events.text import line

    event, then = answer["event"], answer["then"]
    text, colour = line(event)
    output.line(text, colour)
    output.labelled("Then", f"{then['verdict']}: {then['reason']}", 12)
    rule = then["rule"]
    if rule:
        output.line(f"{'':13}peers {rule['peers']}; ports {rule['ports']}")
        if rule["until"]:
            moment = datetime.fromtimestamp(rule["until"]).astimezone()
            output.line(f"{'':13}in force until {moment:%H:%M:%S}")
    if answer["now"] is not None:
        show_side("Now", answer["now"], output)
