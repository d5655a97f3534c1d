"""Options that change while the agent runs: what ``config`` and ``endpoint config`` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.options import AgentHandle

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def change(agent: AgentHandle, settings: Iterable[str], endpoint: str = "") -> list[dict[str, Any]]:
    """Set options given as ``NAME=VALUE``, all or none; the options as they are then."""
    values = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not (name and sign and value):
            raise click.BadParameter(f"{setting!r} is not OPTION=VALUE")
        values[name] = value
    answer = agent.call(
        "config.change", {"values": values, **({"id": endpoint} if endpoint else {})}
    )
    options: list[dict[str, Any]] = answer["options"]
    return options


def show_live(rows: list[dict[str, Any]], output: Output) -> None:
    """The options as a table."""
    output.table(
        ["Option", "Value", "Choices", "Meaning"],
        [(r["name"], r["value"], " ".join(r["choices"]), r["help"]) for r in rows],
        empty="no option can be changed while the agent runs",
    )
