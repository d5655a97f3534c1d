"""Kubernetes IPAM as a plugin: options, the node's allocator, the way from Node to CiliumNode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.core.ipam import report as ipam_report
from axoneme.core.ipam.allocator import NodeAllocator
from axoneme.hooks import hookimpl
from axoneme.plugins.ipam_kubernetes import config as options_of
from axoneme.plugins.ipam_kubernetes.source import HINT, NodeSource

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.model.endpoint import AddressPair, AddressRequest
    from axoneme.core.status import StatusReport

NAME = "ipam-kubernetes"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Addresses out of the pod CIDRs that Kubernetes gives its nodes"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare ``k8s-require-ipv*-pod-cidr``."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On when ``ipam`` names it."""
    return config["ipam"] == "kubernetes", f"ipam={config['ipam']}"


@hookimpl
def axoneme_check_config(config: Config) -> None:
    """What is required must be enabled."""
    options_of.check(config)


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """The node's allocator, kept in step with the node's pod CIDRs."""
    allocator = NodeAllocator(full="delete pods on this node", missing=HINT)
    source = NodeSource(agent.node_name, agent.node.families)
    agent.services.provide(NodeAllocator, allocator)
    agent.services.provide(NodeSource, source)
    agent.node.source = source
    agent.node.needed_families = options_of.required(agent.config)
    agent.node.on_pod_cidrs(allocator.set_prefixes)


@hookimpl
def axoneme_allocate_addresses(request: AddressRequest, agent: Agent) -> AddressPair:
    """From the node's own pod CIDRs."""
    return agent.services.get(NodeAllocator).allocate(request)


@hookimpl
def axoneme_release_addresses(addresses: AddressPair, owner: str, agent: Agent) -> None:
    """Back into them."""
    agent.services.get(NodeAllocator).release(addresses, owner)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """``IPAM: IPv4: 5/254 allocated from 10.244.1.0/24``."""
    ipam_report.report(report, agent.services.get(NodeAllocator))
    agent.services.get(NodeSource).report(report)
