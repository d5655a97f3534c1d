"""The operator's task: write pod CIDRs into CiliumNode objects, and errors into their status.

``spec.ipam.podCIDRs`` is the record: there is no other state. A node that goes frees its blocks
by going. Rows of the node table may be older than what was written last, and an object with a bad
field has none: what is free is read from the objects themselves, whenever something is to be given.
Every write carries the version that was read, so an agent that writes the same object
at the same time is never overwritten; the change it made brings the node back here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from axoneme.core.config import Config
from axoneme.core.errors import AxonemeError, ConflictError, InvalidObjectError, NotFoundError
from axoneme.core.ipam.blocks import BlockPool, Prefix
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.nodes.objects import decode_node
from axoneme.core.state import Table
from axoneme.core.store.model import Store
from axoneme.plugins.ipam_cluster_pool.carve import Plan, plan

log = logging.getLogger(__name__)

KIND = "CiliumNode"
RETRY_SECONDS = 5.0


def pools_of(config: Config) -> list[BlockPool]:
    """Empty pools of the enabled families."""
    return [
        BlockPool(
            config[f"cluster-pool-{family}-cidr"] or (),
            config[f"cluster-pool-{family}-mask-size"],
            hint=f"add a prefix to cluster-pool-{family}-cidr",
        )
        for family in ("ipv4", "ipv6")
        if config[f"enable-{family}"]
    ]


class NodeBlocks:
    """Follows the node table and serves whoever has no block."""

    def __init__(self, config: Config, store: Store, nodes: Table[str, Node]) -> None:
        self._config = config
        self._store = store
        self._nodes = nodes
        self._reported: set[str] = set()

    async def run(self) -> None:
        """Run for ever; a node that could not be written is tried again."""
        await self._nodes.initialized.wait()
        with self._nodes.watch() as watch:
            while True:
                timeout = None if await self.serve(self._nodes.rows()) else RETRY_SECONDS
                try:
                    async with asyncio.timeout(timeout):  # wait_for may lose a cancellation
                        await watch.next()
                except TimeoutError:
                    continue

    async def serve(self, nodes: Iterable[Node]) -> bool:
        """One pass over all nodes; false when something has to be tried again."""
        rows = {n.name: n for n in nodes}
        todo = plan(rows.values(), pools_of(self._config))
        if not (todo.assignments or todo.errors or self._reported):
            return True
        try:
            present, held = await self._look(rows)
        except AxonemeError as error:
            log.warning("nodes not read", extra={"error": str(error)})
            return False
        todo = plan(present.values(), pools_of(self._config), held)
        fine = True
        for name, prefixes in todo.assignments.items():
            fine &= await self._guard(name, self._assign(present[name], prefixes))
        for name in sorted(todo.errors.keys() | self._reported):
            fine &= await self._guard(name, self._report(name, todo))
        return fine

    async def _look(self, rows: Mapping[str, Node]) -> tuple[dict[str, Node], list[Prefix]]:
        """The nodes as they are in the store now, and the blocks of those that cannot be read."""
        present: dict[str, Node] = {}
        held: list[Prefix] = []
        objects = await self._store.list(KIND)
        for obj in objects:
            try:
                present[obj.key.name] = decode_node(obj, "")
            except InvalidObjectError:
                held += readable_pod_cidrs(obj)
        listed = {obj.key.name for obj in objects}  # a store leaves out text that is bad
        held += [c for n in rows.values() if n.name not in listed for c in n.pod_cidrs]
        return present, held

    async def _guard(self, name: str, write: Any) -> bool:
        try:
            await write
        except NotFoundError:
            return True  # gone meanwhile
        except ConflictError:
            return False  # changed meanwhile: read again
        except AxonemeError as error:
            log.warning("node not written", extra={"node": name, "error": str(error)})
            return False
        return True

    async def _assign(self, node: Node, prefixes: tuple[Prefix, ...]) -> None:
        name = node.name
        obj = await self._store.get(ObjectKey(KIND, "", name))
        if decode_node(obj, "").pod_cidrs != node.pod_cidrs:
            raise ConflictError(f"node {name} has got other pod CIDRs meanwhile")
        await self._store.update(with_pod_cidrs(obj, prefixes))
        log.info("pod CIDRs given", extra={"node": name, "cidrs": [str(p) for p in prefixes]})

    async def _report(self, name: str, todo: Plan) -> None:
        key = ObjectKey(KIND, "", name)
        message = todo.errors.get(name, "")
        obj = await self._store.get(key)
        status = dict(obj.status)
        ipam = dict(status.get("ipam") or {})
        ipam["operator-status"] = {"error": message} if message else {}
        if ipam != (obj.status.get("ipam") or {}):
            await self._store.update_status(key, {**status, "ipam": ipam})
            if message:
                log.error("node without pod CIDR", extra={"node": name, "error": message})
        (self._reported.add if message else self._reported.discard)(name)


def readable_pod_cidrs(obj: ClusterObject) -> list[Prefix]:
    """The pod CIDRs of an object as far as they can be read."""
    ipam = obj.spec.get("ipam")
    cidrs = ipam.get("podCIDRs") if isinstance(ipam, Mapping) else None
    found: list[Prefix] = []
    for text in cidrs if isinstance(cidrs, list | tuple) else ():
        with contextlib.suppress(ValueError):
            found.append(ip_network(str(text), strict=False))
    return found


def with_pod_cidrs(obj: ClusterObject, prefixes: Iterable[Prefix]) -> dict[str, Any]:
    """The manifest with other pod CIDRs, to be written against the version that was read."""
    body = dict(obj.body)
    spec = dict(obj.spec)
    spec["ipam"] = {**(spec.get("ipam") or {}), "podCIDRs": [str(p) for p in prefixes]}
    body["spec"] = spec
    body["metadata"] = {**body["metadata"], "resourceVersion": obj.resource_version}
    return body
