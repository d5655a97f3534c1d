"""Who writes a CiliumEndpoint, and what becomes of one that somebody takes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from axoneme.core.endpoints import publisher
from axoneme.core.endpoints.objects import KIND
from axoneme.core.endpoints.pods import Pod, pod_tables
from axoneme.core.endpoints.publisher import owner_uid
from axoneme.core.endpoints.tables import endpoint_table
from axoneme.core.errors import NotFoundError, StoreError
from axoneme.core.ipcache import slices as ces
from axoneme.core.ipcache.remote import cluster_endpoint_table, decode_cluster_endpoint
from axoneme.core.ipcache.slices import SliceReflector
from axoneme.core.model.endpoint import Endpoint, EndpointState
from axoneme.core.model.node import Node
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.reflector import Reflector

KEY = ObjectKey(KIND, "red", "web-0")


class Host:
    """One node with its publisher over a shared folder."""

    def __init__(self, store: FolderStore, number: int, *, slices: bool = False) -> None:
        tables = TableRegistry()
        self.endpoints = endpoint_table(tables)
        self.pods, _ = pod_tables(tables)
        self.seen = seen = cluster_endpoint_table(tables)
        self.number = number
        self.address = f"172.18.0.{number}"
        node = Node(f"n{number}", IPv4Address(self.address))
        writer = publisher.EndpointPublisher(
            store, self.endpoints, self.pods, lambda: node, lambda: None, objects=seen
        )
        reflector: Reflector[Any, Any] = Reflector(store, KIND, seen, decode_cluster_endpoint)
        if slices:
            reflector = SliceReflector(store, seen)
        self.tasks = [asyncio.ensure_future(w()) for w in (writer.run, reflector.run)]

    def hold(self, uid: str, **changes: Any) -> None:
        """The node has an endpoint of ``red/web-0``, and the Pod object says so."""
        self.pods.upsert(Pod("red", "web-0", uid, f"n{self.number}"))
        self.endpoints.upsert(evolve(self._endpoint(uid), **changes))

    def _endpoint(self, uid: str) -> Endpoint:
        return Endpoint(
            id=5,
            attachment_id=f"c{self.number}:eth0",
            namespace="red",
            pod="web-0",
            ipv4=IPv4Address(f"10.0.{self.number}.5"),
            ipv6=None,
            ifname="axo1",
            ifindex=3,
            container_ifname="eth0",
            netns="/x",
            mac="",
            host_mac="",
            mtu=1500,
            identity=300,
            state=EndpointState.READY,
            uid=uid,
        )


class Unlisted(FolderStore):
    """Of a cluster that is too large to be listed."""

    async def list(self, kind: str) -> list[ClusterObject]:
        raise AssertionError(f"{kind} listed")


def run(folder: Path, work: Callable[[FolderStore, Host, Host], Awaitable[None]]) -> None:
    async def main() -> None:
        store = FolderStore(folder)
        one, two = Host(store, 2), Host(store, 3)
        try:
            async with asyncio.timeout(20):
                await work(store, one, two)
        finally:
            for task in one.tasks + two.tasks:
                task.cancel()
            await asyncio.gather(*one.tasks, *two.tasks, return_exceptions=True)
            await store.close()

    asyncio.run(main())


async def until(store: FolderStore, condition: Callable[[ClusterObject], bool]) -> ClusterObject:
    for _ in range(500):
        with suppress(NotFoundError):
            obj = await store.get(KEY)
            if condition(obj):
                return obj
        await asyncio.sleep(0.01)
    raise AssertionError("never happened")


def of(host: Host, uid: str) -> Callable[[ClusterObject], bool]:
    def check(obj: ClusterObject) -> bool:
        return (obj.status["networking"]["node"], owner_uid(obj)) == (host.address, uid)

    return check


def test_pod_that_moves_takes_its_object_along(tmp_path: Path) -> None:
    """The new pod owns the object; the endpoint left behind on the old node writes nothing."""

    async def work(store: FolderStore, old: Host, new: Host) -> None:
        old.hold("uid-1")
        await until(store, of(old, "uid-1"))
        old.pods.delete(("red", "web-0"))  # the Pod object names another node now
        new.hold("uid-2")
        await until(store, of(new, "uid-2"))
        old.endpoints.upsert(evolve(old.endpoints.rows()[0], state=EndpointState.NOT_READY))
        old.pods.upsert(Pod("red", "web-0", "uid-2", ""))  # a pod that no node has yet
        await asyncio.sleep(0.2)
        assert of(new, "uid-2")(await store.get(KEY))
        old.endpoints.delete(5)
        await asyncio.sleep(0.2)
        assert of(new, "uid-2")(await store.get(KEY))

    run(tmp_path, work)


def test_object_of_an_earlier_pod_is_replaced(tmp_path: Path) -> None:
    """Also on one node: who owns an object is never what an earlier pod left."""

    async def work(store: FolderStore, host: Host, _: Host) -> None:
        host.hold("uid-1")
        await until(store, of(host, "uid-1"))
        host.hold("uid-2", ipv4=IPv4Address("10.0.2.6"))
        await until(store, of(host, "uid-2"))

    run(tmp_path, work)


def test_object_of_a_static_pod_follows_its_mirror(tmp_path: Path) -> None:
    """Whose uid is not the one that the endpoint has of its kubelet."""

    async def work(store: FolderStore, host: Host, _: Host) -> None:
        notes = (("kubernetes.io/config.mirror", "static"),)
        host.hold("static")
        for uid in ("uid-1", "uid-2"):
            host.pods.upsert(Pod("red", "web-0", uid, "n2", annotations=notes))
            await until(store, of(host, uid))

    run(tmp_path, work)


def test_what_fails_waits_its_pause_while_others_are_written(tmp_path: Path) -> None:
    """Forty changes of another pod are no reason to try forty times."""

    class Refusing(FolderStore):
        tries, open = 0, False

        async def create(self, body: Mapping[str, Any]) -> ClusterObject:
            if body["metadata"]["name"] == "web-0":
                self.tries += 1
                if not self.open:
                    raise StoreError("forbidden")
            return await super().create(body)

    async def work() -> None:
        store = Refusing(tmp_path)
        host = Host(store, 2)
        host.hold("uid-1")
        host.pods.upsert(Pod("red", "other", "uid-9", "n2"))
        other = evolve(host._endpoint("uid-9"), id=6, pod="other", attachment_id="d:eth0")
        for number in range(40):
            host.endpoints.upsert(evolve(other, identity=400 + number))
            await asyncio.sleep(0.02)
        assert 1 <= store.tries <= 15
        store.open = True
        await until(store, of(host, "uid-1"))
        written = await store.get(ObjectKey(KIND, "red", "other"))
        assert written.status["identity"]["id"] == 439
        for task in host.tasks:
            task.cancel()
        await asyncio.gather(*host.tasks, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_object_that_is_deleted_or_forged_is_written_again(tmp_path: Path) -> None:
    """Other nodes need it for as long as the endpoint lives."""

    async def work(store: FolderStore, host: Host, _: Host) -> None:
        host.hold("uid-1")
        obj = await until(store, of(host, "uid-1"))
        while not len(host.seen):  # what its watch never saw, it cannot miss
            await asyncio.sleep(0.01)
        await store.delete(KEY)
        await until(store, of(host, "uid-1"))
        await store.update_status(KEY, {**obj.status, "identity": {"id": 999}})
        await until(store, lambda o: o.status["identity"]["id"] == 300)

    run(tmp_path, work)


def left(name: str, node: str) -> dict[str, Any]:
    """A CiliumEndpoint whose endpoint went while nobody looked."""
    networking = {"addressing": [{"ipv4": "10.0.2.9"}], "node": node}
    status = {"identity": {"id": 300}, "networking": networking}
    metadata = {"namespace": "red", "name": name}
    return {"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": metadata, "status": status}


def in_slice(*objects: dict[str, Any]) -> dict[str, Any]:
    """A slice that tells of them."""
    entries = [
        {"name": o["metadata"]["name"], "id": 300, "networking": o["status"]["networking"]}
        for o in objects
    ]
    meta = {"apiVersion": ces.API_VERSION, "kind": ces.KIND, "metadata": {"name": "ces-1"}}
    return {**meta, "namespace": "red", "endpoints": entries}


@pytest.mark.parametrize("slices", [False, True])
def test_objects_that_no_endpoint_stands_behind_go(
    slices: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of this node alone, and without a list of all; slices may tell of them later."""
    monkeypatch.setattr(publisher, "FULL_SECONDS", 0.1)
    own, foreign = left("gone", "172.18.0.2"), left("there", "172.18.0.3")

    async def work() -> None:
        store = Unlisted(tmp_path)
        for body in (own, foreign):
            await store.create(body)
        host = Host(store, 2, slices=slices)
        host.hold("uid-1")
        await until(store, of(host, "uid-1"))
        if slices:
            assert await store.get(ObjectKey(KIND, "red", "gone"))
            await store.create(in_slice(own, foreign, left("web-0", host.address)))
        for _ in range(500):
            try:
                await store.get(ObjectKey(KIND, "red", "gone"))
            except NotFoundError:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("it stayed")
        await asyncio.sleep(0.3)  # some more looks
        assert await store.get(ObjectKey(KIND, "red", "there"))
        assert of(host, "uid-1")(await store.get(KEY))
        for task in host.tasks:
            task.cancel()
        await asyncio.gather(*host.tasks, return_exceptions=True)
        await store.close()

    asyncio.run(asyncio.wait_for(work(), 20))
