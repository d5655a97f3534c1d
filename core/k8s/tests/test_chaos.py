"""Churn while everything goes wrong: nothing is lost, and nobody lists again and again."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from aiohttp import web

from axoneme.core.errors import AxonemeError, ConflictError, NotFoundError
from axoneme.core.k8s.leases import Leases
from axoneme.core.k8s.store import KubernetesStore
from axoneme.core.k8s.tests.views import View, body, run
from axoneme.core.model.objects import ObjectKey
from axoneme.core.testing.apiserver import ApiServer, api_server
from axoneme.core.testing.faults import FaultProxy

pytestmark = pytest.mark.needs("kubernetes")

NUMBERS = count()
CHURN = 200
KINDS = ("ConfigMap", "Pod", "Service", "EndpointSlice", "Namespace", "Secret")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of their own: it is killed."""
    with api_server(tmp_path_factory.mktemp("chaos")) as running:
        yield running


def compact(server: ApiServer) -> int:
    """Make etcd forget every version but the present one; returns that."""

    def ask(verb: str, **words: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{server._etcd}/v3/kv/{verb}"
        request = urllib.request.Request(url, json.dumps(words).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    key = base64.b64encode(b"/").decode()
    revision = int(ask("range", key=key)["header"]["revision"])
    ask("compaction", revision=revision, physical=True)
    return revision


async def persist(store: KubernetesStore, verb: str, name: str, n: int) -> None:
    """Write until it is done, as whoever owns an object does."""
    for _ in range(60):
        try:
            if verb == "delete":
                await store.delete(ObjectKey("ConfigMap", "default", name))
            else:
                await store.apply(body(name, n=str(n)))
        except (NotFoundError, ConflictError):
            return
        except AxonemeError:
            await asyncio.sleep(0.2)
        else:
            return
    raise AssertionError(f"{name} could not be written")


async def churn(store: KubernetesStore, word: str, pause: float) -> None:
    """Objects come, change and go, eight at a time, in an order that chance decides."""
    gate = asyncio.Semaphore(8)

    async def life(n: int) -> None:
        async with gate:
            await persist(store, "apply", f"{word}-{n}", 0)
            await asyncio.sleep(pause * random.random())
            if n % 2:
                await persist(store, "apply", f"{word}-{n}", n)
            if n % 3 == 0:
                await persist(store, "delete", f"{word}-{n}", n)

    await asyncio.gather(*(life(n) for n in range(CHURN)))


def test_a_watch_that_is_cut_each_second_loses_nothing(server: ApiServer) -> None:
    """While 200 objects come, change and go: one list, and at most a few watches for each cut."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word, cuts = View(store), f"churn{next(NUMBERS)}", 0
        await view.synced.wait()
        busy = asyncio.create_task(churn(store, word, 0.4))
        while not busy.done():
            await asyncio.wait([busy], timeout=1.0)
            proxy.cut_watches()
            cuts += 1
        await busy
        assert proxy.counts["list"] == 1
        assert proxy.counts["watch"] <= 2 * cuts + 2
        await view.equals(store)
        assert sum(n.startswith(word) for n in view.versions) == CHURN - (CHURN + 2) // 3
        assert (view.syncs, store.feeds["ConfigMap"].lists) == (1, 1)
        view.close()

    run(server, work)


def test_what_a_compacted_database_has_forgotten_is_listed_once(server: ApiServer) -> None:
    """The version of an interrupted watch is gone: one more list, differences alone."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"compact{next(NUMBERS)}"
        await view.synced.wait()
        for n in range(10):
            await store.create(body(f"{word}-{n}"))
        await view.equals(store)
        proxy.refuse = lambda r: web.Response(status=503) if "watch" in r.query else None
        proxy.cut_watches()
        for n in range(5):
            await store.delete(ObjectKey("ConfigMap", "default", f"{word}-{n}"))
            await store.apply(body(f"{word}-{n + 5}", n="1"))
        await asyncio.to_thread(compact, server)
        server.kill("kube-apiserver")  # what it remembers itself is older than that
        await asyncio.to_thread(server.start_api)
        await store.apply(body(f"{word}-new"))
        proxy.refuse = lambda _: None
        while store.feeds["ConfigMap"].lists < 2:
            await asyncio.sleep(0.05)
        await view.equals(store)
        assert (view.syncs, store.feeds["ConfigMap"].lists) == (1, 2)
        assert f"{word}-0" not in view.versions
        view.close()

    run(server, work)


def test_a_server_that_calls_every_version_too_old_is_not_listed_without_end(
    server: ApiServer,
) -> None:
    """Its watches end with 410 at once, in the stream as it says it: the pauses grow."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        status = {"kind": "Status", "metadata": {}, "code": 410, "message": "too old"}
        line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"

        def refuse(request: web.Request) -> web.Response | None:
            return web.Response(body=line) if "watch" in request.query else None

        proxy.refuse = refuse
        view, word, began = View(store), f"gone{next(NUMBERS)}", time.monotonic()
        await view.synced.wait()
        await store.create(body(f"{word}-a"))
        await asyncio.sleep(4)
        # 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 seconds at the shortest between two of them
        assert proxy.counts["list"] <= 6 + (time.monotonic() - began) / 3.2
        proxy.refuse = lambda _: None
        await view.equals(store)
        assert view.syncs == 1
        view.close()

    run(server, work)


@pytest.mark.parametrize("wait", ["1", ""], ids=["told when", "not told"])
def test_a_server_under_water_is_left_alone(server: ApiServer, wait: str) -> None:
    """429 to everything for a while: few requests, then all that was wanted is done."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        word, refused = f"storm{next(NUMBERS)}", 0
        headers = {"Retry-After": wait} if wait else {}

        def refuse(_: web.Request) -> web.Response:
            nonlocal refused
            refused += 1
            return web.Response(status=429, headers=headers)

        view = View(store)
        await view.synced.wait()
        proxy.refuse, began = refuse, time.monotonic()
        proxy.cut_watches()
        others = [asyncio.ensure_future(_synced(store, kind)) for kind in KINDS]
        writes = asyncio.create_task(persist(store, "apply", f"{word}-a", 1))
        await asyncio.sleep(4)
        askers = len(KINDS) + 3  # a watch or a list each, a write, the server's version
        assert refused <= askers * (6 + (time.monotonic() - began))
        proxy.refuse = lambda _: None
        await asyncio.gather(writes, *others)
        await view.equals(store)
        assert f"{word}-a" in view.versions
        assert all(feed.lists <= 3 for feed in store.feeds.values())
        view.close()

    run(server, work)


async def _synced(store: KubernetesStore, kind: str) -> None:
    async for event in store.watch(kind):
        if event.type == "synced":
            return


def test_server_and_database_die_again_and_again(server: ApiServer) -> None:
    """Under churn; each time they come back with all that they had promised to keep."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        view, word = View(store), f"dies{next(NUMBERS)}"
        await view.synced.wait()
        await asyncio.gather(*(_synced(store, kind) for kind in KINDS))
        busy = asyncio.create_task(churn(store, word, 1.0))
        for _ in range(2):
            await asyncio.sleep(0.5)
            server.kill("kube-apiserver")
            server.kill("etcd")
            await asyncio.to_thread(server.start)
        await busy
        await view.equals(store)
        assert sum(n.startswith(word) for n in view.versions) == CHURN - (CHURN + 2) // 3
        # a server that has just begun may not know a version that it gave out before
        assert all(feed.lists <= 3 for feed in store.feeds.values())
        assert not store.problems()
        view.close()

    run(server, work)


@pytest.mark.parametrize("year", [1999, 2090])
def test_a_holder_s_clock_decides_nothing(server: ApiServer, year: int) -> None:
    """Ninety years off: its lease lasts as long as it renews it, by the clock of who waits."""

    async def work(store: KubernetesStore, proxy: FaultProxy) -> None:
        now, name = [0.0], f"skew{next(NUMBERS)}"
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}"
        other = Leases(store.client, clock=lambda: now[0])
        assert await Leases(store.client).acquire(name, "skewed", 10)

        async def renew(second: int) -> None:
            lease = await store.client.call("GET", path, name)
            lease["spec"]["renewTime"] = f"{year}-01-01T00:00:{second:02d}.000000Z"
            await store.client.call("PUT", path, name, body=lease)

        for second in range(4):
            await renew(second)
            assert not await other.acquire(name, "other", 10)
            now[0] += 9
            assert not await other.acquire(name, "other", 10)
        now[0] += 2
        assert await other.acquire(name, "other", 10)
        assert not await Leases(store.client).acquire(name, "skewed", 10)

    run(server, work)
