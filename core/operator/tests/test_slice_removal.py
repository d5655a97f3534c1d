"""Slices that are switched off: served while agents read them, then deleted; never an error."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from axoneme.core.errors import NotFoundError, StoreError
from axoneme.core.ipcache.slices import KIND
from axoneme.core.metrics import MetricRegistry
from axoneme.core.model.objects import ObjectKey
from axoneme.core.nodes.objects import SLICES, SOURCE
from axoneme.core.operator import Operator, slice_removal
from axoneme.core.operator.slice_removal import TASK, SliceRemover
from axoneme.core.operator.slice_writer import SliceMetrics, SlicePace
from axoneme.core.operator.tests.slice_bench import (
    Keys,
    Running,
    clear,
    endpoint,
    node,
    told,
    until,
)
from axoneme.core.store.model import Store
from axoneme.core.testing.operators import eventually

READER = {SOURCE: SLICES}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds, not minutes."""
    monkeypatch.setattr(slice_removal, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(slice_removal, "LOOK_SECONDS", 0.05)


def test_slices_are_kept_right_while_they_are_read_and_then_go(
    running: Running, keys: Keys
) -> None:
    """Two agents read them; one after the other takes its word back. A new pod is told of till
    then, over a restart of the operator too; CiliumEndpoints stay.
    """

    async def story() -> None:
        async with running() as operator:
            await operator.store.create(node("n1", **READER))
            await operator.store.create(node("n2", **READER))
            await operator.store.create(endpoint("e0"))
            await until(lambda: told(operator.store))
        keys["enable-cilium-endpoint-slice"] = "false"
        forget = {"metadata": {"annotations": {SOURCE: None}}}
        for n, name in enumerate(("n1", "n2"), 2):
            async with running() as operator:
                store = operator.store
                await store.create(endpoint(f"e{n}"))
                await until(partial(count, store, n))
                await asyncio.sleep(1.5)  # longer than the grace
                assert await count(store, n)
                await store.patch(node_key(name), forget)
        async with running() as operator:
            store = operator.store
            await until(lambda: count(store, 0))
            await eventually(lambda: done(operator))
            assert len(await store.list("CiliumEndpoint")) == 3
            await clear(store)

    asyncio.run(asyncio.wait_for(story(), 90))


def test_a_reader_that_comes_back_meanwhile_has_all_of_them(running: Running, keys: Keys) -> None:
    """Deletion stops, what is gone already is written again; then it ends as ever."""
    keys["ces-max-ciliumendpoints-per-ces"] = "1"

    async def story() -> None:
        async with running() as operator:
            store = operator.store
            await store.create(node("n1"))
            for n in range(4):
                await store.create(endpoint(f"e{n}"))
            await until(lambda: count(store, 4))
        keys["enable-cilium-endpoint-slice"] = "false"
        # Two deletions, and no more until a second node is there.
        keys["ces-rate-limits"] = (
            '[{"nodes": 0, "limit": 0.001, "burst": 2}, {"nodes": 2, "limit": 50, "burst": 100}]'
        )
        async with running() as operator:
            store = operator.store
            await until(lambda: count(store, 2))
            await store.create(node("n2", **READER))
            await until(lambda: count(store, 4))
            await store.delete(node_key("n2"))
            await store.create(node("n3"))
            await until(lambda: count(store, 0))
            await clear(store)

    asyncio.run(asyncio.wait_for(story(), 90))


def test_one_that_cannot_be_deleted_brings_no_other_back(
    running: Running, keys: Keys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, and tried again; the rest goes meanwhile, for nobody reads them."""
    monkeypatch.setattr(slice_removal, "RETRY_SECONDS", 0.2)
    keys["ces-max-ciliumendpoints-per-ces"] = "1"

    async def story() -> None:
        async with running() as operator:
            await operator.store.create(node("n1"))
            for n in range(4):
                await operator.store.create(endpoint(f"e{n}"))
            await until(lambda: count(operator.store, 4))
        keys["enable-cilium-endpoint-slice"] = "false"
        async with running() as operator:
            store: Any = operator.store
            delete, create = store.delete, store.create
            refused: list[bool] = []
            made: list[str] = []
            bad = sorted(await told(store))[0]

            async def refuse(key: ObjectKey, version: str = "") -> None:
                if key.name == bad and len(refused) < 2:
                    refused.append(await count(store, 1))
                    raise StoreError("not now")
                await delete(key, version)

            async def note(body: Any) -> Any:
                made.append(body["kind"])
                return await create(body)

            store.delete, store.create = refuse, note
            await until(lambda: count(store, 0))
            assert refused == [False, True] and KIND not in made
            await clear(store)
        assert any(bad in str(vars(record)) for record in caplog.records)

    asyncio.run(asyncio.wait_for(story(), 90))


def test_nothing_happens_where_there_are_none(
    running: Running, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor where the cluster has not got the kind: no word of it, and the task is done."""
    keys["enable-cilium-endpoint-slice"] = "false"

    async def story() -> None:
        async with running() as operator:
            await eventually(lambda: done(operator))
            if keys.get("store") != "kubernetes":
                return
            client = operator.store.client  # type: ignore[attr-defined]
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
            name = "ciliumendpointslices.cilium.io"
            await client.call("DELETE", path + name, name)

            async def unknown() -> bool:
                try:
                    await operator.store.list(KIND)
                except NotFoundError:
                    return True
                return False

            await until(unknown)
            caplog.clear()
            metrics = SliceMetrics.declare(MetricRegistry())
            pace = SlicePace(operator.config, operator.nodes)
            await asyncio.wait_for(SliceRemover(operator, pace, metrics).run(), 10)

    asyncio.run(asyncio.wait_for(story(), 90))
    said = [r for r in caplog.records if "slice" in r.name or "slice" in r.getMessage()]
    assert [r.getMessage() for r in said] == []


async def count(store: Store, wanted: int) -> bool:
    """Whether slices tell of so many endpoints."""
    return len({name for inside in (await told(store)).values() for name in inside}) == wanted


def done(operator: Operator) -> bool:
    """Whether there is nothing to do any more."""
    runner = operator._runner
    return runner is not None and TASK in runner.states and runner.states[TASK].state == "done"


def node_key(name: str) -> ObjectKey:
    """Of a CiliumNode."""
    return ObjectKey("CiliumNode", "", name)
