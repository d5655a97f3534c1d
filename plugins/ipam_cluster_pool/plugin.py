"""Cluster-pool IPAM as a plugin: options, the node's allocator, the operator's task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.core.ipam import report as ipam_report
from axoneme.core.ipam.allocator import NodeAllocator
from axoneme.hooks import hookimpl
from axoneme.plugins.ipam_cluster_pool import config as options_of
from axoneme.plugins.ipam_cluster_pool.blocks import NodeBlocks

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.model.endpoint import AddressPair, AddressRequest
    from axoneme.core.operator import Operator
    from axoneme.core.status import StatusReport

NAME = "ipam-cluster-pool"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Addresses out of node blocks that the operator carves from the cluster's pools"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare ``cluster-pool-*``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On when ``ipam`` names it."""
    return config["ipam"] == "cluster-pool", f"ipam={config['ipam']}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """Pools must fit."""
    options_of.check(config)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """The node's allocator, kept in step with the node's pod CIDRs."""
    allocator = NodeAllocator(
        full="delete pods on this node or give nodes larger blocks with cluster-pool-ipv*-mask-size"
    )
    agent.services.provide(NodeAllocator, allocator)
    agent.node.needed_families = agent.node.families
    agent.node.on_pod_cidrs(allocator.set_prefixes)


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """Blocks for nodes."""
    blocks = NodeBlocks(operator.config, operator.store, operator.tables["nodes_seen"])
    operator.add_task("cluster-pool", blocks.run)


@hookimpl
def axoneme_allocate_addresses(request: AddressRequest, agent: Agent) -> AddressPair:
    """From the node's own blocks."""
    return agent.services.get(NodeAllocator).allocate(request)


@hookimpl
def axoneme_release_addresses(addresses: AddressPair, owner: str, agent: Agent) -> None:
    """Back into the node's blocks."""
    agent.services.get(NodeAllocator).release(addresses, owner)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """``IPAM: IPv4: 5/254 allocated from 10.244.1.0/24``."""
    ipam_report.report(report, agent.services.get(NodeAllocator))
