"""``axoneme endpoint``: the pods of a node as the agent manages them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from axoneme.core.cli.live import change, show_live
from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


WIDE: Final = 120
"""Columns from which the table has all that Cilium's has."""


@click.group("endpoint", cls=Noun)
def endpoint() -> None:
    """Show the endpoints of a node.

    \b
    axoneme endpoint list --node node1
    axoneme endpoint get 42
    """


@endpoint.command("list")
@output_option
@agent_options
def list_endpoints(*, agent: AgentHandle, output: Output) -> None:
    """Every endpoint of the node; with labels on a wide terminal or in a pipe.

    \b
    axoneme endpoint list
    axoneme endpoint list --node node2 -o json
    """
    rows = agent.call("endpoint.list")
    output.emit(rows, lambda: _table(rows, output))


@endpoint.command("get")
@click.argument("name")
@output_option
@agent_options
def get_endpoint(name: str, *, agent: AgentHandle, output: Output) -> None:
    """One endpoint, by id, namespace/pod, address or container id.

    \b
    axoneme endpoint get 42
    axoneme endpoint get default/web-0 -o yaml
    """
    row = agent.call("endpoint.get", {"id": name})
    output.emit(row, lambda: _show(row, output))


@endpoint.command("config")
@click.argument("name")
@click.argument("settings", nargs=-1, metavar="[OPTION=VALUE]...")
@output_option
@agent_options
def config_endpoint(
    name: str, settings: tuple[str, ...], *, agent: AgentHandle, output: Output
) -> None:
    """Show or change the options of one endpoint, or of "host", the node itself.

    A change counts at once and lasts as long as the endpoint.

    \b
    axoneme endpoint config default/web-0
    axoneme endpoint config host PolicyAuditMode=Enabled
    axoneme endpoint config 42 PolicyAuditMode=Enabled
    """
    rows = change(agent, settings, name) if settings else agent.call("config.live", {"id": name})
    output.emit(rows, lambda: show_live(rows, output))


def _table(rows: list[dict[str, Any]], output: Output) -> None:
    if output.width < WIDE:
        _narrow(rows, output)
        return
    named = ["POD"] if output.terminal else []  # scripts get the columns that they know
    output.table(
        [
            "ENDPOINT",
            ["POLICY (ingress)", "ENFORCEMENT"],
            ["POLICY (egress)", "ENFORCEMENT"],
            "IDENTITY",
            "LABELS (source:key[=value])",
            "IPv6",
            "IPv4",
            "STATUS",
            *named,
        ],
        [
            (
                r["id"],
                r["policy"]["ingress"],
                r["policy"]["egress"],
                r["identity"],
                r["labels"],
                r["ipv6"],
                r["ipv4"],
                r["state"],
                *([r["name"]] if named else []),
            )
            for r in rows
        ],
        empty="no endpoint on this node",
    )


def _narrow(rows: list[dict[str, Any]], output: Output) -> None:
    """Without labels, and with one column for what takes two: for terminals of 80 columns."""
    output.table(
        ["ENDPOINT", "POD", "IDENTITY", "ENFORCED", "ADDRESSES", "STATUS"],
        [
            (
                r["id"],
                r["name"],
                r["identity"],
                [way for way in ("ingress", "egress") if r["policy"][way] != "Disabled"] or "-",
                [address for address in (r["ipv4"], r["ipv6"]) if address],
                r["state"],
            )
            for r in rows
        ],
        empty="no endpoint on this node",
    )


def _show(row: dict[str, Any], output: Output) -> None:
    link = row["interface"]
    ports = [f"{p['name']} {p['port']}/{p['protocol']}" for p in row["named-ports"]]
    output.pairs(
        [
            ("Endpoint", str(row["id"])),
            ("Name", row["name"]),
            ("State", row["state"] + (f": {row['message']}" if row["message"] else "")),
            ("Identity", str(row["identity"])),
            ("Labels", "\n".join(row["labels"])),
            ("IPv4", row["ipv4"]),
            ("IPv6", row["ipv6"]),
            ("Policy", f"ingress {row['policy']['ingress']}, egress {row['policy']['egress']}"),
            ("Policy revision", str(row["policy-revision"])),
            ("Named ports", "\n".join(ports)),
            ("Device", f"{link['host']} (ifindex {link['ifindex']}), MTU {link['mtu']}"),
            ("MAC", f"{link['mac']}, node side {link['host-mac']}"),
            ("Container", f"{link['container']} in {link['netns']}"),
            ("Attachment", row["attachment"]),
        ]
    )
