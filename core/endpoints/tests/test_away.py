"""Endpoints of a node whose store is away: kept as they are, made if all is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from axoneme.core.endpoints.labels import PodLabeller
from axoneme.core.endpoints.pods import Namespace, Pod, pod_tables
from axoneme.core.endpoints.podsource import PodDirectory
from axoneme.core.endpoints.tests.test_manager import Bench, request
from axoneme.core.errors import NotReadyError, StoreError
from axoneme.core.identities.filter import LabelFilter
from axoneme.core.identities.objects import KIND, encode_identity
from axoneme.core.model.labels import LabelSet
from axoneme.core.model.objects import ObjectKey
from axoneme.core.state import TableRegistry
from axoneme.core.testing.outage import AwayStore


class Node(Bench):
    """One whose store can be away."""

    store: AwayStore

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store = AwayStore(folder / "store")
        self.again()


def run(folder: Path, work: Callable[[Node], Awaitable[None]]) -> None:
    """On a loop; repairs must not hold up the end."""

    async def main() -> None:
        node = Node(folder)
        async with asyncio.timeout(20):
            await work(node)
            await node.identities.close()
        node.manager.close()
        await node.store.close()

    asyncio.run(main())


def test_an_endpoint_keeps_its_identity_until_it_can_be_confirmed(tmp_path: Path) -> None:
    """Also one that nobody has heard of: the object that is gone is made again afterwards."""

    async def work(node: Node) -> None:
        made = await node.manager.add(request())
        key = ObjectKey(KIND, "", str(made.identity))
        await node.store.delete(key)
        node.manager.close()
        node.store.gone = True
        node.again()
        assert await node.manager.restore() == 1
        (row,) = node.manager.table.rows()
        assert (row.identity, row.ipv4, row.labels) == (made.identity, made.ipv4, made.labels)
        assert node.identities.in_use == {made.identity}
        assert node.identities.labels_of(made.identity) == made.labels
        node.store.gone = False
        while True:
            try:
                await node.store.get(key)
                break
            except Exception:
                await asyncio.sleep(0.05)

    run(tmp_path, work)


def test_an_identity_that_was_lost_meanwhile_is_told(tmp_path: Path) -> None:
    """Once the store is back: the number stands for other labels now."""

    async def work(node: Node) -> None:
        made = await node.manager.add(request())
        await node.store.delete(ObjectKey(KIND, "", str(made.identity)))
        other = LabelSet.parse(["k8s:app=other"])
        await node.store.create(encode_identity(made.identity, other))
        node.manager.close()
        node.store.gone = True
        node.again()
        lost: list[int] = []
        node.identities.on_lost(lost.append)
        await node.manager.restore()
        node.store.gone = False
        while not lost:
            await asyncio.sleep(0.05)
        assert lost[0] == made.identity

    run(tmp_path, work)


def test_a_pod_that_is_not_known_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, to be tried again; one that is known needs no store."""

    async def work(node: Node) -> None:
        pods, namespaces = pod_tables(TableRegistry())
        node.manager.parts.pods = PodDirectory(
            pods,
            namespaces,
            labeller=PodLabeller("c", LabelFilter.from_option()),
            relabel=lambda _, labels: labels,
            away=node.store.away,
        )
        monkeypatch.setattr(node.manager.parts.pods, "_wait", None)  # nobody waits
        namespaces.upsert(Namespace("shop"))
        pods.upsert(Pod("shop", "web", "u", "n1", labels=(("app", "web"),)))
        first = await node.manager.add(request())
        node.store.gone = True
        with pytest.raises(NotReadyError, match=r"pod shop/db .*not known.*cannot be reached"):
            await node.manager.add(request("db", "c2"))
        await node.manager.remove("c1:eth0")
        await node.manager.drain()
        again = await node.manager.add(request("web", "c3"))
        assert again.identity == first.identity
        pods.upsert(Pod("shop", "new", "v", "n1", labels=(("app", "new"),)))
        with pytest.raises(StoreError, match=r"no identity is known for .*cannot be reached"):
            await node.manager.add(request("new", "c4"))
        assert len(node.manager.table) == 1

    run(tmp_path, work)
