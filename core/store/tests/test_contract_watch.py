"""What every store promises of its watches, tried on a folder and a real API server."""

from __future__ import annotations

from axoneme.core.model.objects import ObjectKey
from axoneme.core.store.model import Store
from axoneme.core.store.tests.contract import (
    Listener,
    Opener,
    config_map,
    key,
    listening,
    name,
    placed,
    run,
)


def test_a_watch_tells_the_story(opener: Opener) -> None:
    """What there was, synced, then each change."""

    async def work(store: Store) -> None:
        word = name()
        await store.create(config_map(f"{word}-a"))
        async with listening(store, word) as heard:
            assert await heard.until("synced") == [("added", f"{word}-a"), ("synced", "")]
            made = await store.create(config_map(f"{word}-b"))
            assert await heard.until("added") == [("added", f"{word}-b")]
            await store.update({**made.body, "data": {"n": "1"}})
            assert await heard.until("modified") == [("modified", f"{word}-b")]
            await store.delete(key(f"{word}-a"))
            assert await heard.until("deleted") == [("deleted", f"{word}-a")]

    run(opener, work)


def test_a_listener_to_one_namespace_hears_of_no_other(opener: Opener) -> None:
    """Nor, with a name, of other objects there; while another hears of all of them."""

    async def work(store: Store) -> None:
        word = name()
        a, b = f"{word}-a", f"{word}-b"
        async with listening(store, word) as every, listening(store, word, a, "apps") as one:
            assert await every.until("synced") == await one.until("synced") == [("synced", "")]
            await store.create(config_map(a, "default"))
            await store.create(config_map(b))
            made = await store.create(config_map(a))
            assert await one.until("added") == [("added", a)]
            for _ in range(3):
                await every.until("added")
            await store.delete(ObjectKey("ConfigMap", "default", a))
            await store.delete(made.key)
            assert await one.until("deleted") == [("deleted", a)]
        async with listening(store, word, "", "apps") as there:
            assert await there.until("synced") == [("added", b), ("synced", "")]

    run(opener, work)


def test_a_second_listener_hears_all_of_it_too(opener: Opener) -> None:
    """However late it comes; one that asks for a name hears of that alone."""

    async def work(store: Store) -> None:
        word = name()
        await store.create(config_map(f"{word}-a"))
        async with listening(store, word) as first:
            await first.until("synced")
            await store.create(config_map(f"{word}-b"))
            await first.until("added")
            async with listening(store, word) as second, listening(store, word, f"{word}-b") as one:
                assert ("added", f"{word}-a") in await second.until("synced")
                assert await one.until("synced") == [("added", f"{word}-b"), ("synced", "")]
                await store.delete(key(f"{word}-a"))
                await second.until("deleted")
                await store.delete(key(f"{word}-b"))
                assert await one.until("deleted") == [("deleted", f"{word}-b")]

    run(opener, work)


def test_who_selects_by_a_field_hears_of_those_alone(opener: Opener) -> None:
    """Pods of a node: what is there, what comes, changes and goes."""

    async def work(store: Store) -> None:
        word = name()
        node, fields = f"node-{word}", {"spec.nodeName": f"node-{word}"}
        await store.create(placed(f"{word}-a", node))
        await store.create(placed(f"{word}-b", "other"))
        events = store.watch("Pod", fields=fields)
        heard = Listener(events, word)
        assert await heard.until("synced") == [("added", f"{word}-a"), ("synced", "")]
        await store.create(placed(f"{word}-c", "other"))
        await store.create(placed(f"{word}-d", node))
        assert await heard.until("added") == [("added", f"{word}-d")]
        await store.update_status(key(f"{word}-b", "Pod"), {"phase": "Running"})
        await store.update_status(key(f"{word}-a", "Pod"), {"phase": "Running"})
        assert await heard.until("modified") == [("modified", f"{word}-a")]
        await store.delete(key(f"{word}-b", "Pod"))
        await store.delete(key(f"{word}-a", "Pod"))
        told = await heard.until("deleted")  # an API server marks a pod before it deletes it
        assert {named for _, named in told} == {f"{word}-a"}
        await events.aclose()  # type: ignore[attr-defined]

    run(opener, work)


def test_what_is_selected_no_more_is_gone_for_who_selected(opener: Opener) -> None:
    """And there again when it is selected again; with a name, too."""

    async def work(store: Store) -> None:
        word, fields = name(), {"status.phase": "Running"}
        where = key(f"{word}-a", "Pod")
        await store.create(placed(f"{word}-a", "node"))
        await store.update_status(where, {"phase": "Running"})
        for events in (
            store.watch("Pod", fields=fields),
            store.watch("Pod", f"{word}-a", fields=fields),
        ):
            heard = Listener(events, word)
            assert await heard.until("synced") == [("added", f"{word}-a"), ("synced", "")]
            await store.update_status(where, {"phase": "Succeeded"})
            assert await heard.until("deleted") == [("deleted", f"{word}-a")]
            await store.update_status(where, {"phase": "Running"})
            assert await heard.until("added") == [("added", f"{word}-a")]
            await events.aclose()  # type: ignore[attr-defined]

    run(opener, work)


def test_stores_hear_of_each_other(opener: Opener) -> None:
    """Two processes, here two stores."""

    async def work(store: Store) -> None:
        other, word = opener(), name()
        try:
            async with listening(store, word) as heard:
                await heard.until("synced")
                await other.create(config_map(f"{word}-a"))
                assert await heard.until("added") == [("added", f"{word}-a")]
        finally:
            await other.close()

    run(opener, work)
