"""Node IPAM as a plugin: its option, and a task of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.node_ipam import config as options_of

if TYPE_CHECKING:
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.operator import Operator

NAME = "node-ipam"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Nodes' own addresses for services of class io.cilium/node"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """``enable-node-ipam``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """Follows ``enable-node-ipam``."""
    on = config.flag(options_of.KEY)
    return on, f"{options_of.KEY}={str(on).lower()}"


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """The task."""
    from axoneme.plugins.node_ipam.controller import NodeIpam

    operator.services.provide(NodeIpam, NodeIpam(operator))
