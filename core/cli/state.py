"""``axoneme state``: any table of the agent, as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


COLUMN: Final = 10
"""Width that a column should have at least, with the gap after it."""


@click.command("state")
@click.argument("table", required=False)
@output_option
@agent_options
def state(table: str | None, *, agent: AgentHandle, output: Output) -> None:
    """List the agent's tables, or print the rows of TABLE.

    \b
    axoneme state
    axoneme state endpoints --node node1
    axoneme state ipcache -o json
    """
    if table is None:
        rows = agent.call("state.tables")
        output.emit(
            rows,
            lambda: output.table(
                ["Table", "Rows", "Revision", "Columns"],
                [(r["name"], r["rows"], r["revision"], ", ".join(r["columns"])) for r in rows],
            ),
        )
        return
    rows = agent.call("state.rows", {"table": table})
    output.emit(rows, lambda: _table(rows, output))


def _table(rows: list[Any], output: Output) -> None:
    if not rows:
        click.echo("the table is empty", err=True)
        return
    if not isinstance(rows[0], dict):
        output.table(["Row"], [(_text(row),) for row in rows])
        return
    if len(rows[0]) * COLUMN > output.width:
        # Columns of a few letters each are no table: one paragraph a row.
        for number, row in enumerate(rows):
            if number:
                output.line()
            output.pairs((name, _text(value)) for name, value in row.items())
        return
    output.table(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])


def _text(value: Any) -> str:
    """A value in a cell; nested ones as compact JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
