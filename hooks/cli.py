"""Hooks of the command line and the local API behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    import click

    from axoneme.core.agent import Agent
    from axoneme.core.api.server import ApiRouter


@hookspec
def axoneme_register_commands(root: click.Group) -> None:
    """Add nouns, or verbs to existing nouns, to the command line.

    Called in every CLI process for each discovered plugin, before arguments are parsed, so it
    must be quick: import what a command needs inside the command.
    """


@hookspec
def axoneme_register_api(api: ApiRouter, agent: Agent) -> None:
    """Add methods to the agent's local API; their names are ``<noun>.<verb>``."""
