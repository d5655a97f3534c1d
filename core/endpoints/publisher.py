"""Writes CiliumEndpoint objects: what other nodes learn about this node's endpoints.

Follows table ``endpoints`` and keeps one object per endpoint with a pod. The store is never in
the way of an ADD: writing happens after it, only the last state counts, and a failure is retried.
Objects of this node that no endpoint stands behind are removed, at start and every few minutes:
table ``cluster_endpoints`` knows them, filled from CiliumEndpoints or, later, from slices. One
that somebody deletes or changes is written again. A name belongs to the node where the Pod object
says that it runs: an endpoint that the pod has left behind writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from axoneme.core.endpoints.objects import (
    API_VERSION,
    KIND,
    PolicyStatus,
    encode_metadata,
    encode_status,
    node_ip,
)
from axoneme.core.endpoints.pods import Pod, is_pod
from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.ipcache.remote import ClusterEndpoint
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Changes, Table
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

Name = tuple[str, str]
"""Namespace and pod."""

_SHOWN = (EndpointState.READY, EndpointState.NOT_READY, EndpointState.RESTORING)
PARALLEL = 8
PATIENCE = 0.5
"""Seconds that objects wait at most while ADDs are under way."""

AWAY_SECONDS = 2.0
"""Between two looks for a store that is away."""
FULL_SECONDS = 300.0
"""Between two looks at all objects; one that is as it should be is not written."""


class EndpointPublisher:
    """One object per endpoint with a pod."""

    def __init__(
        self,
        store: Store,
        endpoints: Table[int, Endpoint],
        pods: Table[tuple[str, str], Pod],
        node: Callable[[], Node | None],
        policy: Callable[[], PolicyStatus | None],
        *,
        objects: Table[Name, ClusterEndpoint],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.errors: dict[Name, str] = {}
        self._store = store
        self._endpoints = endpoints
        self._pods = pods
        self._node = node
        self._policy = policy
        self._objects = objects
        self._busy = busy
        self._failures = 0
        self._todo: set[Name] = set()
        self._failed: set[Name] = set()
        """Tried again after a pause that others' changes do not cut short."""
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever."""
        stops = [
            self._endpoints.subscribe(self._endpoints_changed),
            self._pods.subscribe(self._pods_changed),
            self._objects.subscribe(self._objects_changed),
        ]
        try:
            while self._store.away():  # noqa: ASYNC110  a word, no event; writes in vain delay watches
                await asyncio.sleep(AWAY_SECONDS)
            await self._objects.initialized.wait()
            full_at = retry_at = 0.0
            while True:
                if time.monotonic() >= full_at:  # for a loss that no watch has told of
                    full_at = time.monotonic() + FULL_SECONDS
                    self._todo |= {_name(e) for e in self._endpoints.rows() if e.pod}
                    self._todo |= self._strays()
                if time.monotonic() >= retry_at:
                    self._todo |= self._failed
                await self._let_pass()
                self._wake.clear()
                todo, self._todo = self._todo, set()
                away = bool(self._store.away())
                failed = todo if away else await self._write_all(todo)
                self._failed = (self._failed - todo) | failed
                if failed:
                    retry_at = time.monotonic() + (
                        AWAY_SECONDS if away else backoff(self._failures)
                    )
                until = retry_at if self._failed else full_at
                with contextlib.suppress(TimeoutError):
                    # wait_for may lose a cancellation
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        await self._wake.wait()
        finally:
            for stop in stops:
                stop()

    def _endpoints_changed(self, changes: Changes[int, Endpoint]) -> None:
        rows = [*changes.upserted.values(), *changes.deleted.values()]
        self._look_at({_name(e) for e in rows if e.pod})

    def _pods_changed(self, changes: Changes[Name, Pod]) -> None:
        self._look_at({n for n in changes.upserted if self._endpoints.find("pod", n)})

    def _objects_changed(self, changes: Changes[Name, ClusterEndpoint]) -> None:
        """Objects of ours that somebody has deleted, or written otherwise."""
        touched = {n for n in changes.deleted if self._endpoints.find("pod", n)}
        for name, row in changes.upserted.items():
            for endpoint in self._endpoints.find("pod", name):
                have = (row.identity, row.ipv4, row.ipv6, str(row.node or ""))
                node = node_ip(self._node())
                if have != (endpoint.identity, endpoint.ipv4, endpoint.ipv6, node):
                    touched.add(name)
        self._look_at(touched)

    def _look_at(self, names: set[Name]) -> None:
        if names:
            self._todo |= names
            self._wake.set()

    async def _let_pass(self) -> None:
        """Requests of the runtime come first: a burst of them delays objects, not pods."""
        until = time.monotonic() + PATIENCE
        while self._busy() and time.monotonic() < until:  # noqa: ASYNC110  a counter, no event
            await asyncio.sleep(0.02)

    def _strays(self) -> set[Name]:
        """Objects that say they are of this node, and of no endpoint."""
        node = self._node()
        rows = [
            row for a in (node.addresses if node else ()) for row in self._objects.find("node", a)
        ]
        named = {(row.namespace, row.name) for row in rows}
        return {name for name in named if not self._endpoints.find("pod", name)}

    async def _write_all(self, todo: set[Name]) -> set[Name]:
        """Write what is to be written; returns what failed."""
        gate = asyncio.Semaphore(PARALLEL)

        async def one(name: Name) -> Name | None:
            async with gate:
                try:
                    await self._write(name)
                except AxonemeError as error:
                    if self.errors.get(name) != str(error):
                        log.warning(
                            "endpoint not published",
                            extra={"pod": "/".join(name), "error": str(error)},
                        )
                    self.errors[name] = str(error)
                    return name
                self.errors.pop(name, None)
                return None

        failed = {n for n in await asyncio.gather(*map(one, sorted(todo))) if n is not None}
        if failed:
            self._failures += 1
        elif self._failed <= todo:
            self._failures = 0
        return failed

    async def _write(self, name: Name) -> None:
        found = self._endpoints.find("pod", name)
        key = ObjectKey(KIND, *name)
        if not found:
            await self._remove(key)
            return
        endpoint = found[0]
        pod = self._pods.get(name)
        if endpoint.state not in _SHOWN or pod is None or not is_pod(pod, endpoint.uid):
            return  # not yet, or the pod of that name is another one, or on another node
        policy = self._policy()
        status = encode_status(
            endpoint,
            self._node(),
            policy.status_of(endpoint.identity) if policy else None,
            pod.service_account,
        )
        try:
            present = await self._store.get(key)
            if not pod.uid or owner_uid(present) == pod.uid:
                await self._store.update_status(key, status)
                return
            # Of an earlier pod of that name: who owns an object cannot be changed in its status.
            await self._store.delete(key, present.resource_version)
        except NotFoundError:
            pass
        metadata = encode_metadata(endpoint, pod.uid, dict(pod.labels))
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
        made = await self._store.create({**body, "status": status})
        if made.status != status:  # a server that takes the status by its own verb only
            await self._store.update_status(key, status)

    async def _remove(self, key: ObjectKey) -> None:
        """Delete our object; one that another node has taken over meanwhile is not ours."""
        try:
            obj = await self._store.get(key)
            networking = obj.status.get("networking")
            node = self._node()
            holder = networking.get("node") if isinstance(networking, dict) else None
            if holder and node is not None and holder not in {str(a) for a in node.addresses}:
                return
            await self._store.delete(key, obj.resource_version)
        except NotFoundError:
            pass


def owner_uid(obj: ClusterObject) -> str:
    """Uid of the Pod that owns an object; empty if none does."""
    metadata = obj.body.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, dict) else None
    for owner in owners if isinstance(owners, list) else ():
        if isinstance(owner, dict) and owner.get("kind") == "Pod":
            return str(owner.get("uid") or "")
    return ""


def _name(endpoint: Endpoint) -> Name:
    return (endpoint.namespace, endpoint.pod)
