"""Numbers for label sets, through a real folder store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from axoneme.core.errors import ExhaustedError, InvalidObjectError, NotFoundError, StoreError
from axoneme.core.identities import maker
from axoneme.core.identities.allocator import IdentityAllocator
from axoneme.core.identities.gc import collect_identities
from axoneme.core.identities.maker import IdentityMaker, candidates
from axoneme.core.identities.objects import UNUSED_ANNOTATION, decode_identity, encode_identity
from axoneme.core.identities.reserved import cidr_labels
from axoneme.core.identities.table import identity_table
from axoneme.core.model.identity import LOCAL_SCOPE, Identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ClusterObject, ObjectKey
from axoneme.core.state import TableRegistry
from axoneme.core.store.folder import FolderStore
from axoneme.core.store.reflector import Reflector

WEB = LabelSet.parse(["k8s:app=web"])
DB = LabelSet.parse(["k8s:app=db"])


def making(store: FolderStore) -> IdentityAllocator:
    table = identity_table(TableRegistry())
    return IdentityAllocator(table, IdentityMaker(store, table))


class Node:
    """One agent's view: an allocator that follows the shared store."""

    def __init__(self, root: Path) -> None:
        self.store = FolderStore(root)
        numbers = identity_table(TableRegistry())
        self.maker = IdentityMaker(self.store, numbers)
        self.allocator = IdentityAllocator(numbers, self.maker)
        table = self.allocator.table
        reflector = Reflector(self.store, "CiliumIdentity", table, self.allocator.decode)
        self.task = asyncio.get_running_loop().create_task(reflector.run())

    async def __aenter__(self) -> Node:
        await self.allocator.table.initialized.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.allocator.close()
        await self.store.close()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await work()

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never happened")


def test_two_nodes_that_race_agree(tmp_path: Path) -> None:
    """Ten label sets asked for on three nodes at once get one number each, the same everywhere."""

    async def work() -> None:
        async with Node(tmp_path) as a, Node(tmp_path) as b, Node(tmp_path) as c:
            sets = [LabelSet.parse([f"k8s:app=a{i}"]) for i in range(10)]
            jobs = [n.allocator.allocate(s) for s in sets for n in (a, b, c)]
            numbers = await asyncio.gather(*jobs)
            for i in range(10):
                assert len(set(numbers[3 * i : 3 * i + 3])) == 1
            assert len(set(numbers)) == 10
            assert len(await a.store.list("CiliumIdentity")) == 10

    run(work)


def test_taken_number_is_passed_over(tmp_path: Path) -> None:
    """A number that stands for other labels is never given away, also if only the store knows."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        first, second, *_ = candidates(WEB)
        await store.create(encode_identity(first, DB))
        allocator = making(store)
        assert await allocator.allocate(WEB) == second
        await store.close()

    run(work)


def test_full_range_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No number left: the error says so and names the key that helps."""

    async def work() -> None:
        monkeypatch.setattr(maker, "SPAN", 1)
        store = FolderStore(tmp_path)
        table = identity_table(TableRegistry())
        allocator = IdentityAllocator(table, IdentityMaker(store, table))
        table.upsert(Identity(next(candidates(WEB)), DB))
        with pytest.raises(ExhaustedError, match="labels"):
            await allocator.allocate(WEB)
        await store.close()

    run(work)


def test_reserved_labels_need_no_object(tmp_path: Path) -> None:
    """init is 5, without asking the store."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        allocator = making(store)
        assert await allocator.allocate(LabelSet.parse(["reserved:init"])) == 5
        assert await store.list("CiliumIdentity") == []
        await store.close()

    run(work)


def test_identity_in_use_comes_back(tmp_path: Path) -> None:
    """Deleted under an endpoint's feet, the object is made again with the same number."""

    async def work() -> None:
        async with Node(tmp_path) as node:
            number = await node.allocator.allocate(WEB)
            key = ObjectKey("CiliumIdentity", "", str(number))
            await until(lambda: node.allocator.table.get(number))
            await asyncio.sleep(0.1)
            await node.store.delete(key)
            for _ in range(200):
                with suppress(NotFoundError):
                    found = await node.store.get(key)
                    assert decode_identity(found).labels == WEB
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("the identity is gone")

    run(work)


def test_collection_takes_two_passes_and_spares_the_used(tmp_path: Path) -> None:
    """Unused is marked first and deleted only when still unused after the timeout."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        await store.create(encode_identity(300, WEB))
        await store.create(encode_identity(301, DB))
        now = datetime.now(UTC)
        first = await collect_identities(store, {301}, 60, now)
        assert (first.alive, first.marked, first.deleted) == (1, 1, 0)
        early = await collect_identities(store, {301}, 60, now + timedelta(seconds=30))
        assert early.deleted == 0
        late = await collect_identities(store, {301}, 60, now + timedelta(seconds=61))
        assert late.deleted == 1
        assert [o.key.name for o in await store.list("CiliumIdentity")] == ["301"]
        await store.close()

    run(work)


def test_identity_taken_up_during_the_deletion_stays(tmp_path: Path) -> None:
    """The operator has read the mark; before it deletes, an agent takes the number up."""

    async def work() -> None:
        async with Node(tmp_path) as node:
            number = await node.allocator.allocate(WEB)
            node.allocator.release(number)
            await collect_identities(node.store, (), 0)
            await until(lambda: number in node.maker._marked)
            delete = node.store.delete

            async def late(key: ObjectKey, version: str = "", *, graceful: bool = False) -> None:
                await node.allocator.allocate(WEB)
                await delete(key, version)

            node.store.delete = late  # type: ignore[method-assign]
            assert (await collect_identities(node.store, (), 0)).deleted == 0
            await node.store.get(ObjectKey("CiliumIdentity", "", str(number)))

    run(work)


def test_number_that_went_to_other_labels_is_lost(tmp_path: Path) -> None:
    """One number never stands for two label sets: who uses it is told, and asks anew."""

    async def work() -> None:
        async with Node(tmp_path) as node:
            number = await node.allocator.allocate(WEB)
            lost: set[int] = set()
            node.allocator.on_lost(lost.add)
            await node.store.delete(ObjectKey("CiliumIdentity", "", str(number)))
            await node.store.create(encode_identity(number, DB))
            await until(lambda: lost == {number})
            assert node.allocator.labels_of(number) == DB
            assert not node.allocator.stands_for(number, WEB)
            assert await node.allocator.allocate(WEB) != number

    run(work)


def test_store_that_fails_says_nothing_about_a_number(tmp_path: Path) -> None:
    """An outage is not a collision: no second number is tried, and none is made."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        await store.create(encode_identity(next(candidates(WEB)), WEB))
        get = store.get

        async def broken(key: ObjectKey) -> ClusterObject:
            raise StoreError("no answer")

        store.get = broken  # type: ignore[method-assign]
        allocator = making(store)
        with pytest.raises(StoreError):
            await allocator.allocate(WEB)
        store.get = get  # type: ignore[method-assign]
        assert await allocator.allocate(WEB) == next(candidates(WEB))
        assert len(await store.list("CiliumIdentity")) == 1
        await store.close()

    run(work)


def test_identity_is_let_go_by_its_last_user(tmp_path: Path) -> None:
    """Each user counts once; releasing more often than allocating does no harm."""

    async def work() -> None:
        async with Node(tmp_path) as node:
            number = await node.allocator.allocate(WEB)
            assert await node.allocator.allocate(WEB) == number
            node.allocator.release(number)
            assert node.allocator.in_use == {number}
            node.allocator.release(number)
            assert node.allocator.in_use == set()
            node.allocator.release(number)
            await node.allocator.allocate(WEB)
            assert node.allocator.in_use == {number}

    run(work)


def test_use_takes_the_mark_away(tmp_path: Path) -> None:
    """An agent that takes up a marked identity saves it from the second pass."""

    async def work() -> None:
        async with Node(tmp_path) as node:
            number = next(candidates(WEB))
            await node.store.create(encode_identity(number, WEB))
            await collect_identities(node.store, (), 0)
            await until(lambda: number in node.maker._marked)
            assert await node.allocator.allocate(WEB) == number
            found = await node.store.get(ObjectKey("CiliumIdentity", "", str(number)))
            assert UNUSED_ANNOTATION not in found.annotations

    run(work)


def test_local_identities_are_stable_and_counted(tmp_path: Path) -> None:
    """The same prefix has the same number after a restart; the last user frees it."""

    async def work() -> None:
        store = FolderStore(tmp_path)
        one = making(store)
        two = making(store)
        prefix, other = IPv4Network("10.1.0.0/16"), IPv6Network("2001:db8::/32")
        near, far = (cidr_labels(p, dual_stack=True) for p in (prefix, other))
        number = one.allocate_local(near)
        assert number > LOCAL_SCOPE
        assert two.allocate_local(far) != two.allocate_local(near) == number
        assert one.allocate_local(near) == number
        assert one.labels_of(number) == LabelSet.parse(
            ["cidr:10.1.0.0/16", "reserved:world", "reserved:world-ipv4"]
        )
        assert not one.release_local(number)
        assert one.release_local(number)
        assert one.table.get(number) is None
        await store.close()

    run(work)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("web", {"k8s:a": "b"}),
        ("5", {"k8s:a": "b"}),
        ("16777217", {"k8s:a": "b"}),
        ("300", {"reserved:host": ""}),
        ("300", {"cidr:0.0.0.0/0": ""}),
        ("300", {"nocolon": "x"}),
        ("300", {"k8s:a": 1}),
        ("300", []),
    ],
)
def test_hostile_identity_is_refused(name: str, labels: object) -> None:
    """Bad numbers, reserved sources and wrong types are refused by field, not taken."""
    obj = ClusterObject(
        ObjectKey("CiliumIdentity", "", name), "cilium.io/v2", body={"security-labels": labels}
    )
    with pytest.raises(InvalidObjectError):
        decode_identity(obj)
