"""Writes CiliumEndpoint objects: what other nodes learn about this node's endpoints.

Follows table ``endpoints`` and keeps one object per endpoint with a pod. The store is never in
the way of an ADD: writing happens after it, only the last state counts, and a failure is retried.
Objects of this node that no endpoint stands behind are removed at start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from axoneme.core.endpoints.objects import (
    API_VERSION,
    KIND,
    PolicyStatus,
    encode_metadata,
    encode_status,
)
from axoneme.core.endpoints.pods import Pod
from axoneme.core.errors import AxonemeError, NotFoundError
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ObjectKey
from axoneme.core.reconcile.reconciler import backoff
from axoneme.core.state import Table
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

Name = tuple[str, str]
"""Namespace and pod."""

_SHOWN = (EndpointState.READY, EndpointState.NOT_READY, EndpointState.RESTORING)
PARALLEL = 8
PATIENCE = 0.5
"""Seconds that objects wait at most while ADDs are under way."""


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
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.errors: dict[Name, str] = {}
        self._store = store
        self._endpoints = endpoints
        self._pods = pods
        self._node = node
        self._policy = policy
        self._busy = busy
        self._failures = 0

    async def run(self) -> None:
        """Follow for ever."""
        with self._endpoints.watch() as watch:
            changes = await watch.next()
            todo = {_name(e) for e in changes.upserted.values() if e.pod}
            todo |= await self._strays()
            while True:
                await self._let_pass()
                todo = await self._write_all(todo)
                delay = backoff(self._failures) if todo else None
                try:
                    changes = await asyncio.wait_for(watch.next(), delay)
                except TimeoutError:
                    continue
                rows = [*changes.upserted.values(), *changes.deleted.values()]
                todo |= {_name(e) for e in rows if e.pod}

    async def _let_pass(self) -> None:
        """Requests of the runtime come first: a burst of them delays objects, not pods."""
        until = time.monotonic() + PATIENCE
        while self._busy() and time.monotonic() < until:  # noqa: ASYNC110  a counter, no event
            await asyncio.sleep(0.02)

    async def _strays(self) -> set[Name]:
        """Objects that say they are of this node."""
        node = self._node()
        if node is None:
            return set()
        own = {str(a) for a in node.addresses}
        found = set()
        for obj in await self._store.list(KIND):
            networking = obj.status.get("networking")
            if isinstance(networking, dict) and networking.get("node") in own:
                found.add((obj.key.namespace, obj.key.name))
        return found

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
        self._failures = self._failures + 1 if failed else 0
        return failed

    async def _write(self, name: Name) -> None:
        found = self._endpoints.find("pod", name)
        key = ObjectKey(KIND, *name)
        if not found:
            await self._remove(key)
            return
        endpoint = found[0]
        if endpoint.state not in _SHOWN:
            return
        pod = self._pods.get(name)
        policy = self._policy()
        status = encode_status(
            endpoint,
            self._node(),
            policy.status_of(endpoint.identity) if policy else None,
            pod.service_account if pod else "",
        )
        metadata = encode_metadata(
            endpoint, pod.uid if pod else "", dict(pod.labels) if pod else {}
        )
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
        try:
            await self._store.update_status(key, status)
        except NotFoundError:
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
            await self._store.delete(key)
        except NotFoundError:
            pass


def _name(endpoint: Endpoint) -> Name:
    return (endpoint.namespace, endpoint.pod)
