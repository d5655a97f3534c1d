"""A real API server behind a proxy that cuts, refuses and forgets; and one that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web

from axoneme.core.errors import NotFoundError, StoreError
from axoneme.core.k8s.access import open_access
from axoneme.core.k8s.client import ApiClient
from axoneme.core.k8s.definitions.install import install
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.k8s.tests.views import View, body, run
from axoneme.core.model.objects import ObjectKey
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.faults import FaultProxy

pytestmark = pytest.mark.needs("kubernetes")

NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of their own: it is killed."""
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running


def test_cut_watches_go_on_where_they_were(server: ApiServer) -> None:
    """Nothing is lost, and nothing is listed again."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"cut{next(NUMBERS)}"
        await view.synced.wait()
        for n in range(20):
            await store.create(body(f"{word}-{n}"))
            if n % 4 == 0:
                proxy.cut_watches()
            if n % 5 == 4:
                await store.delete(ObjectKey("ConfigMap", "default", f"{word}-{n - 2}"))
        lists = proxy.counts["list"]
        assert lists == 1
        await view.equals(store)
        assert view.syncs == 1
        assert store.feeds["ConfigMap"].lists == 1
        view.close()

    run(server, work)


def test_a_version_that_is_too_old_is_listed_again_and_compared(server: ApiServer) -> None:
    """The listener hears of differences alone."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"old{next(NUMBERS)}"
        await view.synced.wait()
        gone = [True]

        def refuse(request: web.Request) -> web.Response | None:
            if request.query.get("watch") == "1" and gone:
                return web.json_response({"code": 410, "message": "too old"}, status=410)
            return None

        await store.create(body(f"{word}-a"))
        await view.equals(store)
        proxy.refuse = refuse
        proxy.cut_watches()
        await store.create(body(f"{word}-b"))
        await store.delete(ObjectKey("ConfigMap", "default", f"{word}-a"))
        while store.feeds["ConfigMap"].lists < 2:
            await asyncio.sleep(0.05)
        gone.clear()
        await view.equals(store)
        assert f"{word}-a" not in view.versions
        assert view.syncs == 1
        view.close()

    run(server, work)


def test_what_is_no_answer_of_a_server_ends_no_watch(server: ApiServer) -> None:
    """A proxy's page in place of a stream or a list, a stream that is torn in a line."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"page{next(NUMBERS)}"
        await view.synced.wait()
        pages = [b"<html>oops</html>\n", b'{"type": "ADDED", "object": {}}\n', b'["a list"]\n']

        def refuse(request: web.Request) -> web.Response | None:
            if request.query.get("watch") == "1" and pages:
                return web.Response(body=pages.pop())
            return None

        proxy.refuse = refuse
        proxy.cut_watches()
        await store.create(body(f"{word}-a"))
        await view.equals(store)
        assert not pages
        proxy.refuse = lambda _: web.Response(text="<html>welcome</html>")
        with pytest.raises(StoreError, match="is no JSON"):
            await store.list("ConfigMap")
        view.close()

    run(server, work)


def test_a_watch_that_is_cut_all_the_time_keeps_up(server: ApiServer) -> None:
    """What comes through in between shows that the server is there: no long pauses."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"often{next(NUMBERS)}"
        await view.synced.wait()
        for n in range(25):
            await store.create(body(f"{word}-{n}"))
            await asyncio.sleep(0.2)
            proxy.cut_watches()
        assert store.feeds["ConfigMap"]._failures < 5
        await view.equals(store)
        view.close()

    run(server, work)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: ApiServer, status: int) -> None:
    """When it says so; a verb that may not be repeated too, since it was not done."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        left, one = [3], f"busy{next(NUMBERS)}"

        def refuse(_: web.Request) -> web.Response | None:
            if left[0]:
                left[0] -= 1
                return web.Response(status=status, headers={"Retry-After": "0"})
            return None

        proxy.refuse = refuse
        made = await store.create(body(one, a="1"))
        assert made.body["data"] == {"a": "1"}
        left[0] = 99
        with pytest.raises(StoreError, match=str(status)):
            await store.get(made.key)

    run(server, work)


def test_a_refusal_names_object_and_words(server: ApiServer) -> None:
    """Of RBAC, say."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        text = {"message": "cannot get resource", "reason": "Forbidden"}
        proxy.refuse = lambda _: web.json_response(text, status=403)
        with pytest.raises(StoreError, match=r"ConfigMap default/x.*cannot get resource"):
            await store.get(ObjectKey("ConfigMap", "default", "x"))

    run(server, work)


def test_a_server_that_dies_and_comes_back_is_caught_up_with(server: ApiServer) -> None:
    """Meanwhile the listener keeps what it knows, and the store says what is wrong."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"dies{next(NUMBERS)}"
        await view.synced.wait()
        await store.create(body(f"{word}-a"))
        await view.equals(store)
        while not store.version:
            await asyncio.sleep(0.05)
        known = dict(view.versions)
        assert "1.34 (v1.34" in store.about()
        server.kill("kube-apiserver")
        while not store.problems():
            await asyncio.sleep(0.05)
        assert view.versions == known
        await asyncio.to_thread(server.start_api)
        await store.create(body(f"{word}-b"))
        await view.equals(store)
        assert f"{word}-b" in view.versions
        assert not store.problems()
        calls = store.calls()
        assert calls[proxy.url, "POST", "201"] == 2
        assert sum(n for (_, verb, _), n in calls.items() if verb == "WATCH") >= 2
        view.close()

    run(server, work)


def test_another_server_is_tried(server: ApiServer, tmp_path: Path) -> None:
    """Of a list: the first one is not there."""

    async def work() -> None:
        access = await open_access(str(server.kubeconfig), ("https://127.0.0.1:1", server.url))
        store = KubernetesStore(access)
        try:
            assert await store.list("Namespace")
            assert access.server == server.url
        finally:
            await store.close()

    asyncio.run(work())


def test_a_kind_of_ours_is_waited_for(server: ApiServer) -> None:
    """A node that took it for empty would begin without its policies. Not so a foreign one."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        foreign = store.watch("ClusterNetworkPolicy")
        assert (await anext(foreign)).type == "synced"
        first = asyncio.ensure_future(anext(store.watch("CiliumCIDRGroup")))
        while not any("ciliumcidrgroups.cilium.io" in p for p in store.problems()):
            await asyncio.sleep(0.05)
        group = {"apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup", "metadata": {"name": "g"}}
        for verb in (store.create, store.apply):
            with pytest.raises(NotFoundError, match=r"CiliumCIDRGroup g: .*its CRD is missing"):
                await verb(group)
        with pytest.raises(NotFoundError, match="ConfigMap default/nobody not found"):
            await store.get(ObjectKey("ConfigMap", "default", "nobody"))
        assert not first.done()
        await install(store)
        assert (await first).type == "synced"

    run(server, work)


def test_what_is_known_outlives_a_server_that_forgets_its_kinds(server: ApiServer) -> None:
    """A 404 is no deletion: policies would be gone."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"forgets{next(NUMBERS)}"
        await view.synced.wait()
        await store.create(body(f"{word}-a"))
        await view.equals(store)
        known = dict(view.versions)
        proxy.refuse = lambda _: web.Response(status=404, text="404 page not found")
        proxy.cut_watches()
        while not store.problems():
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert view.versions == known
        proxy.refuse = lambda _: None
        await view.equals(store)
        view.close()

    run(server, work)


def test_a_server_that_is_not_there_is_named_in_plain_words(server: ApiServer) -> None:
    """No object of Python's in what a person reads."""

    async def work() -> None:
        access = await open_access(str(server.kubeconfig), ("https://127.0.0.1:1",))
        client = ApiClient(access)
        with pytest.raises(StoreError) as error:
            async with client.stream("/api/v1/pods", {}, 5):
                pass
        await client.close()
        text = str(error.value)
        assert (
            text.startswith("https://127.0.0.1:1 cannot be reached: ") and "object at" not in text
        )

    asyncio.run(work())
