"""An operator over a folder or a real API server, for tests of CiliumEndpointSlices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from axoneme.core.boot import boot
from axoneme.core.errors import NotFoundError
from axoneme.core.ipcache.slices import KIND, entries_of
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator import Operator
from axoneme.core.store.model import Store
from axoneme.core.testing.operators import OFF, PATIENCE, eventually

Running = Callable[[], AbstractAsyncContextManager[Operator]]
Keys = dict[str, str]


def slice_keys(folder: Path) -> Keys:
    """Slices of three, and nothing else that an operator does."""
    return {
        "store-path": str(folder / "store"),
        "state-dir": str(folder),
        "leader-election-retry-period": "0.1s",
        "plugins": f"{OFF} -lb-ipam -node-ipam -node-conditions",
        "enable-cilium-endpoint-slice": "true",
        "ces-max-ciliumendpoints-per-ces": "3",
        "cilium-endpoint-gc-interval": "0",
        "identity-gc-interval": "0",
        "nodes-gc-interval": "0",
    }


def runner(keys: Keys) -> Running:
    """Runs an operator, as often as a test likes, over the same objects, by the keys of then."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Operator]:
        operator = Operator(*boot(keys, {}))
        task = asyncio.create_task(operator.run())
        try:
            await eventually(lambda: operator.leading)
            await eventually(operator.nodes.initialized.is_set)
            if "endpoint_slices" in operator.tables:
                await eventually(operator.tables["endpoint_slices"].initialized.is_set)
            yield operator
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run


def endpoint(name: str, identity: int = 300, namespace: str = "default") -> dict[str, Any]:
    """A CiliumEndpoint of node 172.18.0.3."""
    addressing = [{"ipv4": "10.0.1.5", "ipv6": "fd00::5"}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "status": {
            "identity": {"id": identity},
            "networking": {"addressing": addressing, "node": "172.18.0.3"},
            "named-ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    }


def node(name: str, **annotations: str) -> dict[str, Any]:
    """A CiliumNode."""
    metadata = {"name": name, "annotations": annotations}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": metadata, "spec": {}}


def key_of(name: str) -> ObjectKey:
    """Of an endpoint in the default namespace."""
    return ObjectKey("CiliumEndpoint", "default", name)


async def told(store: Store) -> dict[str, list[str]]:
    """Names of endpoints by slice."""
    return {o.key.name: [e["name"] for e in entries_of(o)] for o in await store.list(KIND)}


async def until(true: Callable[[], Awaitable[object]]) -> None:
    """Wait until something is true that has to be asked for."""
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.05)


async def clear(store: Store) -> None:
    """Remove what the test made."""
    for kind in ("CiliumEndpoint", "CiliumNode", KIND):
        for obj in await store.list(kind):
            with contextlib.suppress(NotFoundError):  # the operator may be faster
                await store.delete(obj.key)
