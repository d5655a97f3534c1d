"""Reaching a cluster from a workstation, or from a pod of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from axoneme.core.errors import ConfigError
from axoneme.core.k8s.access import IN_CLUSTER, open_access
from axoneme.core.k8s.store import KubernetesStore

T = TypeVar("T")


@frozen
class Place:
    """Which cluster, and where in it Axoneme is installed."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = "kube-system"

    @property
    def file(self) -> str:
        """The kubeconfig: given, of ``KUBECONFIG``, or the user's own; empty: a pod's account."""
        if self.kubeconfig:
            return self.kubeconfig
        named = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        if named:
            return named
        own = Path.home() / ".kube" / "config"
        return str(own) if own.exists() else ""

    def run(self, work: Callable[[KubernetesStore], Awaitable[T]]) -> T:
        """Do ``work`` with a store of the cluster's objects."""

        if not self.file and not IN_CLUSTER.is_dir():
            raise ConfigError(
                "no cluster is named, and this is no pod of one",
                hint="give --kubeconfig FILE, or set KUBECONFIG",
            )

        async def whole() -> T:
            access = await open_access(self.file, context=self.context)
            store = KubernetesStore(access, qps=50, burst=100)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(whole())
