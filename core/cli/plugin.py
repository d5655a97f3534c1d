"""``axoneme plugin``: what is installed, what is on, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli.cluster_options import cluster_options
from axoneme.core.cli.nouns import Noun
from axoneme.core.cli.options import (
    AgentHandle,
    Given,
    agent_options,
    config_options,
    output_option,
)
from axoneme.core.errors import NotReadyError

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output
    from axoneme.core.cluster.connect import Place


@click.group("plugin", cls=Noun)
def plugin() -> None:
    """Show plugins, their options and hooks.

    Asks the agent. Without one, or with --config-dir, --config or --set, shows
    what an agent with that configuration would switch on.

    \b
    axoneme plugin list
    axoneme plugin list --set routing-mode=native
    axoneme plugin show tunnel
    """


@plugin.command("list")
@config_options
@output_option
@agent_options
def list_plugins(*, given: Given, agent: AgentHandle, output: Output) -> None:
    """Name, version, origin, state, and why it is on or off.

    \b
    axoneme plugin list
    axoneme plugin list --config-dir /etc/axoneme -o json
    """
    rows = _ask(agent, given, "plugin.list", {})
    if rows is None:
        import attrs

        _, plugins = given.boot()
        rows = [attrs.asdict(info) for info in plugins.infos]
    output.emit(
        rows,
        lambda: output.table(
            ["Name", "Version", "Origin", "State", "Why", "Summary"],
            [
                (r["name"], r["version"], r["origin"], r["state"], r["why"], r["summary"])
                for r in rows
            ],
            empty="no plugin is installed",
        ),
    )


@plugin.command("show")
@click.argument("name")
@config_options
@output_option
@agent_options
def show_plugin(name: str, *, given: Given, agent: AgentHandle, output: Output) -> None:
    """One plugin: its options with their values, and its hooks.

    \b
    axoneme plugin show tunnel
    """
    data = _ask(agent, given, "plugin.get", {"name": name})
    if data is None:
        from axoneme.core.api.plugin_views import plugin_detail

        loaded, plugins = given.boot()
        data = plugin_detail(plugins, loaded, name)
    output.emit(data, lambda: _show(data, output))


@plugin.command("install")
@click.argument("name")
@click.option("--pip", "requirement", default="", help="package==version of an index.")
@click.option("--index", default="", help="URL of another index than PyPI.")
@click.option("--hash", "pinned", default="", help="sha256:… of the file that the index gives.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A wheel, which is kept in a ConfigMap.",
)
@click.option("--image", default="", help="An image whose folder /plugin has the packages.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the plugin.")
@click.option("--helm", default="helm", show_default=True, help="The helm command.")
@cluster_options
def install_plugin(
    *,
    name: str,
    requirement: str,
    index: str,
    pinned: str,
    wheel: Path | None,
    image: str,
    pairs: tuple[str, ...],
    helm: str,
    place: Place,
) -> None:
    """Install a third-party plugin into a cluster, or another version of it.

    \b
    axoneme plugin install greeter --wheel dist/greeter-1.0-py3-none-any.whl
    axoneme plugin install greeter --pip greeter==1.0 --hash sha256:…
    """
    from axoneme.core.cluster.plugin import Source, install

    source = Source(name, requirement, index, pinned, wheel, image, Given(None, None, pairs).flags)
    install(place, source, helm)
    click.echo(f"plugin {name} is being rolled out: axoneme status --wait")


@plugin.command("fetch")
@click.option("--list", "listing", type=click.Path(path_type=Path), required=True, help="YAML.")
@click.option("--target", type=click.Path(path_type=Path), required=True, help="Where to.")
@click.option(
    "--wheels",
    type=click.Path(path_type=Path),
    default=Path("/wheels"),
    show_default=True,
    help="Folder of the wheels of a list, one folder for each plugin.",
)
def fetch_plugins(listing: Path, target: Path, wheels: Path) -> None:
    """Install the plugins of a list, each pinned by its hash.

    The chart's init container runs it; nothing is installed if one is bad.

    \b
    axoneme plugin fetch --list plugins.yaml --target /plugins
    """
    from axoneme.core.errors import ConfigError
    from axoneme.core.plugin_fetch import fetch, read_list

    try:
        text = listing.read_text()
    except OSError as error:
        raise ConfigError(f"{listing}: {error.strerror}") from error
    for line in fetch(read_list(text), target, wheels):
        click.echo(line)


def _ask(agent: AgentHandle, given: Given, method: str, params: dict[str, Any]) -> Any:
    """The agent's answer, or ``None`` when the question is about a configuration at hand."""
    if given:
        return None
    try:
        return agent.call(method, params)
    except NotReadyError:
        if agent.chosen:
            raise
        click.echo("no agent runs here: this is what the defaults would switch on", err=True)
        return None


def _show(data: dict[str, Any], output: Output) -> None:
    output.pairs(
        [
            ("Name", data["name"]),
            ("Summary", data["summary"]),
            ("State", f"{data['state']} ({data['why']})"),
            ("Version", data["version"]),
            ("Origin", data["origin"]),
            ("Module", data["module"]),
            ("Requires", ", ".join(data["requires"]) or "nothing"),
            ("Hooks", "\n".join(data["hooks"]) or "none"),
        ]
    )
    if data["options"]:
        output.line()
        output.table(
            ["Option", "Type", "Value", "Default", "Meaning"],
            [(o["key"], o["type"], o["value"], o["default"], o["help"]) for o in data["options"]],
        )
