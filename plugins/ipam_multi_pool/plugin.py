"""Multi-pool IPAM as a plugin: options, the node's blocks, the operator's task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from axoneme.hooks import hookimpl
from axoneme.plugins.ipam_multi_pool import config as options_of

if TYPE_CHECKING:
    from axoneme.core.agent import Agent
    from axoneme.core.config import Config, OptionRegistry
    from axoneme.core.model.endpoint import AddressPair, AddressRequest
    from axoneme.core.operator import Operator
    from axoneme.core.status import StatusReport

NAME = "ipam-multi-pool"
API_VERSION = 1
REQUIRES: tuple[str, ...] = ()
SUMMARY = "Addresses out of the pool that a pod chooses, in blocks that nodes ask for"


@hookimpl
def axoneme_register_options(options: OptionRegistry) -> None:
    """Declare the keys."""
    options_of.register(options)


@hookimpl
def axoneme_is_enabled(config: Config) -> tuple[bool, str]:
    """On when ``ipam`` names it."""
    return config["ipam"] == "multi-pool", f"ipam={config['ipam']}"


@hookimpl
def axoneme_setup_agent(agent: Agent) -> None:
    """The node's blocks, and what it asks for."""
    from axoneme.plugins.ipam_multi_pool.source import PoolSource

    agent.services.provide(PoolSource, PoolSource(agent))


@hookimpl
def axoneme_setup_operator(operator: Operator) -> None:
    """Pools, and blocks for nodes."""
    from axoneme.plugins.ipam_multi_pool.controller import PoolOperator

    operator.services.provide(PoolOperator, PoolOperator(operator))


@hookimpl
def axoneme_allocate_addresses(request: AddressRequest, agent: Agent) -> AddressPair:
    """From the blocks of the pod's pool."""
    from axoneme.plugins.ipam_multi_pool.source import PoolSource

    return agent.services.get(PoolSource).allocate(request)


@hookimpl
def axoneme_release_addresses(addresses: AddressPair, owner: str, agent: Agent) -> None:
    """Back into the node's blocks."""
    from axoneme.plugins.ipam_multi_pool.source import PoolSource

    agent.services.get(PoolSource).release(addresses, owner)


@hookimpl
def axoneme_report_status(report: StatusReport, agent: Agent) -> None:
    """``IPAM: multi-pool: default IPv4 3/14 in 1 block``."""
    from axoneme.plugins.ipam_multi_pool import status
    from axoneme.plugins.ipam_multi_pool.source import PoolSource

    status.report(report, agent.services.get(PoolSource))
