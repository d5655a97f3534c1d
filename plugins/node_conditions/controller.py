"""The operator's task on nodes: follow agents' pods and Nodes, patch what is not right.

Only ``spec.taints`` and ``status.conditions`` are patched, each against the version that was read:
whoever changes them at the same time is never overwritten, and brings the node back here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import Changes, Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.node_conditions import compute
from axoneme.plugins.node_conditions.config import Settings
from axoneme.plugins.node_conditions.tables import NodeRow, PodRow, decode_node, decode_pod
from axoneme.plugins.node_conditions.unmanaged import UnmanagedPods

if TYPE_CHECKING:
    from axoneme.core.operator import Operator

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0


class NodeConditions:
    """Nodes that may be wrong, and the task that puts them right."""

    def __init__(self, operator: Operator) -> None:
        self.settings = settings = Settings.of(operator.config)
        self._store = operator.store
        self.nodes: Table[str, NodeRow] = operator.tables.create(
            "node_conditions", NodeRow, key=lambda r: r.name
        )
        self.pods: Table[tuple[str, str], PodRow] = operator.tables.create(
            "watched_pods",
            PodRow,
            key=lambda r: (r.namespace, r.name),
            indexes={"node": lambda r: [r.node]},
        )
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self.nodes.subscribe(self._nodes_changed)
        self.pods.subscribe(self._pods_changed)
        nodes = Reflector(
            operator.store, "Node", self.nodes, partial(decode_node, settings=settings)
        )
        pods = Reflector(operator.store, "Pod", self.pods, partial(decode_pod, settings=settings))
        operator.tasks.spawn("reflect Node", nodes.run)
        operator.tasks.spawn("reflect Pod", pods.run)
        if settings.nodes:
            operator.add_task("node-conditions", self.run)
        self.unmanaged = UnmanagedPods(operator, self.pods)
        operator.every("unmanaged-pods", settings.interval, self.unmanaged.look)

    async def run(self) -> None:
        """Run for ever; what could not be written is tried again."""
        await self.nodes.initialized.wait()
        await self.pods.initialized.wait()
        self.nodes.flush()
        self.pods.flush()
        self._dirty = {row.name for row in self.nodes.rows()}
        while True:
            names, self._dirty = self._dirty, set()
            self._wake.clear()
            failed = await self.settle(names)
            self._dirty |= failed
            try:
                async with asyncio.timeout(RETRY_SECONDS if failed else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def settle(self, names: Iterable[str]) -> set[str]:
        """Put nodes right; those that have to be tried again are returned."""
        room = asyncio.Semaphore(self.settings.workers)

        async def one(name: str) -> str:
            async with room:
                return "" if await self._settle(name) else name

        return set(await asyncio.gather(*map(one, sorted(names)))) - {""}

    async def _settle(self, name: str) -> bool:
        row, ready = self.nodes.get(name), compute.agent_ready(self.pods.find("node", name))
        if row is None or ready is None or compute.is_right(row, ready, self.settings):
            return True
        key = ObjectKey("Node", "", name)
        try:
            await self._patch(key, ready)
        except NotFoundError:
            return True
        except ConflictError:
            return False  # somebody wrote it just now
        except AxonemeError as error:
            log.warning("node not patched", extra={"node": name, "error": str(error)})
            return False
        return True

    async def _patch(self, key: ObjectKey, ready: bool) -> None:
        node = await self._store.get(key)
        conditions = compute.conditions(node, ready, self.settings)
        if conditions is not None:  # first: a taint that goes lets pods come
            status = {"status": {"conditions": conditions}}
            node = await self._store.patch(key, status, node.resource_version)
            log.info("node condition set", extra={"node": key.name, "reason": "CiliumIsUp"})
        taints = compute.taints(node, ready, self.settings)
        if taints is not None:
            spec = {"spec": {"taints": taints or None}}
            await self._store.patch(key, spec, node.resource_version)
            said = "node taint removed" if ready else "node taint set"
            log.info(said, extra={"node": key.name, "taint": self.settings.taint})

    # What changes

    def _nodes_changed(self, changes: Changes[str, NodeRow]) -> None:
        self._look_at(changes.upserted)

    def _pods_changed(self, changes: Changes[tuple[str, str], PodRow]) -> None:
        self._look_at(row.node for row in changes.upserted.values() if row.agent)

    def _look_at(self, names: Iterable[str]) -> None:
        self._dirty.update(names)
        if self._dirty:
            self._wake.set()
