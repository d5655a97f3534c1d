"""A store behind a proxy, and a listener that remembers: for tests of faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.testing.apiserver import ApiServer
from axoneme.core.testing.faults import FaultProxy


def run(server: ApiServer, work: Callable[[KubernetesStore, FaultProxy], Awaitable[None]]) -> None:
    """A store whose requests all go through a proxy."""

    async def whole() -> None:
        async with FaultProxy(server).running() as proxy:
            access = await open_access(str(server.kubeconfig), (proxy.url,))
            store = KubernetesStore(access)
            try:
                await asyncio.wait_for(work(store, proxy), 90)
            finally:
                await store.close()

    asyncio.run(whole())


def body(called: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    metadata = {"name": called, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class View:
    """What a listener knows, kept by what it is told."""

    def __init__(self, store: KubernetesStore) -> None:
        self.versions: dict[str, str] = {}
        self.synced = asyncio.Event()
        self.syncs = 0
        self._task = asyncio.create_task(self._follow(store))

    async def _follow(self, store: KubernetesStore) -> None:
        async for event in store.watch("ConfigMap"):
            if event.type == "synced":
                self.syncs += 1
                self.synced.set()
            elif event.type == "deleted":
                assert event.key is not None
                del self.versions[event.key.name]
            else:
                assert event.obj is not None
                self.versions[event.obj.key.name] = event.obj.resource_version

    async def equals(self, truth: KubernetesStore) -> None:
        """Until it knows just what there is."""
        for _ in range(600):
            there = {o.key.name: o.resource_version for o in await truth.list("ConfigMap")}
            if there == self.versions:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.versions} is not {there}")

    def close(self) -> None:
        """Listen no more."""
        self._task.cancel()
