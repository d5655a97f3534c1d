"""The operator's garbage collections: identities, CiliumEndpoints, CiliumNodes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.identities.gc import collect_identities
from axoneme.core.model.objects import ClusterObject, ObjectKey

if TYPE_CHECKING:
    from axoneme.core.operator.operator import Operator

log = logging.getLogger(__name__)


def register(operator: Operator) -> None:
    """Register the tasks with their intervals from the configuration."""
    config = operator.config
    work = Collector(operator)
    operator.every("identity-gc", config.seconds("identity-gc-interval"), work.identities)
    operator.every("endpoint-gc", config.seconds("cilium-endpoint-gc-interval"), work.endpoints)
    operator.every("node-gc", config.seconds("nodes-gc-interval"), work.nodes)


class Collector:
    """One pass of each collection. Something is removed only if it was useless twice in a row."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._suspects: set[ObjectKey] = set()
        self._lonely: set[ObjectKey] = set()

    async def identities(self) -> None:
        """Identities that no CiliumEndpoint uses, and no pod if the operator makes them."""
        operator = self._operator
        await operator.endpoints.initialized.wait()
        used = {e.identity for e in operator.endpoints.rows()}
        for others in operator.identities_in_use:
            used.update(await others())
        timeout = operator.config.seconds("identity-heartbeat-timeout")
        result = await collect_identities(operator.store, used, timeout)
        if result.marked or result.deleted:
            log.info(
                "identities collected",
                extra={
                    "alive": result.alive,
                    "marked": result.marked,
                    "deleted": result.deleted,
                },
            )

    async def endpoints(self) -> None:
        """CiliumEndpoints whose pod, or whose node, is gone."""
        operator = self._operator
        await operator.nodes.initialized.wait()
        store = operator.store
        pods = {(p.key.namespace, p.key.name): p.uid async for p in store.each("Pod")}
        addresses = {str(a) for n in operator.nodes.rows() for a in n.addresses}
        # A node whose object nobody can read now may hold any address: no word on nodes then.
        nodes = None if operator.node_objects.errors else addresses
        gone = {
            obj.key: obj.resource_version
            async for obj in store.each("CiliumEndpoint")
            if _is_stale(obj, pods.get((obj.key.namespace, obj.key.name)), nodes)
        }
        await self._remove({k: v for k, v in gone.items() if k in self._suspects})
        self._suspects = gone.keys() - self._suspects

    async def nodes(self) -> None:
        """CiliumNodes that a Node object owned which is gone."""
        store = self._operator.store
        gone: dict[ObjectKey, str] = {}
        there = {n.key.name: n.uid async for n in store.each("Node")}
        async for obj in store.each("CiliumNode"):
            owner = next((o for o in _owners(obj) if o.get("kind") == "Node"), None)
            if owner is None:
                continue
            name = str(owner.get("name"))
            if name in there and there[name] == owner.get("uid"):
                continue
            try:  # not in the list: it may be one that cannot be read
                node = await store.get(ObjectKey("Node", "", name))
            except NotFoundError:
                gone[obj.key] = obj.resource_version
                continue
            except AxonemeError:
                continue
            if owner.get("uid") and node.uid and owner["uid"] != node.uid:
                gone[obj.key] = obj.resource_version
        await self._remove({k: v for k, v in gone.items() if k in self._lonely})
        self._lonely = gone.keys() - self._lonely

    async def _remove(self, versions: dict[ObjectKey, str]) -> None:
        """Remove objects as they were read: one that was written since is in use."""
        for key, version in sorted(versions.items()):
            try:
                await self._operator.store.delete(key, version)
            except (ConflictError, NotFoundError):
                continue
            except AxonemeError as error:
                log.warning("object not collected", extra={"object": str(key), "error": str(error)})
                continue
            log.info("object collected", extra={"object": str(key)})


def _is_stale(obj: ClusterObject, uid: str | None, nodes: set[str] | None) -> bool:
    """Whether nothing stands behind a CiliumEndpoint.

    ``uid`` is that of the pod of its name, ``None`` if there is none; ``nodes`` are the addresses
    of nodes, if all are known.
    """
    owner = next((o for o in _owners(obj) if o.get("kind") == "Pod"), None)
    if owner is not None:
        if uid is None:
            return True
        if owner.get("uid") and uid and owner["uid"] != uid:
            return True
    networking = obj.status.get("networking")
    node = networking.get("node") if isinstance(networking, dict) else None
    return nodes is not None and bool(node) and node not in nodes


def _owners(obj: ClusterObject) -> list[dict[str, object]]:
    metadata = obj.body.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    return [o for o in owners or () if isinstance(o, dict)]
