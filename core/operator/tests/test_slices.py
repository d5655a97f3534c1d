"""CiliumEndpoints into slices by a real operator, over a folder and at a real API server."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from axoneme.core.boot import boot
from axoneme.core.errors import StoreError
from axoneme.core.ipcache.slices import KIND, decode_slice
from axoneme.core.model.objects import ObjectKey
from axoneme.core.operator import Operator
from axoneme.core.operator.slices import SliceRow, arrange
from axoneme.core.operator.tests.slice_bench import (
    Keys,
    Running,
    clear,
    endpoint,
    key_of,
    told,
    until,
)
from axoneme.core.store.model import Store
from axoneme.core.testing.operators import PATIENCE


@given(st.data())
def test_each_endpoint_is_in_one_slice_and_stays_there(data: st.DataObject) -> None:
    """Whatever comes and goes; no slice is too large; nothing is rearranged without need."""
    most = data.draw(st.integers(1, 4))
    slices: list[SliceRow] = []
    names = st.sets(st.sampled_from("abcdefghij"))
    for step in range(data.draw(st.integers(1, 6))):
        entries = {name: f"{name}{step}" for name in data.draw(names)}
        before = {n: s.name for s in slices for n, _ in s.entries}
        found = arrange(slices, entries, most)
        places: dict[str, str] = {}
        for slice_name, inside in found.items():
            assert len(inside) <= most
            for name, text in inside:
                assert name not in places and text == entries[name]
                places[name] = slice_name
        assert places.keys() == entries.keys()
        assert all(places[n] == before[n] for n in places.keys() & before.keys())
        slices = [SliceRow(n, "x", inside) for n, inside in found.items() if inside]
        assert arrange(slices, entries, most) == {s.name: s.entries for s in slices}


def test_doubles_and_slices_that_are_too_large_are_put_right() -> None:
    """Another operator's leftovers, or a smaller limit."""
    slices = [
        SliceRow("one", "x", (("a", "old"), ("b", "b"), ("c", "c"))),
        SliceRow("two", "x", (("a", "a"), ("gone", "gone"))),
    ]
    found = arrange(slices, {"a": "a", "b": "b", "c": "c"}, 2)
    assert found["one"] == (("a", "a"), ("b", "b"))
    assert found["two"] == ()
    assert [v for k, v in found.items() if k.startswith("ces-")] == [(("c", "c"),)]


def test_slices_follow_endpoints_over_restarts_and_accidents(running: Running) -> None:
    """Filled, changed and emptied; never shuffled; a slice that somebody deletes comes back."""

    async def story() -> None:
        async with running() as operator:
            store: Store = operator.store
            for n in range(5):
                await store.create(endpoint(f"e{n}"))

            async def sizes(*wanted: int) -> bool:
                return sorted(map(len, (await told(store)).values())) == list(wanted)

            await until(lambda: sizes(2, 3))
            before = await told(store)
            rows = [row for o in await store.list(KIND) for row in decode_slice(o)]
            assert {(r.namespace, r.identity, r.named_ports[0].port) for r in rows} == {
                ("default", 300, 80)
            }
            assert {str(r.ipv6) for r in rows} == {"fd00::5"}
        async with running() as operator:
            store = operator.store
            await store.create(endpoint("e5"))
            await until(lambda: sizes(3, 3))
            after = await told(store)
            assert all(set(before[name]) <= set(after[name]) for name in before)
            key = key_of("e0")
            await store.update_status(key, endpoint("e0", 301)["status"])

            async def changed() -> bool:
                found = [r for o in await store.list(KIND) for r in decode_slice(o)]
                return [r.identity for r in found if r.name == "e0"] == [301]

            await until(changed)
            lost = next(name for name, inside in after.items() if "e1" in inside)
            await store.delete(ObjectKey(KIND, "", lost))

            async def back() -> bool:
                found = await told(store)
                names = sorted(name for inside in found.values() for name in inside)
                return lost not in found and names == [f"e{n}" for n in range(6)]

            await until(back)
            text = operator.metrics.render().decode()
            assert 'cilium_operator_ces_sync_total{outcome="success"}' in text
            assert "cilium_operator_number_of_ceps_per_ces_bucket" in text
            for n in range(6):
                await store.delete(key_of(f"e{n}"))
            await until(sizes)

    asyncio.run(asyncio.wait_for(story(), 90))


def test_an_endpoint_that_moves_is_in_a_slice_whatever_fails(running: Running, keys: Keys) -> None:
    """It leaves one only when the other has it; what is gone goes from all that can be written."""

    async def story() -> None:
        async with running() as operator:
            for name in ("e0", "e1", "e2"):
                await operator.store.create(endpoint(name))
            await until(lambda: everywhere(operator.store, {"e0", "e1", "e2"}))
        keys["ces-max-ciliumendpoints-per-ces"] = "2"
        operator = Operator(*boot(keys, {}))
        store: Any = operator.store
        create, tried = store.create, asyncio.Event()

        async def refuse(body: Any) -> Any:
            if body["kind"] != KIND:
                return await create(body)
            tried.set()
            raise StoreError("no room")

        store.create = refuse
        task = asyncio.create_task(operator.run())
        await asyncio.wait_for(tried.wait(), PATIENCE)
        await asyncio.sleep(0.5)
        assert await everywhere(store, {"e0", "e1", "e2"})
        store.create = create
        await until(lambda: slices(store, 2))
        assert await everywhere(store, {"e0", "e1", "e2"})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with running() as operator:
            await clear(operator.store)

    asyncio.run(asyncio.wait_for(story(), 90))


async def everywhere(store: Store, names: set[str]) -> bool:
    """Whether slices tell of just these endpoints."""
    return {name for inside in (await told(store)).values() for name in inside} == names


async def slices(store: Store, count: int) -> bool:
    """Whether there are so many slices."""
    return len(await told(store)) == count
