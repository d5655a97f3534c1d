"""A Kubernetes Event on the Node when its agent runs with another configuration than is wanted.

One for each set of keys (``kubectl describe node``, ``kubectl get events``), whose name follows
from the node and the keys: an agent that starts again with the same ones finds it and says that it
still holds. Needs to create and patch events in namespace ``default``, where those of Nodes are;
without that right there is one warning.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodeconfig.drift import Drift, summary
from axoneme.core.store.model import Store

log = logging.getLogger(__name__)

REASON: Final = "ConfigDrift"
COMPONENT: Final = "axoneme-agent"
NAMESPACE: Final = "default"
"""Of events about what has no namespace (Kubernetes, validation of events)."""
SHOWN: Final = 10
LONGEST: Final = 1024
"""Characters of a message that an API server takes."""


class DriftEvents:
    """Says what waits for a restart, once for each set of keys. Only the last state counts."""

    def __init__(self, store: Store, node: str) -> None:
        self._store, self._node = store, node
        self._rows: tuple[Drift, ...] = ()
        self._told: frozenset[str] = frozenset()
        self._counts: Counter[str] = Counter()
        self._failed = False
        self._wake = asyncio.Event()

    def tell(self, rows: Iterable[Drift]) -> None:
        """What waits now; cheap, nothing is sent here."""
        self._rows = tuple(rows)
        self._wake.set()

    async def run(self) -> None:
        """Send for ever; what fails is not tried again before the keys are others."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            rows = self._rows
            keys = frozenset(row.key for row in rows)
            if keys and keys != self._told:
                await self._try(rows)
            self._told = keys

    async def _try(self, rows: tuple[Drift, ...]) -> None:
        try:
            await self._send(rows)
        except AxonemeError as error:
            if not self._failed:
                log.warning("no event of configuration drift", extra={"error": str(error)})
            self._failed = True

    async def _send(self, rows: tuple[Drift, ...]) -> None:
        body = event(self._node, rows)
        key = ObjectKey("Event", NAMESPACE, body["metadata"]["name"])
        self._counts[key.name] += 1
        news = {"message": body["message"], "lastTimestamp": body["lastTimestamp"]}
        if self._counts[key.name] > 1:
            news["count"] = self._counts[key.name]
            try:
                await self._store.patch(key, news)
            except NotFoundError:  # it has outlived its hour
                self._counts[key.name] = 1
            else:
                return
        try:
            await self._store.create(body)
        except ConflictError:  # by the agent before this one
            await self._store.patch(key, news)


def event(node: str, rows: tuple[Drift, ...]) -> dict[str, Any]:
    """The Event (``v1``) of rows that wait."""
    keys = "\n".join(sorted(row.key for row in rows))
    mark = hashlib.sha256(f"{node}\n{keys}".encode()).hexdigest()[:16]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": NAMESPACE, "name": f"{node[:200].rstrip('.-')}.{mark}"},
        # The uid is what kubelets give events of their Nodes, and kubectl describe looks for.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": "Warning",
        "reason": REASON,
        "message": f"agent's configuration: {summary(rows, SHOWN)}"[:LONGEST],
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
