"""``axoneme operator``: run the operator of the cluster in the foreground."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "operator", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="Folder with one file per key, as a ConfigMap is mounted.",
)
@click.option("--config", "yaml_file", type=click.Path(path_type=Path), help="YAML file of keys.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY=VALUE ...]")
def operator(config_dir: Path | None, yaml_file: Path | None, flags: tuple[str, ...]) -> int:
    """Run the operator until it is told to stop; several elect a leader.

    \b
    axoneme operator --config-dir /etc/axoneme
    axoneme operator --cluster-pool-ipv4-cidr=10.0.0.0/8
    """
    from axoneme.core.cli.process import prepare, run

    config, plugins = prepare(flags, config_dir, yaml_file)
    from axoneme.core.operator import Operator

    return run(lambda: Operator(config, plugins))
