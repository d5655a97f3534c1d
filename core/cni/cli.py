"""``axoneme cni``: put the executable in place."""

from __future__ import annotations

from pathlib import Path

import click

from axoneme.core.cni.install import install


@click.group("cni", short_help="the executable that container runtimes call")
def cni() -> None:
    """The executable that container runtimes call."""


@cni.command("install")
@click.option(
    "--bin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/opt/cni/bin"),
    show_default=True,
    envvar="AXONEME_CNI_BIN_DIR",
    help="Where the runtime looks for executables.",
)
@click.option(
    "--conf-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/cni/net.d"),
    show_default=True,
    envvar="AXONEME_CNI_CONF_DIR",
    help="Where the runtime looks for configurations.",
)
@click.option("--agent-socket", default="", help="The agent's socket, if not the default.")
@click.option(
    "--python",
    default="",
    help="Install the script for this interpreter, not the compiled executable.",
)
@click.option("--no-config", is_flag=True, help="The executable alone, no configuration.")
def install_command(
    bin_dir: Path, conf_dir: Path, agent_socket: str, python: str, no_config: bool
) -> None:
    """Write axoneme-cni and 05-axoneme.conflist, each in one step.

    \b
    axoneme cni install
    axoneme cni install --bin-dir /host/opt/cni/bin
    """
    done = install(bin_dir, conf_dir, socket=agent_socket, python=python, config=not no_config)
    for path in done:
        click.echo(str(path))
