"""The operator's tasks: make the pools that the configuration names, give nodes their blocks.

``spec.ipam.pools.allocated`` of the CiliumNodes is the record: there is no other state. Rows may be
older than what was written last, and an object with a bad field has none: what is free is read from
the objects themselves, whenever something is to be given. Every write carries the version that was
read, so an agent that gives up a block at the same time is never overwritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.errors import AxonemeError, ConflictError, InvalidObjectError, NotFoundError
from axoneme.core.model.node import NodePool
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.objects import KIND as NODE
from axoneme.core.nodes.objects import encode_pools
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Table
from axoneme.core.store.reflector import Reflector
from axoneme.plugins.ipam_multi_pool.config import CREATE, pools_to_create
from axoneme.plugins.ipam_multi_pool.plan import Plan, plan
from axoneme.plugins.ipam_multi_pool.tables import (
    KIND,
    NodeNeeds,
    PodIPPool,
    Prefix,
    decode_needs,
    decode_pool,
)

if TYPE_CHECKING:
    from axoneme.core.operator import Operator

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
MOST: Final = 4096
"""Blocks of an object with a bad field that are looked at."""


class PoolOperator:
    """Follows pools and nodes."""

    def __init__(self, operator: Operator) -> None:
        self._store = operator.store
        self._create = pools_to_create(operator.config.text(CREATE))
        self.pools: Table[str, PodIPPool] = operator.tables.create(
            "pod_ip_pools", PodIPPool, key=lambda r: r.name
        )
        self.nodes: Table[str, NodeNeeds] = operator.tables.create(
            "node_pools", NodeNeeds, key=lambda r: r.name
        )
        self._wake = asyncio.Event()
        self.pools.subscribe(lambda _: self._wake.set())
        self.nodes.subscribe(lambda _: self._wake.set())
        pools = Reflector(operator.store, KIND, self.pools, decode_pool)
        nodes = Reflector(operator.store, NODE, self.nodes, decode_needs)
        operator.tasks.spawn(f"reflect {KIND}", pools.run)
        operator.tasks.spawn("reflect CiliumNode for pools", nodes.run)
        operator.add_task("pod IP pools", self.run)
        if self._create:
            operator.add_task("create pod IP pools", self.create)

    async def create(self) -> None:
        """Make the configured pools that are missing; those that are there are left alone."""
        for body in self._create:
            name = body["metadata"]["name"]
            failures = 0
            while True:
                try:
                    await self._store.create(body)
                    log.info("pod IP pool created", extra={"pool": name})
                except ConflictError:
                    pass
                except AxonemeError as error:
                    failures += 1
                    log.warning("pool not created", extra={"pool": name, "error": str(error)})
                    await asyncio.sleep(backoff(failures))
                    continue
                break

    async def run(self) -> None:
        """Run for ever; a node that could not be written is tried again."""
        await self.pools.initialized.wait()
        await self.nodes.initialized.wait()
        while True:
            self._wake.clear()
            timeout = None if await self.serve() else RETRY_SECONDS
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def serve(self) -> bool:
        """One pass over all nodes; false when something has to be tried again."""
        pools, rows = self.pools.rows(), {n.name: n for n in self.nodes.rows()}
        todo = plan(rows.values(), pools)
        if not todo.assignments and _words(rows.values()) == todo.errors:
            return True
        try:
            objects = {obj.key.name: obj for obj in await self._store.list(NODE)}
        except AxonemeError as error:
            log.warning("nodes not read", extra={"error": str(error)})
            return False
        present, held = _look(objects, rows)
        todo = plan(present.values(), pools, held)
        fine = True
        for name in sorted(present):
            fine &= await self._write(objects[name], present[name], todo)
        return fine

    async def _write(self, obj: ClusterObject, node: NodeNeeds, todo: Plan) -> bool:
        name = node.name
        try:
            if name in todo.assignments:
                obj = await self._assign(obj, todo.assignments[name])
            await self._report(obj, node.error, todo.errors.get(name, ""))
        except NotFoundError:
            return True  # gone meanwhile
        except ConflictError:
            return False  # changed meanwhile: its row brings it back, and if not, the clock
        except AxonemeError as error:
            log.warning("node not written", extra={"node": name, "error": str(error)})
            return False
        return True

    async def _assign(self, obj: ClusterObject, pools: Iterable[NodePool]) -> ClusterObject:
        allocated = encode_pools(pools)
        changes = {"spec": {"ipam": {"pools": {"allocated": allocated}}}}
        written = await self._store.patch(obj.key, changes, obj.resource_version)
        log.info("blocks given", extra={"node": obj.key.name, "pools": allocated})
        return written

    async def _report(self, obj: ClusterObject, before: str, now: str) -> None:
        if before == now:
            return
        changes = {"status": {"ipam": {"operator-status": {"error": now or None}}}}
        await self._store.patch(ObjectKey(NODE, "", obj.key.name), changes)
        if now:
            log.error("node lacks addresses", extra={"node": obj.key.name, "error": now})


def _words(rows: Iterable[NodeNeeds]) -> dict[str, str]:
    return {row.name: row.error for row in rows if row.error}


def _look(
    objects: Mapping[str, ClusterObject], rows: Mapping[str, NodeNeeds]
) -> tuple[dict[str, NodeNeeds], list[Prefix]]:
    """The nodes as they are now, and the blocks of those that cannot be read."""
    present: dict[str, NodeNeeds] = {}
    held: list[Prefix] = []
    for name, obj in objects.items():
        try:
            present[name] = decode_needs(obj)
        except InvalidObjectError:
            held += readable_blocks(obj)
    # A store leaves out text that is bad altogether.
    held += [c for row in rows.values() if row.name not in objects for c in row.blocks]
    return present, held


def readable_blocks(obj: ClusterObject) -> list[Prefix]:
    """The blocks of an object as far as they can be read."""
    ipam = obj.spec.get("ipam")
    texts: list[Any] = []
    if isinstance(ipam, Mapping):
        texts += _list(ipam.get("podCIDRs"))
        pools = ipam.get("pools")
        for entry in _list(pools.get("allocated")) if isinstance(pools, Mapping) else ():
            texts += _list(entry.get("cidrs")) if isinstance(entry, Mapping) else []
    found: list[Prefix] = []
    for text in texts[:MOST]:
        with contextlib.suppress(ValueError):
            found.append(ip_network(str(text), strict=False))
    return found


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
