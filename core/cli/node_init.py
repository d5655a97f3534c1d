"""``axoneme node-init``: what an init container does for a node before the agent starts."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("node-init", short_help="prepare a node for an agent in a container")
def node_init() -> None:
    """Prepare a node for an agent in a container."""


@node_init.command("bpf")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    default=Path("/sys/fs/bpf"),
    show_default=True,
    help="Where the BPF file system belongs.",
)
def bpf(path: Path) -> None:
    """Mount the BPF file system where there is none.

    To be run where mounts reach the host: what is pinned in a container's own
    file system ends with the container, and connections with it.

    \b
    axoneme node-init bpf
    """
    from axoneme.core.agent import bpffs

    there = bpffs.is_bpffs(path) if path.exists() else False
    bpffs.ensure(path)
    click.echo(f"{path}: {'is there' if there else 'mounted'}")
