"""``axoneme plugin``: what is installed, what is on, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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
