"""Pods that came up before the agent did, with another network: they are restarted.

A pod is unmanaged when the agent on its node is ready and yet there is no CiliumEndpoint of it. It
has to be so for a while, by this process's own clock: an agent that has just started publishes
late.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import Table
from axoneme.plugins.node_conditions.tables import PodRow

if TYPE_CHECKING:
    from axoneme.core.metrics import MetricRegistry
    from axoneme.core.operator import Operator

log = logging.getLogger(__name__)

Name = tuple[str, str]

PATIENCE: Final = 30.0
"""Seconds for which a pod has to be unmanaged."""
PAUSE: Final = 300.0
"""Seconds between two restarts of pods of one name."""


class UnmanagedPods:
    """Looks at rows; deletes by uid and version."""

    def __init__(
        self, operator: Operator, pods: Table[Name, PodRow], patience: float = PATIENCE
    ) -> None:
        self._operator = operator
        self._pods = pods
        self.patience = patience
        self.since: dict[tuple[Name, str], float] = {}
        """Name and uid of unmanaged pods, and the moment at which each was first seen to be one."""
        self._restarted: dict[Name, float] = {}

    def register_metrics(self, metrics: MetricRegistry) -> None:
        """``unmanaged_pods``: how many there were at the last look."""
        metrics.collect_gauge(
            "operator_unmanaged_pods",
            "Pods that no agent manages",
            (),
            lambda: [((), float(len(self.since)))],
        )

    async def look(self) -> None:
        """One look at all pods that may be restarted."""
        operator, now = self._operator, asyncio.get_running_loop().time()
        await self._pods.initialized.wait()
        await operator.endpoints.initialized.wait()
        rows = self._pods.rows()
        agents = {r.node for r in rows if r.agent and r.ready}
        found = {
            ((r.namespace, r.name), r.uid): r
            for r in rows
            if not r.agent and r.node in agents and not self._is_managed(r)
        }
        self.since = {k: self.since.get(k, now) for k in found}
        self._restarted = {k: t for k, t in self._restarted.items() if now - t < PAUSE}
        for key, row in found.items():
            if now - self.since[key] >= self.patience and key[0] not in self._restarted:
                await self._restart(row, now)

    def _is_managed(self, row: PodRow) -> bool:
        return self._operator.endpoints.get((row.namespace, row.name)) is not None

    async def _restart(self, row: PodRow, now: float) -> None:
        store = self._operator.store
        try:
            pod = await store.get(row.key)
            if pod.uid != row.uid or await self._has_object(pod):
                return
            await store.delete(pod.key, pod.resource_version, graceful=True)
        except (ConflictError, NotFoundError):
            return  # it changes just now, or is gone: the next look decides
        except AxonemeError as error:
            log.warning("pod not restarted", extra={"pod": str(row.key), "error": str(error)})
            return
        self._restarted[row.namespace, row.name] = now
        log.warning(
            "pod restarted, no agent managed it", extra={"pod": str(row.key), "node": row.node}
        )

    async def _has_object(self, pod: ClusterObject) -> bool:
        """Whether there is a CiliumEndpoint of the pod after all, without an identity perhaps."""
        key = ObjectKey("CiliumEndpoint", pod.key.namespace, pod.key.name)
        try:
            obj = await self._operator.store.get(key)
        except NotFoundError:
            return False
        owners: Any = (obj.body.get("metadata") or {}).get("ownerReferences") or ()
        uids = {o.get("uid") for o in owners if isinstance(o, dict)}
        return not uids or pod.uid in uids
