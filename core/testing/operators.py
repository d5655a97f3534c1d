"""A real operator over a folder of manifests, in the test's own loop: objects in, statuses out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from axoneme.core.boot import boot
from axoneme.core.errors import NotFoundError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator import Operator
from axoneme.core.store.manifest import load_all
from axoneme.core.store.sync import SyncStore

PATIENCE = 30.0
"""Seconds after which a state that does not come is a failure."""
OFF = "-ipam-cluster-pool -policy -tunnel -masquerade -native-routing"


class OperatorBench:
    """A store, and an operator over it while :meth:`running` is entered. Restart: enter again."""

    def __init__(self, folder: Path, **keys: str) -> None:
        self.store = SyncStore(folder / "store")
        self.operator: Operator | None = None
        self._keys = {key.replace("_", "-"): value for key, value in keys.items()}
        self._folder = folder

    @asynccontextmanager
    async def running(self, **keys: str) -> AsyncIterator[Operator]:
        """Run an operator that leads; keys come on top of the bench's own."""
        more = {key.replace("_", "-"): value for key, value in keys.items()}
        flags = {
            "store-path": str(self.store.root),
            "state-dir": str(self._folder),
            "leader-election-retry-period": "0.1s",
            "plugins": OFF,
        }
        operator = Operator(*boot(flags | self._keys | more, {}))
        self.operator = operator
        task = asyncio.create_task(operator.run())
        try:
            await eventually(lambda: operator.leading)
            yield operator
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def apply(self, text: str) -> None:
        """Put the manifests of a YAML text into the store, as a user would."""
        for body in load_all(text, "manifest"):
            self.store.apply(body)

    def get(self, kind: str, name: str, namespace: str = "default") -> ClusterObject:
        """An object; cluster-wide kinds have no namespace."""
        namespaced = self.store.kinds.get(kind).namespaced
        return self.store.get(ObjectKey(kind, namespace if namespaced else "", name))

    def ingress(self, name: str, namespace: str = "default") -> list[str]:
        """Addresses, or host names, in a service's status."""
        balancer = self.get("Service", name, namespace).status.get("loadBalancer") or {}
        return [str(e.get("ip") or e.get("hostname")) for e in balancer.get("ingress") or ()]

    def condition(self, kind: str, name: str, condition: str) -> Mapping[str, Any]:
        """A condition of an object; empty if it has none of that type."""
        try:
            found = self.get(kind, name).status.get("conditions") or ()
        except NotFoundError:
            return {}
        return next((c for c in found if c["type"] == condition), {})


async def eventually(true: Callable[[], object]) -> None:
    """Wait until something is true; a failure names it by its own evaluation."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while not true():
        if loop.time() > end:
            raise AssertionError("what was waited for did not come")
        await asyncio.sleep(0.02)
