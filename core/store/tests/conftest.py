"""The stores that the contract is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from axoneme.core.store import FolderStore
from axoneme.core.store.tests.contract import Opener
from axoneme.core.testing.apiserver import ApiServer, api_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for all of these."""
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        running.kubectl("create", "namespace", "apps")
        running.kubectl("create", "serviceaccount", "default", "-n", "apps")
        yield running


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens another store over the same objects each time."""
    if request.param == "folder":
        return lambda: FolderStore(tmp_path)
    from axoneme.core.k8s.access import open_access
    from axoneme.core.k8s.store import KubernetesStore

    running = request.getfixturevalue("server")
    access = asyncio.run(open_access(str(running.kubeconfig)))
    return lambda: KubernetesStore(access)
