"""``axoneme map``: BPF maps and what they hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("map", cls=Noun)
def map() -> None:
    """Show BPF maps and what they hold.

    \b
    axoneme map list
    axoneme map get axo_endpoints
    """


@map.command("list")
@output_option
@agent_options
def list_maps(*, agent: AgentHandle, output: Output) -> None:
    """Every map: type and sizes; sizes are in bytes.

    \b
    axoneme map list --node node1
    """
    rows = agent.call("map.list")
    output.emit(
        rows,
        lambda: output.table(
            ["Name", "Type", "Id", "Key", "Value", "Max entries", "Pinned at"],
            [
                (
                    r["name"],
                    r["type"],
                    r["id"],
                    r["key-size"],
                    r["value-size"],
                    r["max-entries"],
                    r["path"],
                )
                for r in rows
            ],
        ),
    )


@map.command("get")
@click.argument("name")
@output_option
@agent_options
def get_map(name: str, *, agent: AgentHandle, output: Output) -> None:
    """Every entry of a map, its fields as the C struct names them.

    \b
    axoneme map get axo_ipcache
    axoneme map get axo_runtime -o json
    """
    data = agent.call("map.get", {"name": name}, timeout=120.0)
    output.emit(data, lambda: _table(data, output))


def _table(data: dict[str, Any], output: Output) -> None:
    rows = [(_text(entry["key"]), _text(entry["value"])) for entry in data["entries"]]
    output.table(["Key", "Value"], rows, empty="the map is empty")
    if data["left-out"]:
        click.echo(f"{data['left-out']} more entries are not shown", err=True)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)
