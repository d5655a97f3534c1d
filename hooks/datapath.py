"""Hooks of the packet path: C stages, maps, constants, attachments and network state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from axoneme.hooks.markers import hookspec

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config
    from axoneme.core.datapath.registry import DatapathRegistry
    from axoneme.core.model.network import NetworkState
    from axoneme.core.netlink.links import LinkInfo


@hookspec
def axoneme_register_datapath(datapath: DatapathRegistry, config: Config) -> None:
    """Contribute to the packet path: stages, sources, maps, constants, programs.

    Called once before programs are composed, in order of ``requires``. Constants depend on the
    configuration alone, never on the node: a node's own values belong in maps, so that every
    node of a cluster shares one compiled object.
    """


@hookspec
def axoneme_describe_network(state: NetworkState, agent: Agent) -> None:
    """Add the links, addresses, routes, rules and sysctls that this plugin wants on the node.

    Called at start and whenever a plugin asks for it (``agent.network.request()``). Pure: reads
    tables, writes only to ``state``. What is ours in the kernel and in nobody's state is swept.
    """


@hookspec
def axoneme_links_changed(links: Mapping[str, LinkInfo], agent: Agent) -> None:
    """Hear of the node's links, by name, once the network is as described.

    Called at start, before programs are attached, and whenever links come, go or change. No I/O:
    write attachments (``agent.datapath.attachments``) and facts (table ``runtime``).
    """
