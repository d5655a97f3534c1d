"""``axoneme bpf``: what the packet path itself holds, straight from the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import AgentHandle, agent_options, output_option
from axoneme.core.text import side_text

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.group("bpf", cls=Noun)
def bpf() -> None:
    """Look into the tables of the packet path.

    \b
    axoneme bpf ct list
    axoneme bpf ipcache list --node node1
    """


@bpf.group("ct", cls=Noun)
def ct() -> None:
    """Connections that the kernel tracks."""


@bpf.group("ipcache", cls=Noun)
def ipcache() -> None:
    """Prefixes and identities as the packet path sees them."""


@bpf.group("metrics", cls=Noun)
def metrics() -> None:
    """Packets and bytes by what became of them."""


@ct.command("list")
@output_option
@agent_options
def list_ct(*, agent: AgentHandle, output: Output) -> None:
    """Every connection that has not expired, one line each.

    \b
    axoneme bpf ct list
    axoneme bpf ct list --node node1 -o json
    """
    rows = agent.call("bpf.ct", timeout=120.0)

    def show() -> None:
        for row in rows:
            output.line(_flow(row))

    output.emit(rows, show)


@metrics.command("list")
@output_option
@agent_options
def list_metrics(*, agent: AgentHandle, output: Output) -> None:
    """Packets and bytes by what became of them, since the maps were made.

    \b
    axoneme bpf metrics list
    """
    rows = agent.call("bpf.metrics")
    output.emit(
        rows,
        lambda: output.table(
            ["REASON", "DIRECTION", "PACKETS", "BYTES"],
            [(r["reason-text"], r["direction"], r["packets"], r["bytes"]) for r in rows],
            empty="nothing was counted yet",
        ),
    )


@ipcache.command("list")
@output_option
@agent_options
def list_ipcache(*, agent: AgentHandle, output: Output) -> None:
    """Every prefix of the kernel's ipcache.

    \b
    axoneme bpf ipcache list
    """
    rows = agent.call("bpf.ipcache", timeout=120.0)
    output.emit(
        rows,
        lambda: output.table(
            ["IP PREFIX/ADDRESS", "IDENTITY"],
            [
                (
                    r["prefix"],
                    f"identity={r['identity']} encryptkey=0"
                    f" tunnelendpoint={r['tunnelendpoint']} flags={_flags(r['flags'])}",
                )
                for r in rows
            ],
            empty="the ipcache is empty",
        ),
    )


def _flags(value: int) -> str:
    return f"0x{value:x}" if value else "<none>"


def _flow(row: dict[str, Any]) -> str:
    """A line in the words of ``cilium-dbg bpf ct list``, as far as the facts are the same."""
    flags = [
        word
        for word, on in (("SeenNonSyn", row["seen-non-syn"]), ("Closing", row["closing"]))
        if on
    ]
    return (
        f"{row['protocol']} {side_text(row['source'])} -> {side_text(row['destination'])}"
        f" expires={row['expires-seconds']:g}s"
        f" Packets={row['packets']} Bytes={row['bytes']}"
        f" ReplyPackets={row['reply-packets']} ReplyBytes={row['reply-bytes']}"
        f" TxFlagsSeen=0x{row['tcp-flags-seen']:02x}"
        f" RxFlagsSeen=0x{row['reply-tcp-flags-seen']:02x}"
        f" Flags=0x{row['flags']:04x} [ {' '.join(flags)}{' ' if flags else ''}]"
        f" SourceSecurityID={row['source-identity']}"
        f" DestinationSecurityID={row['destination-identity']}"
    )
