"""``axoneme config view | set | delete``: the ConfigMap of an installation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from axoneme.core.cli.cluster_options import cluster_options
from axoneme.core.cli.options import output_option

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.cluster.connect import Place

AGAIN = "axoneme upgrade writes the ConfigMap anew: give it --set extraConfig.{0}=… to keep this"


@click.command("view")
@cluster_options
@output_option
def view(*, place: Place, output: Output) -> None:
    """Show the keys that the cluster's ConfigMap sets.

    \b
    axoneme config view
    """
    from axoneme.core.cluster import settings

    found = place.run(lambda store: settings.view(store, place.namespace))
    output.emit(found, lambda: output.table(["Key", "Value"], list(found.items())))


@click.command("set")
@click.argument("key")
@click.argument("value")
@click.option("--force", is_flag=True, help="Also a key that is not known here.")
@click.option("--restart/--no-restart", default=True, help="Roll agents and operator out.")
@cluster_options
def set_key(*, key: str, value: str, force: bool, restart: bool, place: Place) -> None:
    """Set a key for the whole cluster; a bad one is refused.

    \b
    axoneme config set monitor-aggregation none
    axoneme config set policy-audit-mode true --no-restart
    """
    from axoneme.core.boot import boot
    from axoneme.core.cluster import settings

    if not force:
        known, _ = boot({}, {}, None, None, policy="disable", check=False)
        settings.check(known.registry, key, value)
    _change(place, {key: value}, restart)
    click.echo(AGAIN.format(key), err=True)


@click.command("delete")
@click.argument("key")
@click.option("--restart/--no-restart", default=True, help="Roll agents and operator out.")
@cluster_options
def delete_key(*, key: str, restart: bool, place: Place) -> None:
    """Take a key out: its default holds again.

    \b
    axoneme config delete monitor-aggregation
    """
    _change(place, {key: None}, restart)


def _change(place: Place, changes: dict[str, str | None], restart: bool) -> None:
    from axoneme.core.cluster import settings

    place.run(lambda store: settings.change(store, place.namespace, changes, restart=restart))
    click.echo("changed" + (", rolling out" if restart else ""))
