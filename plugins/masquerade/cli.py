"""``axoneme bpf nat``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.core.text import side_text

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the verb."""
    noun(noun(root, "bpf"), "nat", "Show the NAT tables.").add_command(list_nat)
    ipmasq = noun(noun(root, "bpf"), "ipmasq", "Show networks of ip-masq-agent.")
    ipmasq.add_command(list_ipmasq)


@click.command("list")
@output_option
@agent_options
def list_ipmasq(*, agent: AgentHandle, output: Output) -> None:
    """Networks towards which pods keep their address.

    \b
    axoneme bpf ipmasq list
    """
    rows = agent.call("bpf.ipmasq")
    cells = sorted([r["prefix"]] for r in rows)
    output.emit(rows, lambda: output.table(["IP PREFIX/ADDRESS"], cells))


@click.command("list")
@output_option
@agent_options
def list_nat(*, agent: AgentHandle, output: Output) -> None:
    """Every NAT mapping: OUT rewrites the source, IN the destination.

    \b
    axoneme bpf nat list
    axoneme bpf nat list --node node1 -o json
    """
    rows = agent.call("bpf.nat", timeout=120.0)

    def show() -> None:
        for row in rows:
            output.line(line(row))

    output.emit(rows, show)


def line(row: dict[str, Any]) -> str:
    """A mapping in the words of ``cilium-dbg bpf nat list``, with what is left of its life."""
    xlate = "XLATE_SRC" if row["direction"] == "OUT" else "XLATE_DST"
    host = " HOST" if row["host"] else ""
    return (
        f"{row['protocol']} {row['direction']} {side_text(row['source'])} -> "
        f"{side_text(row['destination'])} {xlate} {side_text(row['translated'])} "
        f"Created={row['age-seconds']}sec ago Expires={row['expires-seconds']}sec{host}"
    )
