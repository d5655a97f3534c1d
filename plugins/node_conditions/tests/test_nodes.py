"""Taints, conditions and restarts by a real operator, over a folder and at a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.boot import boot
from axoneme.core.errors import InvalidObjectError, NotFoundError
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.operator import Operator
from axoneme.core.store import FolderStore, Store
from axoneme.core.store.manifest import to_object
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import OFF, PATIENCE
from axoneme.plugins.node_conditions.controller import NodeConditions
from axoneme.plugins.node_conditions.tables import taints_of

TAINT = "node.cilium.io/agent-not-ready"
OTHER = {"key": "example.io/special", "effect": "NoExecute", "value": "x"}
NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for all of these."""
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        for namespace in ("kube-system", "default"):
            running.kubectl("create", "serviceaccount", "default", "-n", namespace)
        yield running


class Bench:
    """An operator, and a store to act as users, kubelets and agents with."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.store: Store = operator.store

    async def node(self, name: str, *taints: Mapping[str, Any]) -> None:
        """A Node as a kubelet registers it."""
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self.store.create({**body, "spec": {"taints": list(taints)}})
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        await self.store.patch(ObjectKey("Node", "", name), {"status": {"conditions": [ready]}})

    async def pod(
        self, name: str, node: str, namespace: str = "kube-system", **labels: str
    ) -> ObjectKey:
        """A pod on a node."""
        made = await self.store.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {k.replace("_", "-"): v for k, v in labels.items()},
                },
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
            }
        )
        return made.key

    async def ready(self, key: ObjectKey, status: str = "True") -> None:
        """What a kubelet says of it."""
        conditions = [{"type": "Ready", "status": status}]
        await self.store.patch(key, {"status": {"phase": "Running", "conditions": conditions}})

    async def get(self, name: str) -> ClusterObject:
        """A Node."""
        return await self.store.get(ObjectKey("Node", "", name))

    async def taints(self, name: str) -> set[str]:
        """Keys of a node's taints; those of Kubernetes itself aside."""
        found = {str(t["key"]) for t in taints_of(await self.get(name))}
        return {k for k in found if not k.startswith("node.kubernetes.io/")}

    async def until(self, true: Callable[[], Awaitable[object]]) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(PATIENCE):
            while not await true():
                await asyncio.sleep(0.05)

    async def condition(self, name: str) -> Mapping[str, Any]:
        """NetworkUnavailable of a node."""
        found = (await self.get(name)).status.get("conditions") or ()
        return next((c for c in found if c["type"] == "NetworkUnavailable"), {})


Runner = Callable[..., None]


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    """Runs a story with an operator that leads; keys are its configuration."""
    keys = {"store-path": str(tmp_path / "store"), "plugins": f"{OFF} -lb-ipam -node-ipam"}
    keys |= {"state-dir": str(tmp_path), "leader-election-retry-period": "0.1s"}
    if request.param == "kubernetes":
        config = str(request.getfixturevalue("server").kubeconfig)
        keys |= {"store": "kubernetes", "k8s-kubeconfig-path": config}
        keys |= {"k8s-client-qps": "200", "k8s-client-burst": "400"}

    @asynccontextmanager
    async def operator(settings: Mapping[str, str]) -> AsyncIterator[Bench]:
        made = Operator(*boot(keys | dict(settings), {}))
        task = asyncio.create_task(made.run())
        try:
            bench = Bench(made)

            async def leading() -> bool:
                return made.leading

            await bench.until(leading)
            yield bench
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def go(story: Callable[[Bench], Awaitable[None]], **settings: str) -> None:
        async def whole() -> None:
            chosen = {k.replace("_", "-"): v for k, v in settings.items()}
            async with operator(chosen) as bench:
                await asyncio.wait_for(story(bench), 60)

        asyncio.run(whole())

    return go


def test_a_ready_agent_frees_its_node(run: Runner) -> None:
    """The taint goes and the condition comes; other taints and conditions stay."""
    name = f"n{next(NUMBERS)}"

    async def story(bench: Bench) -> None:
        await bench.node(name, {"key": TAINT, "effect": "NoExecute"}, OTHER)
        agent = await bench.pod(f"agent-{name}", name, k8s_app="axoneme")
        await bench.pod(f"stranger-{name}", name, k8s_app="other")
        await bench.ready(ObjectKey("Pod", "kube-system", f"stranger-{name}"))
        await asyncio.sleep(0.3)
        assert await bench.taints(name) == {TAINT, OTHER["key"]}
        await bench.ready(agent)

        async def free() -> bool:
            return await bench.taints(name) == {OTHER["key"]}

        await bench.until(free)
        assert OTHER in (await bench.get(name)).spec["taints"]
        said = await bench.condition(name)
        assert (said["status"], said["reason"]) == ("False", "CiliumIsUp")
        kinds = {c["type"] for c in (await bench.get(name)).status["conditions"]}
        assert kinds == {"Ready", "NetworkUnavailable"}
        # Somebody else writes the condition: it is put right again.
        await bench.store.patch(ObjectKey("Node", "", name), {"status": {"conditions": []}})

        async def again() -> bool:
            return bool(await bench.condition(name))

        await bench.until(again)

    run(story)


def test_a_node_whose_agent_is_away_is_tainted_if_asked_for(run: Runner) -> None:
    """With another key; a node without an agent's pod is nobody's business."""
    one, two = f"n{next(NUMBERS)}", f"n{next(NUMBERS)}"

    async def story(bench: Bench) -> None:
        await bench.node(one, OTHER)
        await bench.node(two)
        agent = await bench.pod(f"agent-{one}", one, "default", app="net")

        async def tainted() -> bool:
            return "example.io/wait" in await bench.taints(one)

        await bench.until(tainted)
        ours = [t for t in taints_of(await bench.get(one)) if t["key"] == "example.io/wait"]
        assert [t["effect"] for t in ours] == ["NoSchedule"]
        await bench.ready(agent)

        async def free() -> bool:
            return not await tainted()

        await bench.until(free)
        assert await bench.taints(one) == {OTHER["key"]}
        assert await bench.taints(two) == set()
        assert await bench.condition(one) == await bench.condition(two) == {}

    run(
        story,
        set_cilium_node_taints="true",
        set_cilium_is_up_condition="false",
        agent_not_ready_taint_key="example.io/wait",
        cilium_pod_namespace="default",
        cilium_pod_labels="app=net",
    )


def test_only_pods_that_no_agent_manages_are_restarted(run: Runner) -> None:
    """Not one with an endpoint, of another label, on the host's network or beside no agent."""
    name, bare = f"n{next(NUMBERS)}", f"n{next(NUMBERS)}"

    async def story(bench: Bench) -> None:
        work = bench.operator.services.get(NodeConditions)
        work.unmanaged.patience = 0.0
        await bench.node(name)
        await bench.node(bare)
        agent = await bench.pod(f"agent-{name}", name, k8s_app="axoneme")
        dns = {n: await bench.pod(f"{n}-{name}", name, k8s_app="kube-dns") for n in "abc"}
        await bench.pod(f"d-{name}", name, k8s_app="web")
        await bench.pod(f"e-{name}", bare, k8s_app="kube-dns")
        managed = await bench.store.get(dns["b"])
        await bench.store.apply(endpoint(managed, {"identity": {"id": 300}}))
        starting = await bench.store.get(dns["c"])
        await bench.store.apply(endpoint(starting, {}))
        await work.unmanaged.look()
        await bench.ready(agent)

        async def gone() -> bool:
            await work.unmanaged.look()
            return await ends(bench.store, dns["a"])

        await bench.until(gone)
        for key in (dns["b"], dns["c"], ObjectKey("Pod", "kube-system", f"d-{name}"),
                    ObjectKey("Pod", "kube-system", f"e-{name}")):  # fmt: skip
            assert not await ends(bench.store, key)
        text = bench.operator.metrics.render().decode()
        assert "cilium_operator_unmanaged_pods" in text

    run(story, unmanaged_pod_watcher_interval="1h")


async def ends(store: Store, key: ObjectKey) -> bool:
    """Whether a pod is gone, or was told to end in its own time."""
    try:
        metadata = (await store.get(key)).body["metadata"]
    except NotFoundError:
        return True
    return bool(metadata.get("deletionTimestamp"))


def endpoint(pod: ClusterObject, status: Mapping[str, Any]) -> dict[str, Any]:
    """The CiliumEndpoint that an agent writes."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.key.name, "uid": pod.uid}
    addressing = {"networking": {"addressing": [{"ipv4": "10.0.0.9"}], "node": "172.18.0.2"}}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEndpoint",
        "metadata": {
            "name": pod.key.name,
            "namespace": pod.key.namespace,
            "ownerReferences": [owner],
        },
        "status": {**addressing, **status},
    }


def test_a_pod_has_to_be_unmanaged_for_a_while(run: Runner) -> None:
    """Until then it is counted."""
    name = f"n{next(NUMBERS)}"

    async def story(bench: Bench) -> None:
        work = bench.operator.services.get(NodeConditions).unmanaged
        await bench.node(name)
        await bench.ready(await bench.pod(f"agent-{name}", name, k8s_app="axoneme"))
        dns = await bench.pod(f"dns-{name}", name, k8s_app="kube-dns")

        async def counted() -> bool:
            await work.look()
            return dns.name in {key[0][1] for key in work.since}

        await bench.until(counted)
        number = f"cilium_operator_unmanaged_pods {float(len(work.since))}"
        assert number in bench.operator.metrics.render().decode()
        assert not await ends(bench.store, dns)
        work.patience = 0.0
        await work.look()
        assert await ends(bench.store, dns)

    run(story, unmanaged_pod_watcher_interval="1h", pod_restart_selector="k8s-app=kube-dns")


def test_taints_that_cannot_be_read_are_named() -> None:
    """By object and field."""
    body = json.loads(
        '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"taints": [1]}}'
    )
    with pytest.raises(InvalidObjectError, match=r"Node n: spec\.taints\[0\]"):
        taints_of(to_object(body, FolderStore(Path("/nowhere")).kinds))


@pytest.mark.parametrize(
    ("key", "value"),
    [("cilium-pod-labels", "a in b"), ("agent-not-ready-taint-key", "no key"),
     ("pod-restart-selector", "=x")],
)  # fmt: skip
def test_a_bad_key_is_refused(key: str, value: str) -> None:
    """By name, at the start."""
    with pytest.raises(Exception, match=key):
        boot({key: value, "plugins": OFF}, {})
