"""``axoneme cni``: put the executable in place, take the configuration away."""

from __future__ import annotations

from pathlib import Path

import click

from axoneme.core.cni.install import CONFIG_NAME, install, remove_configuration
from axoneme.core.config_sources import read_sources
from axoneme.core.errors import ConfigError
from axoneme.core.option_types import PARSERS

conf_dir_option = click.option(
    "--conf-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/cni/net.d"),
    show_default=True,
    envvar="AXONEME_CNI_CONF_DIR",
    help="Where the runtime looks for configurations.",
)


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
@conf_dir_option
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


@cni.command("uninstall")
@conf_dir_option
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The agent's keys: they say whether (cni-uninstall), and which file.",
)
def uninstall_command(conf_dir: Path, config_dir: Path | None) -> None:
    """Remove 05-axoneme.conflist, so that new pods ask for another network.

    The executable stays, for pods that end later; so do other plugins' files that were set aside.

    \b
    axoneme cni uninstall
    axoneme cni uninstall --config-dir /var/run/axoneme/config
    """
    path: Path | None = conf_dir / CONFIG_NAME
    if config_dir is not None:
        path = configured(config_dir)
    if path is None:
        click.echo(f"the CNI configuration stays, by key cni-uninstall in {config_dir}")
    elif remove_configuration(path):
        click.echo(f"{path} removed")
    else:
        click.echo(f"{path} is not there")


def configured(folder: Path) -> Path | None:
    """The file that an agent with these keys has written and is to take away, if it is.

    Whoever stops an agent waits for this: no more is read than the two keys.
    """
    values = {key: found.value for key, found in read_sources({}, {}, folder).values.items()}
    path = str(values.get("write-cni-conf-when-ready") or "")
    try:
        wanted = PARSERS["bool"](values.get("cni-uninstall") or "false")
    except ValueError as error:
        raise ConfigError(f"key cni-uninstall ({folder}): expected {error}") from None
    return Path(path) if wanted and path else None
