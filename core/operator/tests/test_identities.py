"""Identities that the operator makes for pods: a real one, over a folder and at an API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.boot import boot
from axoneme.core.errors import NotFoundError
from axoneme.core.identities.gc import collect_identities
from axoneme.core.identities.objects import KIND, encode_identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator import Operator
from axoneme.core.store.model import Store
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import OFF, PATIENCE, eventually

TASK = "identities of pods"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


Running = Callable[..., Any]


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Running:
    """Runs an operator that makes identities, as often as a test likes, over the same objects."""
    keys = {
        "store-path": str(tmp_path / "store"),
        "state-dir": str(tmp_path),
        "leader-election-retry-period": "0.1s",
        "plugins": f"{OFF} -lb-ipam -node-ipam -node-conditions",
        "identity-management-mode": "operator",
        "cilium-endpoint-gc-interval": "0",
        "identity-gc-interval": "0",
    }
    if request.param == "kubernetes":
        keys |= {"store": "kubernetes", "k8s-client-qps": "200", "k8s-client-burst": "400"}
        keys["k8s-kubeconfig-path"] = str(request.getfixturevalue("server").kubeconfig)

    @asynccontextmanager
    async def run(**more: str) -> AsyncIterator[Operator]:
        own = {key.replace("_", "-"): value for key, value in more.items()}
        operator = Operator(*boot(keys | own, {}))
        task = asyncio.create_task(operator.run())
        try:
            await eventually(lambda: operator.leading)
            await eventually(operator.tables["pod_shapes"].initialized.is_set)
            await until(partial(served, operator.store))
            yield operator
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return run


async def served(store: Store) -> bool:
    """Whether the operator has installed our kinds."""
    try:
        await store.list(KIND)
    except NotFoundError:
        return False
    return True


def pod(name: str, space: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": space, "labels": labels}
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def account(name: str) -> dict[str, Any]:
    """Which the API server asks of a pod, and no controller makes here."""
    metadata = {"name": "default", "namespace": name}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


async def room(store: Store, name: str, **labels: str) -> None:
    """A namespace in which pods can be made."""
    await store.create(namespace(name, **labels))
    await store.create(account(name))


async def made(store: Store, space: str) -> dict[str, int]:
    """Label ``app``, with ``team`` of the namespace if it has one, to number."""
    team = "k8s:io.cilium.k8s.namespace.labels.team"
    found = {}
    for obj in await store.list(KIND):
        labels: Any = obj.body["security-labels"]
        if labels.get("k8s:io.kubernetes.pod.namespace") == space:
            text = labels.get("k8s:app", "") + ("/" + labels[team] if team in labels else "")
            found[text] = int(obj.key.name)
    return found


async def until(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.05)


def test_each_label_set_of_a_pod_has_one_identity(running: Running) -> None:
    """Not yet scheduled pods, too; none for the host's network; one for pods alike."""

    async def story() -> None:
        async with running() as operator:
            store: Store = operator.store
            await room(store, "one")
            for n in range(3):
                await store.create(
                    pod(f"web{n}", "one", app="web", **{"pod-template-hash": f"{n}"})
                )
            await store.create(pod("db", "one", app="db"))
            body = pod("agent", "one", app="agent")
            body["spec"]["hostNetwork"] = True
            await store.create(body)
            await until(lambda: same(store, "one", {"web", "db"}))
            held = operator.tables["pod_shapes"]
            await eventually(lambda: len(held.rows()) >= 4)
            assert len({row.shape for row in held.rows() if row.key[0] == "one"}) == 2

    asyncio.run(story())


async def same(store: Store, space: str, apps: set[str]) -> bool:
    return set(await made(store, space)) == apps


def test_labels_that_change_make_new_identities(running: Running) -> None:
    """Of a pod, and of a namespace for all in it."""

    async def story() -> None:
        async with running() as operator:
            store: Store = operator.store
            await room(store, "two")
            await store.create(pod("a", "two", app="a"))
            await until(lambda: same(store, "two", {"a"}))
            await store.apply({**pod("a", "two", app="b"), "spec": {}})
            await until(lambda: same(store, "two", {"a", "b"}))
            await store.apply(namespace("two", team="blue"))
            await until(lambda: same(store, "two", {"a", "b", "b/blue"}))

    asyncio.run(story())


def test_what_pods_have_is_not_collected_and_comes_back(running: Running) -> None:
    """A mark is taken away, a deleted object has its number again; what no pod has goes."""

    async def story() -> None:
        async with running(
            identity_gc_interval="0.2s", identity_heartbeat_timeout="1s"
        ) as operator:
            store: Store = operator.store
            await room(store, "three")
            await store.create(pod("a", "three", app="a"))
            gone = LabelSet.parse(["k8s:app=gone", "k8s:io.kubernetes.pod.namespace=three"])
            await store.create(encode_identity(60000, gone))
            await until(lambda: same(store, "three", {"a"}))  # 60000 was collected meanwhile
            number = (await made(store, "three"))["a"]
            key = ObjectKey(KIND, "", str(number))
            await store.delete(key)
            await until(lambda: same(store, "three", {"a"}))
            assert (await made(store, "three"))["a"] == number
            await collect_identities(store, (), 3600)  # by an operator that knows no pods

            async def unmarked() -> bool:
                return not (await store.get(key)).annotations

            await until(unmarked)
            await store.delete(ObjectKey("Pod", "three", "a"))

            async def away() -> bool:
                try:
                    await store.get(key)
                except NotFoundError:
                    return True
                return False

            await until(away)

    asyncio.run(story())


def test_what_pods_have_is_no_subject_of_collections(running: Running) -> None:
    """Before a CiliumEndpoint speaks for it: an agent could not take the mark away."""

    async def story() -> None:
        async with running(
            identity_gc_interval="0.1s", identity_heartbeat_timeout="1s"
        ) as operator:
            store: Any = operator.store
            await room(store, "seven")
            await store.create(pod("a", "seven", app="a"))
            await until(lambda: same(store, "seven", {"a"}))
            (number,) = (await made(store, "seven")).values()
            touched: list[str] = []
            update, delete = store.update, store.delete

            async def note_update(body: Any) -> Any:
                touched.append(body["metadata"]["name"])
                return await update(body)

            async def note_delete(key: ObjectKey, version: str = "") -> None:
                touched.append(key.name)
                await delete(key, version)

            store.update, store.delete = note_update, note_delete
            for other in ("60001", "60002"):  # two whole collections
                labels = LabelSet.parse([f"k8s:app={other}"])
                await store.create(encode_identity(int(other), labels))
                await until(partial(gone, store, other))
                assert touched.count(other) == 2
            assert str(number) not in touched

    asyncio.run(story())


async def gone(store: Store, name: str) -> bool:
    """Whether there is no such identity any more."""
    try:
        await store.get(ObjectKey(KIND, "", name))
    except NotFoundError:
        return True
    return False


def test_a_number_that_goes_to_others_is_replaced(running: Running) -> None:
    """Somebody deletes an identity and takes its number for other labels."""

    async def story() -> None:
        async with running() as operator:
            store: Store = operator.store
            await room(store, "four")
            await store.create(pod("a", "four", app="a"))
            await until(lambda: same(store, "four", {"a"}))
            number = (await made(store, "four"))["a"]
        other = LabelSet.parse(["k8s:app=other"])
        async with running() as operator:
            store = operator.store
            await store.apply(encode_identity(number, other))

            async def another() -> bool:
                return (await made(store, "four")).get("a", number) != number

            await until(another)

    asyncio.run(story())


def test_one_that_does_not_lead_makes_nothing(running: Running) -> None:
    """The other goes on where the first one stopped, pods that came between included."""

    async def story() -> None:
        async with running() as first:
            second = asyncio.create_task(follow(first))
            store: Store = first.store
            await room(store, "five")
            await store.create(pod("a", "five", app="a"))
            await until(lambda: same(store, "five", {"a"}))
            assert await second == 0

        async with running() as third:
            await third.store.create(pod("b", "five", app="b"))
            await until(lambda: same(third.store, "five", {"a", "b"}))

    async def follow(leader: Operator) -> int:
        """What a second operator holds while another one leads."""
        async with asyncio.timeout(PATIENCE):
            operator = Operator(leader.config, leader.plugins)
            operator.identity = "second"
            task = asyncio.create_task(operator.run())
            await operator.tables["pod_shapes"].initialized.wait()
            while not operator.tables["pod_shapes"].rows():
                await asyncio.sleep(0.05)
            assert leader.leading and not operator.leading
            work = operator.identities_in_use[0]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(work(), 0.3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return 0

    asyncio.run(story())


def test_one_that_does_not_lead_remembers_only_what_there_is(running: Running) -> None:
    """Pods come and go for months beside it; when it leads, it makes what is there then."""

    async def story() -> None:
        async with running() as leader:
            store: Store = leader.store
            await room(store, "six")
            operator = Operator(leader.config, leader.plugins)
            operator.identity = "second"
            task = asyncio.create_task(operator.run())
            pods = operator.tables["pod_shapes"]
            await pods.initialized.wait()
            used: Any = operator.identities_in_use[0]
            other = used.__self__
            for n in range(3):
                await store.create(pod("a", "six", app=f"a{n}"))
                await eventually(lambda: ("six", "a") in pods)
                await store.delete(ObjectKey("Pod", "six", "a"))
                await eventually(lambda: ("six", "a") not in pods)
            await store.create(pod("b", "six", app="b"))
            await eventually(lambda: ("six", "b") in pods)
            await asyncio.sleep(0.05)
            mine = {labels.get("k8s", "app") for labels in other._dirty}
            assert "b" in mine and not mine & {"a0", "a1", "a2"}
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def test_agents_alone_make_them_by_default(running: Running) -> None:
    """No table of pods, no task."""

    async def story() -> None:
        operator = Operator(*boot({"plugins": OFF, "identity-management-mode": "agent"}, {}))
        assert TASK not in operator._work
        await operator.store.close()

    asyncio.run(story())
