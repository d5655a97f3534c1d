"""Leases (coordination.k8s.io/v1), as leader election uses them.

Whether another's lease has ended is told by this process's own clock: it has not changed for its
duration since it was first seen so. Two machines' clocks are never compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from axoneme.core.errors import ConflictError, NotFoundError
from axoneme.core.k8s.client import ApiClient

NAMESPACE: Final = "kube-system"


class Leases:
    """Leases that this process has seen or holds."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str = NAMESPACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._namespace, self._clock = client, namespace, clock
        self._seen: dict[str, tuple[tuple[Any, ...], float]] = {}

    async def acquire(self, name: str, holder: str, duration: float) -> bool:
        """Take or renew; ``False`` when another holds it, or was faster."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        what = f"Lease {self._namespace}/{name}"
        try:
            lease = await self._client.call("GET", f"{path}/{name}", what)
        except NotFoundError:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": self._namespace},
                "spec": self._spec({}, holder, duration),
            }
            return await self._write("POST", path, what, body)
        spec = lease.get("spec") or {}
        if not self._is_free(name, spec, holder):
            return False
        lease["spec"] = self._spec(spec, holder, duration)
        return await self._write("PUT", f"{path}/{name}", what, lease)

    def _is_free(self, name: str, spec: dict[str, Any], holder: str) -> bool:
        owner = spec.get("holderIdentity")
        if owner in (None, "", holder):
            return True
        record = (owner, spec.get("renewTime"), spec.get("leaseTransitions"))
        known = self._seen.get(name)
        if known is None or known[0] != record:
            self._seen[name] = (record, self._clock())
            return False
        return self._clock() - known[1] >= float(spec.get("leaseDurationSeconds") or 0)

    @staticmethod
    def _spec(old: dict[str, Any], holder: str, duration: float) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = old.get("holderIdentity") == holder
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration)),
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (not mine and bool(old)),
        }

    async def _write(self, method: str, path: str, what: str, body: dict[str, Any]) -> bool:
        try:
            await self._client.call(method, path, what, body=body)
        except ConflictError:
            return False
        return True
