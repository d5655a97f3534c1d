"""What the tests of every store's promises share: objects, names, listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.model import Store, StoreEvent

Opener = Callable[[], Store]
NUMBERS = count()


def name() -> str:
    """One that no other test has."""
    return f"n{next(NUMBERS)}"


def config_map(called: str, namespace: str = "apps", **data: str) -> dict[str, Any]:
    """A kind that takes any words."""
    metadata = {"name": called, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(called: str) -> dict[str, Any]:
    """A kind with a status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": called, "namespace": "apps"},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }


def placed(called: str, node: str) -> dict[str, Any]:
    """A pod on a node."""
    body = pod(called)
    return {**body, "spec": {**body["spec"], "nodeName": node}}


def key(called: str, kind: str = "ConfigMap") -> ObjectKey:
    """In the namespace of these tests."""
    return ObjectKey(kind, "apps", called)


def run(opener: Opener, work: Callable[[Store], Awaitable[None]]) -> None:
    """With a store, which is closed again."""

    async def whole() -> None:
        store = opener()
        try:
            await asyncio.wait_for(work(store), 60)
        finally:
            await store.close()

    asyncio.run(whole())


class Listener:
    """Events of a watch about objects whose names begin with a word."""

    def __init__(self, events: AsyncIterator[StoreEvent], prefix: str) -> None:
        self._events, self._prefix = events, prefix

    async def until(self, kind: str) -> list[tuple[str, str]]:
        """Type and name of events, up to one of that type."""
        found: list[tuple[str, str]] = []
        async for event in self._events:
            if event.key is not None and not event.key.name.startswith(self._prefix):
                continue
            found.append((event.type, event.key.name if event.key else ""))
            if event.type == kind:
                return found
        return found


@asynccontextmanager
async def listening(
    store: Store, prefix: str, name: str = "", namespace: str = ""
) -> AsyncIterator[Listener]:
    """A watch that ends with the block."""
    events = store.watch("ConfigMap", name, namespace)
    try:
        yield Listener(events, prefix)
    finally:
        await events.aclose()  # type: ignore[attr-defined]
