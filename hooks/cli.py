"""Hooks of the command line and the local API behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter
    from axoneme.core.sysdump.node import NodeDump


@hookspec
def axoneme_register_commands(root: click.Group) -> None:
    """Add nouns, or verbs to existing nouns, to the command line.

    Called in every CLI process for each discovered plugin, before arguments are parsed, so it
    must be quick: import what a command needs inside the command.
    """


@hookspec
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """Add methods to the agent's local API; their names are ``<noun>.<verb>``."""


@hookspec
def axoneme_collect_sysdump(dump: NodeDump) -> None:
    """Add files of a node to ``axoneme sysdump``.

    Called in the command line's process, once for each node, for each installed plugin; ``dump``
    asks the node's agent (``dump.ask("services.json", "service.list")``). A method that the agent
    does not have, because the plugin is off, is noted and costs nothing else. Add nothing secret.
    """
