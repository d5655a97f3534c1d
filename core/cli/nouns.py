"""Nouns of the command line: groups that load their verbs late, from the core and from plugins.

A noun of the core is a module that is imported when its noun is used. Plugins are loaded only when
a help text must show their commands or a command is not known otherwise: ``axoneme endpoint list``
never pays for them. A plugin that cannot be loaded costs one line on stderr.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

import click

from axoneme.core.text import clean, nearest

CORE_NOUNS: Final[Mapping[str, tuple[str, str]]] = {
    "agent": ("axoneme.core.cli.agent", "Run the agent of this node."),
    "build-config": ("axoneme.core.cli.build_config", "Write a node's configuration to files."),
    "bpf": ("axoneme.core.cli.bpf", "Look into the tables of the packet path."),
    "cni": ("axoneme.core.cni.cli", "Install the executable that runtimes call."),
    "config": ("axoneme.core.cli.config", "Show every key, its value and its source."),
    "connectivity": (
        "axoneme.core.cli.connectivity",
        "Try whether a network does what it should.",
    ),
    "endpoint": ("axoneme.core.cli.endpoint", "Show the endpoints of a node."),
    "identity": ("axoneme.core.cli.identity", "Show security identities."),
    "install": ("axoneme.core.cli.install", "Install Axoneme into a cluster."),
    "ip": ("axoneme.core.cli.ip", "Show which identity stands behind an address."),
    "lab": ("axoneme.core.cli.lab", "Run a cluster on this machine."),
    "map": ("axoneme.core.cli.map", "Show BPF maps and what they hold."),
    "metrics": ("axoneme.core.cli.metrics", "Show metrics."),
    "migrate": ("axoneme.core.cli.migrate", "Compare an existing cilium-config with ours."),
    "monitor": ("axoneme.core.cli.monitor", "Watch drops, verdicts and traces."),
    "node": ("axoneme.core.cli.node", "Show the nodes of the cluster."),
    "node-init": ("axoneme.core.cli.node_init", "Prepare a node for an agent in a container."),
    "operator": ("axoneme.core.cli.operator", "Run the operator of the cluster."),
    "plugin": ("axoneme.core.cli.plugin", "Show plugins, their options and hooks."),
    "state": ("axoneme.core.cli.state", "Show any table of the agent."),
    "status": ("axoneme.core.cli.status", "Show how the agent, or a cluster, is."),
    "sysdump": ("axoneme.core.cli.sysdump", "Collect what helps to find a fault."),
    "uninstall": ("axoneme.core.cli.uninstall", "Remove Axoneme from a cluster."),
    "upgrade": ("axoneme.core.cli.upgrade", "Upgrade the Axoneme of a cluster."),
    "version": ("axoneme.core.cli.version", "Show versions."),
}
"""Noun -> module, help. The module's attribute has the noun's name, with ``_`` for ``-``."""


HOOK: Final = "axoneme_register_commands"


class Noun(click.Group):
    """A group that asks plugins for more verbs before it says that it does not know one."""

    group_class = type  # sub-groups are Nouns too: plugins may extend them

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, from the group itself or after plugins have had their turn."""
        command = super().get_command(ctx, cmd_name)
        if command is None and load_plugin_commands(ctx):
            command = super().get_command(ctx, cmd_name)
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, those of plugins too."""
        load_plugin_commands(ctx)
        return super().list_commands(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is nearest."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            near = nearest(name, self.list_commands(ctx))
            hint = f", did you mean {near}?" if near else f" (see {ctx.command_path} --help)"
            ctx.fail(f"no command {clean(name)!r}{hint}")
        return super().resolve_command(ctx, args)


class Root(Noun):
    """The root group: nouns of the core by table, nouns of plugins by hook."""

    plugins_loaded = False

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The noun; modules of the core are imported here."""
        if cmd_name in CORE_NOUNS:
            return self.core_noun(cmd_name)
        return super().get_command(ctx, cmd_name)

    def core_noun(self, name: str) -> click.Command | None:
        """Import a noun of the core; ``None`` when its module is not there."""
        if name not in self.commands:
            try:
                module = importlib.import_module(CORE_NOUNS[name][0])
            except ModuleNotFoundError as error:
                if error.name != CORE_NOUNS[name][0]:
                    raise
                return None
            self.add_command(getattr(module, name.replace("-", "_")), name)
        return self.commands[name]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every noun, sorted."""
        return sorted({*super().list_commands(ctx), *CORE_NOUNS})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of nouns, without importing those of the core."""
        rows = []
        for name in self.list_commands(ctx):
            if name in CORE_NOUNS:
                rows.append((name, CORE_NOUNS[name][1]))
            else:
                command = self.commands[name]
                if not command.hidden:
                    rows.append((name, command.get_short_help_str(60)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def noun(root: click.Group, name: str, help: str = "") -> click.Group:
    """The group of that name under ``root`` (or under a noun), made if it is not there.

    What a plugin uses in ``axoneme_register_commands``: ``bpf = noun(root, "bpf")``, then
    ``@bpf.command("greetings")``.
    """
    found: click.Command | None
    if isinstance(root, Root) and name in CORE_NOUNS:
        found = root.core_noun(name)
    else:
        found = root.commands.get(name)
    if found is None:
        found = Noun(name, help=help)
        root.add_command(found)
    if not isinstance(found, click.Group):
        raise TypeError(f"{name} is a command, not a noun with verbs")
    return found


def load_plugin_commands(ctx: click.Context) -> bool:
    """Let every installed plugin add its commands, once; ``False`` when it was done before."""
    root = ctx.find_root().command
    if not isinstance(root, Root) or root.plugins_loaded:
        return False
    root.plugins_loaded = True
    from axoneme.core.plugin_loading import describe_failure, find_implementing

    for candidate in find_implementing(HOOK):
        function = getattr(candidate.module, HOOK, None)
        if candidate.error:
            _complain(candidate.name, candidate.error)
        elif function is not None:
            try:
                function(root)
            except Exception as error:
                _complain(candidate.name, describe_failure(error))
    return True


def _complain(plugin: str, reason: str) -> None:
    click.echo(clean(f"warning: plugin {plugin} adds no commands: {reason}"), err=True)
