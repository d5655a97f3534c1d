"""What every store promises, tried on each: a folder of manifests, and a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from axoneme.core.errors import ConflictError, InvalidObjectError, NotFoundError
from axoneme.core.model.objects import ObjectKey
from axoneme.core.store import FolderStore
from axoneme.core.store.model import Store, StoreEvent
from axoneme.core.testing.apiserver import ApiServer, api_server

Opener = Callable[[], Store]
NUMBERS = count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for all of these."""
    with api_server(tmp_path_factory.mktemp("kubernetes")) as running:
        running.kubectl("create", "namespace", "apps")
        running.kubectl("create", "serviceaccount", "default", "-n", "apps")
        yield running


@pytest.fixture(
    params=["folder", pytest.param("kubernetes", marks=pytest.mark.needs("kubernetes"))]
)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens another store over the same objects each time."""
    if request.param == "folder":
        return lambda: FolderStore(tmp_path)
    from axoneme.core.k8s.access import open_access
    from axoneme.core.k8s.store import KubernetesStore

    running = request.getfixturevalue("server")
    access = asyncio.run(open_access(str(running.kubeconfig)))
    return lambda: KubernetesStore(access)


def name() -> str:
    """One that no other test has."""
    return f"n{next(NUMBERS)}"


def config_map(called: str, namespace: str = "apps", **data: str) -> dict[str, Any]:
    """A kind that takes any words."""
    metadata = {"name": called, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(called: str) -> dict[str, Any]:
    """A kind with a status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": called, "namespace": "apps"},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }


def key(called: str, kind: str = "ConfigMap") -> ObjectKey:
    """In the namespace of these tests."""
    return ObjectKey(kind, "apps", called)


def run(opener: Opener, work: Callable[[Store], Awaitable[None]]) -> None:
    """With a store, which is closed again."""

    async def whole() -> None:
        store = opener()
        try:
            await asyncio.wait_for(work(store), 60)
        finally:
            await store.close()

    asyncio.run(whole())


class Listener:
    """Events of a watch about objects whose names begin with a word."""

    def __init__(self, events: AsyncIterator[StoreEvent], prefix: str) -> None:
        self._events, self._prefix = events, prefix

    async def until(self, kind: str) -> list[tuple[str, str]]:
        """Type and name of events, up to one of that type."""
        found: list[tuple[str, str]] = []
        async for event in self._events:
            if event.key is not None and not event.key.name.startswith(self._prefix):
                continue
            found.append((event.type, event.key.name if event.key else ""))
            if event.type == kind:
                return found
        return found


@asynccontextmanager
async def listening(
    store: Store, prefix: str, name: str = "", namespace: str = ""
) -> AsyncIterator[Listener]:
    """A watch that ends with the block."""
    events = store.watch("ConfigMap", name, namespace)
    try:
        yield Listener(events, prefix)
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def test_what_is_created_is_read_back(opener: Opener) -> None:
    """With a uid and a version; lists have it."""

    async def work(store: Store) -> None:
        made = await store.create(config_map(one := name(), color="red"))
        found = await store.get(key(one))
        assert found.body["data"] == {"color": "red"}
        assert (found.uid, found.resource_version) == (made.uid, made.resource_version)
        assert found.uid
        assert key(one) in [o.key for o in await store.list("ConfigMap")]

    run(opener, work)


def test_a_name_is_created_once(opener: Opener) -> None:
    """The second one is told."""

    async def work(store: Store) -> None:
        await store.create(config_map(one := name()))
        with pytest.raises(ConflictError, match=f"ConfigMap apps/{one} exists already"):
            await store.create(config_map(one))

    run(opener, work)


def test_of_two_updates_one_wins(opener: Opener) -> None:
    """The loser is told, and changes nothing."""

    async def work(store: Store) -> None:
        old = await store.create(config_map(one := name(), n="0"))
        await store.update({**old.body, "data": {"n": "1"}})
        with pytest.raises(ConflictError):
            await store.update({**old.body, "data": {"n": "2"}})
        assert (await store.get(key(one))).body["data"] == {"n": "1"}

    run(opener, work)


def test_an_update_without_a_version_replaces(opener: Opener) -> None:
    """Whoever wrote last."""

    async def work(store: Store) -> None:
        await store.create(config_map(one := name(), a="1", b="2"))
        await store.update(config_map(one, a="3"))
        assert (await store.get(key(one))).body["data"] == {"a": "3"}

    run(opener, work)


def test_apply_creates_and_replaces_but_keeps_status_and_uid(opener: Opener) -> None:
    """What is left out of a manifest goes."""

    async def work(store: Store) -> None:
        made = await store.apply(config_map(one := name(), a="1", b="2"))
        again = await store.apply(config_map(one, a="3"))
        assert again.body["data"] == {"a": "3"}
        assert again.uid == made.uid
        await store.apply(pod(two := name()))
        await store.update_status(key(two, "Pod"), {"phase": "Running"})
        labelled = pod(two)
        labelled["metadata"]["labels"] = {"app": "web"}
        after = await store.apply(labelled)
        assert (after.labels["app"], after.status["phase"]) == ("web", "Running")

    run(opener, work)


def test_apply_of_the_same_changes_nothing(opener: Opener) -> None:
    """Not even its version, so nobody is woken."""

    async def work(store: Store) -> None:
        first = await store.apply(config_map(one := name(), a="1"))
        second = await store.apply(config_map(one, a="1"))
        assert first.resource_version == second.resource_version

    run(opener, work)


def test_a_status_is_replaced_whole_and_alone(opener: Opener) -> None:
    """Not over a version that nobody has read."""

    async def work(store: Store) -> None:
        await store.apply(pod(one := name()))
        where = key(one, "Pod")
        first = await store.update_status(where, {"phase": "Pending", "message": "wait"})
        second = await store.update_status(where, {"phase": "Running"}, first.resource_version)
        assert "message" not in second.status
        assert second.spec["containers"][0]["name"] == "c"
        with pytest.raises(ConflictError):
            await store.update_status(where, {"phase": "Failed"}, first.resource_version)
        assert (await store.get(where)).status["phase"] == "Running"

    run(opener, work)


def test_a_patch_changes_the_fields_that_it_names(opener: Opener) -> None:
    """And no other; not over a version that nobody has read; a status by itself."""

    async def work(store: Store) -> None:
        old = await store.create(config_map(one := name(), a="1", b="2"))
        labels = {"metadata": {"labels": {"x": "y"}}}
        first = await store.patch(key(one), {"data": {"a": None, "c": "3"}} | labels)
        assert (first.body["data"], first.labels) == ({"b": "2", "c": "3"}, {"x": "y"})
        assert first.uid == old.uid
        with pytest.raises(ConflictError):
            await store.patch(key(one), {"data": {"b": "9"}}, old.resource_version)
        same = await store.patch(key(one), {"data": {"c": "3"}}, first.resource_version)
        assert same.resource_version == first.resource_version
        await store.apply(pod(two := name()))
        where = key(two, "Pod")
        await store.update_status(where, {"phase": "Pending", "message": "wait"})
        second = await store.patch(where, {"status": {"message": None, "reason": "Because"}})
        assert second.status["reason"] == "Because" and "message" not in second.status
        assert second.status["phase"] == "Pending" and second.spec["containers"]
        with pytest.raises(ConflictError):
            await store.patch(where, {"status": {"reason": "No"}}, first.resource_version)
        with pytest.raises(InvalidObjectError, match="status"):
            await store.patch(where, {"status": {}, "spec": {}})
        assert (await store.get(where)).status["reason"] == "Because"

    run(opener, work)


def test_a_patch_cannot_move_an_object(opener: Opener) -> None:
    """Its name is how it is found."""

    async def work(store: Store) -> None:
        await store.create(config_map(one := name()))
        with pytest.raises(InvalidObjectError):
            await store.patch(key(one), {"metadata": {"name": "other"}})
        await store.get(key(one))

    run(opener, work)


def test_what_is_gone_is_not_found(opener: Opener) -> None:
    """By every verb that needs it; a stale version deletes nothing."""

    async def work(store: Store) -> None:
        old = await store.create(config_map(one := name()))
        new = await store.update({**old.body, "data": {"n": "1"}})
        with pytest.raises(ConflictError):
            await store.delete(key(one), old.resource_version)
        await store.delete(key(one), new.resource_version)
        for verb in (
            store.get(key(one)),
            store.delete(key(one)),
            store.update(config_map(one)),
            store.update_status(key(one, "Pod"), {}),
            store.patch(key(one), {"data": {"a": "1"}}),
            store.patch(key(one, "Pod"), {"status": {"reason": "x"}}),
        ):
            with pytest.raises(NotFoundError):
                await verb

    run(opener, work)


def test_what_is_no_object_is_refused_with_its_field(opener: Opener) -> None:
    """And nothing is written."""

    async def work(store: Store) -> None:
        bad = config_map("Not A Name!")
        with pytest.raises(InvalidObjectError, match="name"):
            await store.create(bad)
        with pytest.raises(InvalidObjectError, match="kind"):
            await store.create({"apiVersion": "v1", "metadata": {"name": "a"}})

    run(opener, work)


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


def placed(called: str, node: str) -> dict[str, Any]:
    """A pod on a node."""
    body = pod(called)
    return {**body, "spec": {**body["spec"], "nodeName": node}}


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


def test_a_lease_has_one_holder_until_it_ends(opener: Opener) -> None:
    """Renewed it goes on; left alone another gets it."""

    async def work(store: Store) -> None:
        lease = name()
        assert await store.acquire_lease(lease, "one", 1.0)
        assert not await store.acquire_lease(lease, "two", 1.0)
        assert await store.acquire_lease(lease, "one", 1.0)
        for _ in range(100):
            if await store.acquire_lease(lease, "two", 1.0):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the lease never ended")
        assert not await store.acquire_lease(lease, "one", 1.0)

    run(opener, work)


def test_of_many_who_want_a_lease_one_gets_it(opener: Opener) -> None:
    """At once."""

    async def work(store: Store) -> None:
        lease = name()
        won = await asyncio.gather(*(store.acquire_lease(lease, f"h{n}", 5.0) for n in range(8)))
        assert sum(won) == 1

    run(opener, work)
