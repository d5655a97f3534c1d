"""``axoneme service`` and ``axoneme bpf lb``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


def register(root: click.Group) -> None:
    """Add the verbs."""
    service = noun(root, "service", "Show services as the agent serves them.")
    service.add_command(list_services)
    service.add_command(get_service)
    lb = noun(noun(root, "bpf"), "lb", "Show the load-balancing maps.")
    lb.add_command(list_lb)
    noun(lb, "maglev", "Show Maglev tables.").add_command(list_maglev)


@click.command("list")
@output_option
@agent_options
def list_services(*, agent: AgentHandle, output: Output) -> None:
    """Every frontend with its backends.

    \b
    axoneme service list
    axoneme service list --node node1 -o json
    """
    rows = agent.call("service.list", timeout=60.0)
    output.emit(rows, lambda: _show_services(rows, output))


def _show_services(rows: list[dict[str, Any]], output: Output) -> None:
    output.table(
        ["ID", "Frontend", "Service Type", "Backend"],
        [[str(r["id"]), r["frontend"], r["type"], _backends(r)] for r in rows],
    )


def _backends(row: dict[str, Any]) -> list[str]:
    lines = []
    for number, backend in enumerate(row["backends"], 1):
        preferred = " (preferred)" if backend["preferred"] else ""
        lines.append(f"{number} => {backend['address']} ({backend['state']}){preferred}")
    return lines


@click.command("get")
@click.argument("number", type=int)
@output_option
@agent_options
def get_service(number: int, *, agent: AgentHandle, output: Output) -> None:
    """One frontend, by its id.

    \b
    axoneme service get 7
    """
    row = agent.call("service.get", {"id": number})

    def show() -> None:
        output.pairs(
            [
                ("ID", str(row["id"])),
                ("Frontend", row["frontend"]),
                ("Service", row["service"]),
                ("Service Type", row["type"]),
                ("Algorithm", row["algorithm"]),
                ("Flags", ", ".join(row["flags"]) or "-"),
                ("Session affinity", f"{row['session-affinity-seconds']} s"),
                ("Source ranges", ", ".join(row["source-ranges"]) or "-"),
            ]
        )
        for line in _backends(row):
            output.line(line)

    output.emit(row, show)


@click.command("list")
@click.option("--frontends", "view", flag_value="frontends", help="Frontends and their sets.")
@click.option("--backends", "view", flag_value="backends", help="Backends by number.")
@click.option("--revnat", "view", flag_value="revnat", help="Names that answers bear.")
@click.option("--source-ranges", "view", flag_value="ranges", help="Networks that may ask.")
@click.option("--maglev", "view", flag_value="maglev", help="Maglev tables: rows of each backend.")
@output_option
@agent_options
def list_lb(*, view: str | None, agent: AgentHandle, output: Output) -> None:
    """What the kernel has: each frontend and its slots.

    \b
    axoneme bpf lb list
    axoneme bpf lb list --backends --node node1
    """
    if view == "maglev":
        _maglev(agent, output)
        return
    rows = [row for part in agent.stream("bpf.lb", {"view": view or "slots"}) for row in part]
    heads, cells = _SHAPES[view or "slots"]
    output.emit(rows, lambda: output.table(heads, [cells(row) for row in rows]))


def _line(row: dict[str, Any]) -> list[str]:
    flags = f" [{', '.join(row['flags'])}]" if row["flags"] else ""
    return [
        f"{row['frontend']} ({row['slot']})",
        f"{row['backend']} ({row['id']}) ({row['slot']}){flags}",
    ]


_SHAPES: dict[str, tuple[list[str], Any]] = {
    "slots": (["SERVICE ADDRESS", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"], _line),
    "frontends": (
        ["SERVICE ADDRESS", "REVNAT_ID", "SETS"],
        lambda r: [r["frontend"], str(r["id"]), ", ".join(map(str, r["sets"]))],
    ),
    "backends": (["ID", "BACKEND ADDRESS"], lambda r: [str(r["id"]), r["address"]]),
    "revnat": (["ID", "BACKEND ADDRESS (REVNAT_ID) (SLOT)"],
               lambda r: [str(r["id"]), r["address"]]),
    "ranges": (["SOURCE RANGE (REVNAT_ID)"], lambda r: [f"{r['range']} ({r['service']})"]),
}  # fmt: skip


@click.command("list")
@output_option
@agent_options
def list_maglev(*, agent: AgentHandle, output: Output) -> None:
    """Rows that each backend has in each set's table.

    \b
    axoneme bpf lb maglev list
    """
    _maglev(agent, output)


def _maglev(agent: AgentHandle, output: Output) -> None:
    rows = agent.call("bpf.maglev", timeout=60.0)

    def cells(row: dict[str, Any]) -> list[str]:
        shares = ", ".join(f"{k}: {n}" for k, n in row["rows"].items())
        return [str(row["set"]), shares]

    output.emit(rows, lambda: output.table(["SET", "ROWS BY BACKEND ID"], [cells(r) for r in rows]))
