"""The Kubernetes store that the configuration asks for."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from axoneme.core.k8s.access import Access, open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.store.kinds import KindRegistry

if TYPE_CHECKING:
    from axoneme.core.config import Config


def open_kubernetes(
    config: Config, kinds: KindRegistry, saved: Path | None = None
) -> KubernetesStore:
    """Read credentials, which a bad key makes fail at once; nothing is sent yet.

    ``saved``: where what is watched is kept for a start without a server.
    """
    path = config.text("k8s-kubeconfig-path")
    servers = tuple(config["k8s-api-server-urls"])

    def read() -> Access:
        return asyncio.run(open_access(path, servers))

    with ThreadPoolExecutor(1) as thread:  # a loop may be running already
        access = thread.submit(read).result()
    return KubernetesStore(
        access,
        kinds,
        qps=float(config["k8s-client-qps"]),
        burst=int(config["k8s-client-burst"]),
        saved=saved,
    )
