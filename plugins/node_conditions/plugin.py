"""Node taints, node conditions and unmanaged pods as a plugin of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.node_conditions import config as options_of

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.operator import Operator

NAME = "node-conditions"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Taints and conditions of nodes by the agent's readiness, stray pods restarted"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare the keys."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On while any duty is."""
    return options_of.enabled(config)


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """The tasks and the metric."""
    from axoneme.plugins.node_conditions.controller import NodeConditions

    conditions = NodeConditions(operator)
    operator.services.provide(NodeConditions, conditions)
    conditions.unmanaged.register_metrics(operator.metrics)
