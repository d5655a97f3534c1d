"""Hooks of a plugin's life: what it is, what it can be told, when it runs.

A plugin is a module (or object) reached through the entry-point group ``axoneme.plugins``.
Module attributes that the manager reads before any hook is called:

``NAME``         the plugin's name, ``[a-z][a-z0-9-]*``; must equal the entry point's name
``API_VERSION``  the hook API it was written for (see :data:`axoneme.hooks.API_VERSION`)
``REQUIRES``     names of plugins that must be enabled and come before it (default ``()``)
``SUMMARY``      one line for ``axoneme plugin list``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.operator import Operator


@hookspec
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare configuration keys.

    Called once per start for every discovered plugin, enabled or not, before the
    configuration is read, so that a key of a disabled plugin is known and validated.
    """


@hookspec
def axoneme_is_enabled(config: Config) -> tuple[bool, str] | None:
    """Say whether the configuration switches this plugin on, and why, in a few words.

    Called for each plugin on its own after the configuration is validated. ``None``, or no
    implementation, means: on, "always on". The words appear in ``axoneme plugin list``.
    """


@hookspec
def axoneme_check_config(config: Config) -> None:
    """Raise :class:`axoneme.core.errors.ConfigError` when enabled keys contradict each other.

    Called for every enabled plugin, in order of ``requires``, in agent and operator.
    """


@hookspec
def axoneme_setup_agent(agent: Agent) -> None:
    """Wire the plugin into one agent: create tables, provide services, register tasks.

    Called once, in order of ``requires``, before anything runs. No I/O here: the agent's
    store and kernel objects exist but are not started.
    """


@hookspec
def axoneme_setup_operator(operator: Operator) -> None:
    """Wire the plugin into the operator: the cluster-wide twin of ``axoneme_setup_agent``."""


@hookspec
def axoneme_stop_agent(agent: Agent) -> None:
    """Flush what must survive a stop. Called in reverse order. Kernel state stays in place."""
