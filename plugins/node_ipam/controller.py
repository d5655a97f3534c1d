"""The operator's task: services, nodes and endpoints in, statuses out.

A service is looked at when it changes, all of them when a node does, and those with
externalTrafficPolicy Local when their endpoints come to a node or leave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.model.conditions import Condition
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator.balancers import (
    DEFAULT_KEY,
    NODE_SATISFIED,
    NODEIPAM,
    Address,
    Name,
    balancer_services,
)
from axoneme.core.operator.statuses import (
    RETRY_SECONDS,
    StatusQueue,
    own_addresses,
    with_addresses,
    without_addresses,
)
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.node_ipam.compute import SATISFIED, choose
from axoneme.plugins.node_ipam.rows import (
    BalancerNode,
    ServiceNodes,
    decode_cilium_node,
    decode_node,
    decode_slice,
    merged_nodes,
)

if TYPE_CHECKING:
    from axoneme.core.operator import Operator

FULL_PASS_SECONDS: Final = 300.0


class NodeIpam:
    """Node IPAM of one operator."""

    def __init__(self, operator: Operator) -> None:
        self._config = operator.config
        self._default = operator.config.text(DEFAULT_KEY)
        tables, store = operator.tables, operator.store
        self._store = store
        self.services = balancer_services(operator)
        self.nodes: Table[str, BalancerNode] = tables.create(
            "balancer_nodes", BalancerNode, key=lambda r: r.name
        )
        self.cilium_nodes: Table[str, BalancerNode] = tables.create(
            "balancer_cilium_nodes", BalancerNode, key=lambda r: r.name
        )
        self.slices: Table[Name, ServiceNodes] = tables.create(
            "balancer_slices",
            ServiceNodes,
            key=lambda r: r.name,
            indexes={"service": lambda r: [r.service]},
        )
        self.reflectors: list[Reflector[Any, Any]] = [
            Reflector(store, "Node", self.nodes, decode_node),
            Reflector(store, "CiliumNode", self.cilium_nodes, decode_cilium_node),
            Reflector(store, "EndpointSlice", self.slices, decode_slice),
        ]
        for reflector in self.reflectors:
            operator.tasks.spawn(f"node-ipam: reflect {reflector.kind}", reflector.run)
        operator.add_task("node-ipam", self.run)
        self.queue = StatusQueue(store, self._desired)
        self._merged: dict[str, BalancerNode] = {}
        self._addresses: set[Address] = set()

    async def run(self) -> None:
        """Run while leading."""
        tables: list[Table[Any, Any]] = [
            self.services, self.nodes, self.cilium_nodes, self.slices,
        ]  # fmt: skip
        for table in tables:
            await table.initialized.wait()
        self.queue = StatusQueue(self._store, self._desired)
        self._look_at_nodes()
        wake = asyncio.Event()
        undo = [table.subscribe(lambda _: wake.set()) for table in tables]
        watches = [table.watch() for table in tables]
        try:
            while True:
                services, nodes, cilium_nodes, slices = (watch.take() for watch in watches)
                if nodes or cilium_nodes:
                    self._look_at_nodes()
                self._add(services.upserted)
                self._add(r.service for r in slices.upserted.values())
                self._add(r.service for r in slices.deleted.values())
                await self.queue.work()
                if not self.queue:
                    await self._sleep(wake)
                wake.clear()
        finally:
            for watch in watches:
                watch.close()
            for unsubscribe in undo:
                unsubscribe()

    async def _sleep(self, wake: asyncio.Event) -> None:
        failed = bool(self.queue.failed)
        try:
            async with asyncio.timeout(RETRY_SECONDS if failed else FULL_PASS_SECONDS):
                await wake.wait()  # not wait_for: it loses a cancellation that meets a wake-up
        except TimeoutError:
            if failed:
                self.queue.retry()
            else:
                self._look_at_nodes()

    def _look_at_nodes(self) -> None:
        self._merged = merged_nodes(self.nodes, self.cilium_nodes)
        self._addresses = {a for n in self._merged.values() for a in n.addresses}
        self._add(row.name for row in self.services)

    def _add(self, names: Iterable[Name]) -> None:
        known = (row for row in map(self.services.get, names) if row is not None)
        self.queue.add(row.key for row in known)

    def _desired(self, key: ObjectKey) -> tuple[Mapping[str, Any], Mapping[str, Any], str] | None:
        row = self.services.get((key.namespace, key.name))
        if row is None:
            return None
        if row.ipam(self._default) != NODEIPAM:
            return row.status, without_addresses(row, NODE_SATISFIED, _nothing), row.version
        local = {n for s in self.slices.find("service", row.name) for n in s.nodes}
        families = row.wanted_families(self._config)
        given = own_addresses(row, NODE_SATISFIED)
        outcome = choose(row, self._merged.values(), local, families, given)
        fine = "True" if outcome.reason == SATISFIED else "False"
        condition = Condition(NODE_SATISFIED, fine, outcome.reason, outcome.message)
        status = with_addresses(row, outcome.addresses, condition, self._addresses.__contains__)
        return row.status, status, row.version


def _nothing(address: Address) -> bool:
    return False
