"""From the store to the core's tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from axoneme.core.endpoints.pods import decode_namespace, decode_pod
from axoneme.core.identities.objects import KIND as IDENTITY
from axoneme.core.ipcache.remote import decode_cluster_endpoint
from axoneme.core.ipcache.slices import SliceReflector
from axoneme.core.nodes.objects import KIND as NODE
from axoneme.core.nodes.objects import decode_node
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector

if TYPE_CHECKING:
    from axoneme.core.agent.agent import Agent

log = logging.getLogger(__name__)


def spawn_reflectors(agent: Agent) -> list[Reflector[Any, Any]]:
    """Start to follow the kinds that the core reads."""
    name = agent.node_name
    store, tables = agent.store, agent.tables
    found: list[Reflector[Any, Any]] = [
        Reflector(
            store,
            "Pod",
            tables["pods"],
            partial(decode_pod, node=name),
            fields={"spec.nodeName": name},  # of others there are CiliumEndpoints, which are small
        ),
        Reflector(store, "Namespace", tables["namespaces"], decode_namespace),
        Reflector(store, IDENTITY, agent.identities.table, agent.identities.decode),
        Reflector(store, NODE, tables["nodes_seen"], partial(decode_node, local_name=name)),
        _endpoints(agent),
    ]
    for reflector in found:
        agent.tasks.spawn(f"reflect {reflector.kind}", reflector.run)
    return found


def _endpoints(agent: Agent) -> Reflector[Any, Any]:
    """Endpoints of the cluster, one by one or in slices."""
    table = agent.tables["cluster_endpoints"]
    if agent.config.flag("enable-cilium-endpoint-slice"):
        return SliceReflector(agent.store, table)
    return Reflector(agent.store, "CiliumEndpoint", table, decode_cluster_endpoint)


async def wait_synced(
    required: list[Table[Any, Any]], tell: Callable[[str], None] = lambda _: None
) -> None:
    """Wait until every table that the start depends on has its first full content.

    ``tell`` hears, again and again, which tables are missing.
    """
    waiting = {t.name: asyncio.ensure_future(t.initialized.wait()) for t in required}
    try:
        for looks in count(1):
            _, missing = await asyncio.wait(waiting.values(), timeout=1.0)
            if not missing:
                return
            names = [n for n, task in waiting.items() if not task.done()]
            tell(" ".join(names))
            if looks % 10 == 0:
                log.warning("still waiting for the store", extra={"tables": names})
    finally:
        for task in waiting.values():
            task.cancel()
