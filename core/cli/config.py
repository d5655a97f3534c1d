"""``axoneme config``: every key with its value, its source and its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from axoneme.core.cli import cluster_config
from axoneme.core.cli.config_drift import drift
from axoneme.core.cli.default_verb import DefaultVerb
from axoneme.core.cli.live import change, show_live
from axoneme.core.cli.options import (
    AgentHandle,
    Given,
    agent_options,
    config_options,
    output_option,
)
from axoneme.core.text import clean

if TYPE_CHECKING:
    from axoneme.core.cli.output import Output


@click.command("show")
@click.argument("keys", nargs=-1, metavar="[KEY | OPTION=VALUE...]")
@click.option("--live", is_flag=True, help="Options that may change while the agent runs.")
@click.option("--changed", is_flag=True, help="Only what differs from its default.")
@click.option("--describe", is_flag=True, help="Types, defaults and meanings; needs no agent.")
@config_options
@output_option
@agent_options
def show(
    *,
    keys: tuple[str, ...],
    live: bool,
    changed: bool,
    describe: bool,
    given: Given,
    agent: AgentHandle,
    output: Output,
) -> None:
    """Show every key, its value, where it comes from and whose it is.

    OPTION=VALUE changes a live option, until the agent starts again. Asks the
    agent; with --config-dir, --config or --set it shows what an agent would
    make of these. A * marks what differs from its default.

    \b
    axoneme config --changed
    axoneme config routing-mode --node node1
    axoneme config --config-dir /etc/axoneme -o yaml
    axoneme config --describe
    axoneme config --live
    axoneme config drift
    axoneme config PolicyAuditMode=Enabled PolicyEnforcement=default
    """
    if live or any("=" in key for key in keys):
        options = change(agent, keys) if keys else agent.call("config.live")
        output.emit(options, lambda: show_live(options, output))
        return
    if len(keys) > 1:
        raise click.UsageError("one key at a time, or OPTION=VALUE for each")
    key = keys[0] if keys else None
    if describe:
        _describe(given, output, key)
        return
    rows = _local(given) if given else _remote(agent)
    known = [r["key"] for r in rows]
    rows = [r for r in rows if key in (None, r["key"]) and not (changed and r["is_default"])]
    if key is not None and not rows and not changed:
        _unknown(key, known)
    output.emit(
        rows,
        lambda: output.table(
            ["", "Key", "Value", "Source", "Owner"],
            [
                ("" if r["is_default"] else "*", r["key"], r["value"], r["origin"], r["owner"])
                for r in rows
            ],
            empty="every key has its default",
        ),
    )


def _remote(agent: AgentHandle) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = agent.call("config.get")
    for warning in agent.call("config.warnings"):
        click.echo(f"warning: {clean(warning)}", err=True)
    return rows


def _local(given: Given) -> list[dict[str, Any]]:
    import attrs

    loaded, _ = given.boot()
    for warning in loaded.warnings:
        click.echo(f"warning: {clean(warning)}", err=True)
    return [attrs.asdict(setting) for setting in loaded.settings()]


def _describe(given: Given, output: Output, key: str | None) -> None:
    loaded, _ = given.boot()
    rows = [
        {
            "key": option.key,
            "type": option.type,
            "default": "" if callable(option.default) else option.format(option.default),
            "allowed": " ".join(option.choices),
            "owner": option.owner,
            "helm": option.helm,
            "help": option.help,
        }
        for option in loaded.registry
        if key in (None, option.key)
    ]
    if not rows:
        _unknown(str(key), [option.key for option in loaded.registry])
    output.emit(
        rows,
        lambda: output.table(
            ["Key", "Type", "Default", "Owner", "Meaning"],
            [
                (
                    r["key"],
                    r["type"],
                    r["default"],
                    r["owner"],
                    r["help"] + (f" ({r['allowed']})" if r["allowed"] else ""),
                )
                for r in rows
            ],
        ),
    )


def _unknown(key: str, known: list[str]) -> None:
    from axoneme.core.errors import NotFoundError
    from axoneme.core.text import nearest

    near = nearest(key, known)
    hint = f"did you mean {near}?" if near else "axoneme config lists them"
    raise NotFoundError(f"no configuration key {key!r}", hint=hint)


config = DefaultVerb("config", show)
for verb in (drift, cluster_config.view, cluster_config.set_key, cluster_config.delete_key):
    config.add_command(verb)
