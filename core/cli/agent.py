"""``axoneme agent``: run the agent of this node in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("agent", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="Folder with one file per key, as a ConfigMap is mounted.",
)
@click.option("--config", "yaml_file", type=click.Path(path_type=Path), help="YAML file of keys.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY=VALUE ...]")
def agent(config_dir: Path | None, yaml_file: Path | None, flags: tuple[str, ...]) -> int:
    """Run the agent of this node until it is told to stop.

    Every configuration key is also a flag and an environment variable
    (AXONEME_ROUTING_MODE); axoneme config --describe lists them.

    \b
    axoneme agent --config-dir /etc/axoneme
    axoneme agent --routing-mode=native --enable-ipv6=false
    """
    from axoneme.core.cli.process import prepare, run

    config, plugins = prepare(flags, config_dir, yaml_file)
    from axoneme.core.agent import Agent

    return run(lambda: Agent(config, plugins))
