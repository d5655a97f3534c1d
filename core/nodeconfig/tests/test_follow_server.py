"""A node's configuration followed at a real API server: ConfigMap, CiliumNodeConfigs, labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from axoneme.core.config import Config
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.definitions.install import install
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.nodeconfig.build import Request, build
from axoneme.core.nodeconfig.tests.test_follow import Bench, registry
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually

pytestmark = pytest.mark.needs("kubernetes")

OBJECTS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: axoneme-config, namespace: kube-system}
data: {mtu: "1500", route-metric: "7", stranger-word: one}
---
apiVersion: v1
kind: Node
metadata: {name: node1, labels: {gpu: "yes"}}
---
apiVersion: cilium.io/v2
kind: CiliumNodeConfig
metadata: {name: gpu, namespace: kube-system}
spec: {nodeSelector: {matchLabels: {gpu: "yes"}}, defaults: {mtu: "9000"}}
"""
PATCH = ("--type", "merge", "-n", "kube-system", "-p")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Without anything of ours."""
    with api_server(tmp_path_factory.mktemp("follow")) as running:
        yield running


def test_objects_are_followed_from_the_start_that_they_were_built_into(
    server: ApiServer, tmp_path: Path
) -> None:
    """What was built is no drift; each kind of change is, or is applied; and goes back."""

    async def kubectl(*arguments: str, text: str = "") -> None:
        await asyncio.to_thread(lambda: server.kubectl(*arguments, text=text))

    async def until(true: Callable[[], bool]) -> None:
        for _ in range(100):
            if await asyncio.to_thread(true):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("it did not come")

    async def work() -> None:
        store = KubernetesStore(await open_access(str(server.kubeconfig)))
        await install(store)
        await kubectl("apply", "-f", "-", text=OBJECTS)
        await build(store, Request("node1", "kube-system", tmp_path), print)
        flags = {"store": "kubernetes", "node-name": "node1"}
        made = Bench(Config.load(registry(), flags, {}, tmp_path), store)
        assert made.config["mtu"] == 9000
        assert made.config.origin("mtu") == "CiliumNodeConfig kube-system/gpu"
        made.tasks.start()
        made.ready.set()
        cluster = made.follower._cluster
        await eventually(lambda: cluster() is not None)
        assert made.drift == {}

        await kubectl("label", "node", "node1", "gpu-")
        await eventually(lambda: made.drift == {"mtu": "1500"})
        assert made.follower.rows[0].source == "ConfigMap kube-system/axoneme-config"
        drifted = ("get", "events", "--field-selector", "reason=ConfigDrift")
        said = partial(server.kubectl, *drifted)
        await until(lambda: "waits for a restart: mtu" in said())
        await kubectl("label", "node", "node1", "gpu=yes")
        await eventually(lambda: made.drift == {})

        change = '{"data": {"route-metric": null, "stranger-word": "two", "stranger-size": "7"}}'
        await kubectl("patch", "cm", "axoneme-config", *PATCH, change)
        await eventually(lambda: made.drift == {"route-metric": "0", "stranger-size": "7"})
        assert made.words == ["two"]

        bad = '{"spec": {"defaults": {"../mtu": "1"}}}'
        await kubectl("patch", "ciliumnodeconfig", "gpu", *PATCH, bad)
        errors = [reflector.errors for reflector in made.reflectors]
        await eventually(lambda: any("bad key" in t for e in errors for t in e.values()))
        assert "mtu" not in made.drift
        await kubectl("delete", "ciliumnodeconfig", "gpu", "-n", "kube-system")
        await eventually(lambda: made.drift.get("mtu") == "1500")

        await kubectl("delete", "cm", "axoneme-config", "-n", "kube-system")
        await eventually(lambda: made.drift == {})
        assert made.config["stranger-word"] == "one"
        watched = {name for name in store.feeds if name.startswith("ConfigMap")}
        assert watched == {"ConfigMap kube-system metadata.name=axoneme-config"}
        await made.tasks.stop()
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 120))
