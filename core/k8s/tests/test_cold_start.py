"""A process that starts while the server is away knows what its predecessor knew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.k8s.tests.views import View, body
from axoneme.core.model.objects import ObjectKey
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.operators import eventually

pytestmark = pytest.mark.needs("kubernetes")

Work = Callable[[KubernetesStore, View], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of their own: it is killed."""
    with api_server(tmp_path_factory.mktemp("cold")) as running:
        yield running


@contextlib.contextmanager
def outage(server: ApiServer) -> Iterator[None]:
    """Without the server, which is there again afterwards."""
    server.kill("kube-apiserver")
    try:
        yield
    finally:
        if "kube-apiserver" not in server._processes:
            server.start_api()


def life(server: ApiServer, folder: Path, work: Work) -> None:
    """One process with a listener; it ends without a word to its journals."""

    async def whole() -> None:
        store = KubernetesStore(await open_access(str(server.kubeconfig)), saved=folder)
        view = View(store)
        try:
            await asyncio.wait_for(work(store, view), 30)
        finally:
            view.close()
            await store.close()

    asyncio.run(whole())


def test_what_was_saved_stands_in_and_is_caught_up_with(server: ApiServer, tmp_path: Path) -> None:
    """What a predecessor heard last, then differences alone; also what went meanwhile."""

    async def first(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()
        for name in ("kept", "changed", "deleted", "short"):
            await store.create(body(name))
        await store.delete(ObjectKey("ConfigMap", "default", "short"))
        await view.equals(store)
        known.update(view.versions)
        assert (store.away(), store.recalled()) == ("", ())

    async def second(store: KubernetesStore, view: View) -> None:
        assert not view.synced.is_set()
        await view.synced.wait()
        assert view.versions == known
        assert store.recalled() == ("ConfigMap",)
        assert "cannot be reached: Connection refused (since " in store.away()
        told = " ".join(store.problems())
        assert "working from what was saved of 1 kinds" in told
        late = store.watch("ConfigMap", "kept")  # whoever comes later hears it too
        event = await anext(late)
        assert event.obj is not None and event.obj.body["metadata"]["uid"]
        since.append(store.away().rpartition("(since")[2])

    async def third(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()
        assert view.versions == known
        assert store.away().rpartition("(since")[2] == since[0]
        await asyncio.to_thread(server.start_api)
        await store.patch(ObjectKey("ConfigMap", "default", "changed"), {"data": {"a": "1"}})
        await store.delete(ObjectKey("ConfigMap", "default", "deleted"))
        await view.equals(store)
        assert view.versions["changed"] != known["changed"] and "deleted" not in view.versions
        assert (view.syncs, store.feeds["ConfigMap"].lists >= 1) == (1, True)
        assert (store.away(), store.recalled(), store.problems()) == ("", (), ())

    async def fourth(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()
        assert "deleted" not in view.versions and "kept" in view.versions
        assert store.recalled() == ("ConfigMap",)

    known: dict[str, str] = {}
    since: list[str] = []
    life(server, tmp_path, first)
    with outage(server):
        life(server, tmp_path, second)
        life(server, tmp_path, third)
    with outage(server):
        life(server, tmp_path, fourth)


def test_a_server_that_is_there_is_believed_alone(server: ApiServer, tmp_path: Path) -> None:
    """What was saved is not even looked at."""

    async def first(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()
        await store.create(body("gone-soon"))
        await view.equals(store)

    async def second(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()
        assert "gone-soon" not in view.versions
        assert store.recalled() == ()

    life(server, tmp_path, first)
    server.kubectl("delete", "configmap", "gone-soon")
    life(server, tmp_path, second)


def test_without_anything_good_saved_the_server_is_waited_for(
    server: ApiServer, tmp_path: Path
) -> None:
    """A listener is told nothing at all, and the store says why."""

    async def nothing(store: KubernetesStore, view: View) -> None:
        await eventually(lambda: any("no configmaps were saved" in p for p in store.problems()))
        assert not view.synced.is_set() and not view.versions

    async def once(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()

    async def damaged(store: KubernetesStore, view: View) -> None:
        await eventually(lambda: any("saved are ignored" in p for p in store.problems()))
        assert not view.synced.is_set() and not view.versions
        await asyncio.to_thread(server.start_api)
        await view.equals(store)
        assert (store.problems(), view.syncs) == ((), 1)

    with outage(server):
        life(server, tmp_path / "first", nothing)
    life(server, tmp_path / "second", once)
    (base,) = (tmp_path / "second").glob("ConfigMap.*.base")
    base.write_bytes(base.read_bytes()[:-9])
    with outage(server):
        life(server, tmp_path / "second", damaged)


def test_a_server_that_takes_connections_and_says_nothing_is_away(
    server: ApiServer, tmp_path: Path
) -> None:
    """As one whose database hangs: nobody waits for its timeouts."""

    async def once(store: KubernetesStore, view: View) -> None:
        await view.synced.wait()

    async def hanging() -> None:
        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                writer.close()

        mute = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = mute.sockets[0].getsockname()[1]
        access = await open_access(str(server.kubeconfig), (f"https://127.0.0.1:{port}",))
        store = KubernetesStore(access, saved=tmp_path)
        view = View(store)
        async with asyncio.timeout(20):  # a request would take 30 s
            await view.synced.wait()
        assert "cannot be reached: no good answer (since " in store.away()
        view.close()
        await store.close()
        mute.close()

    life(server, tmp_path, once)
    asyncio.run(hanging())
