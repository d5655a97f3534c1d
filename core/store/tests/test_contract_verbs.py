"""What every store promises of its verbs, tried on a folder of manifests and a real API server."""

from __future__ import annotations

import asyncio

import pytest

from axoneme.core.errors import ConflictError, InvalidObjectError, NotFoundError
from axoneme.core.store.model import Store
from axoneme.core.store.tests.contract import Opener, config_map, key, name, pod, run


def test_what_is_created_is_read_back(opener: Opener) -> None:
    """With a uid and a version; lists have it."""

    async def work(store: Store) -> None:
        made = await store.create(config_map(one := name(), color="red"))
        found = await store.get(key(one))
        assert found.body["data"] == {"color": "red"}
        assert (found.uid, found.resource_version) == (made.uid, made.resource_version)
        assert found.uid
        assert key(one) in [o.key for o in await store.list("ConfigMap")]
        assert key(one) in [o.key async for o in store.each("ConfigMap")]

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
